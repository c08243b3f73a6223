// Mints a token with npm `jose`. `node mint.mjs MODULES ALG KID KEYFILE CLAIMS`; KEYFILE is PKCS#8 PEM, or a secret for HS*.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [modules, alg, kid, file, claims] = process.argv.slice(2);
const jose = await import(pathToFileURL(`${modules}/jose/dist/node/esm/index.js`));
const text = readFileSync(file, 'utf8');
const key = alg.startsWith('HS') ? new TextEncoder().encode(text) : await jose.importPKCS8(text, alg);
console.log(await new jose.SignJWT(JSON.parse(claims)).setProtectedHeader({ alg, kid, typ: 'JWT' }).sign(key));
