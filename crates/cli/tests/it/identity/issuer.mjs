// A real issuer (npm `oidc-provider`) for the tests: client credentials, access tokens as JWT for the audience `api`.
// `node issuer.mjs PORT MODULES`; POST /rotate adds a key and signs with it from then on, POST /retire drops all others.
import http from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [port, modules] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${modules}/oidc-provider/lib/index.js`));

let made = 0;
const key = () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${++made}`, use: 'sig', alg: 'ES256' };
};
let keys = [key()];
let answer;
const issuer = `http://127.0.0.1:${port}`;
const renew = () => {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'service', client_secret: 'secret', grant_types: ['client_credentials'], response_types: [], redirect_uris: [],
      id_token_signed_response_alg: 'ES256',
    }],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'urn:api',
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'read', audience: 'api', accessTokenTTL: 600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
  answer = provider.callback();
};
renew();
http.createServer((request, response) => {
  if (request.url === '/rotate' || request.url === '/retire') {
    keys = request.url === '/rotate' ? [key(), ...keys] : keys.slice(0, 1);
    renew();
    response.end('done');
  } else {
    answer(request, response);
  }
}).listen(Number(port), '127.0.0.1');
