//! Tokens minted by three libraries that share no code: `jose` (Node), PyJWT (Python) and golang-jwt (Go), in every algorithm.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_testkit::client::ask;
use portcullis_testkit::gate::{Folder, Gate, ON_FREE_PORTS};
use serde_json::json;

use crate::services::{client, tools};
use crate::{BINARY, misbehaving};

/// Algorithm, and the file of its key.
const ALGORITHMS: [(&str, &str); 12] = [
    ("RS256", "rsa"),
    ("RS384", "rsa"),
    ("RS512", "rsa"),
    ("PS256", "rsa"),
    ("PS384", "rsa"),
    ("PS512", "rsa"),
    ("ES256", "p256"),
    ("ES384", "p384"),
    ("EdDSA", "ed"),
    ("HS256", "secret"),
    ("HS384", "secret"),
    ("HS512", "secret"),
];

/// Keys by openssl, and the set of their public halves.
fn keys(folder: &Path) {
    let key = |name: &str, words: &[&str]| {
        let file = folder.join(name);
        client("openssl", &[&["genpkey", "-out", &file.to_string_lossy(), "-quiet"], words].concat());
    };
    key("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    key("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    key("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    key("ed", &["-algorithm", "ED25519"]);
    let secret = "a secret of tests that has more than sixty-four bytes, for HS512 too";
    std::fs::write(folder.join("secret"), secret).expect("written");
    let script = "const {createPublicKey}=require('crypto'),fs=require('fs'),d=process.argv[1];\
        console.log(JSON.stringify({keys:['rsa','p256','p384','ed'].map(k=>\
        ({...createPublicKey(fs.readFileSync(d+'/'+k)).export({format:'jwk'}),kid:k}))}))";
    let set = client("node", &["-e", script, &folder.to_string_lossy()]);
    std::fs::write(folder.join("jwks.json"), set).expect("written");
}

fn by_jose(algorithm: &str, kid: &str, key: &str, claims: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/identity/mint.mjs");
    let modules = tools().join("node/node_modules");
    client("node", &[&script.to_string_lossy(), &modules.to_string_lossy(), algorithm, kid, key, claims])
}

fn by_pyjwt(algorithm: &str, kid: &str, key: &str, claims: &str) -> String {
    let script = "import sys, json, jwt\nalgorithm, kid, key, claims = sys.argv[1:]\n\
        print(jwt.encode(json.loads(claims), open(key).read(), algorithm, headers={'kid': kid}))";
    let python = tools().join("python/bin/python");
    client(&python.to_string_lossy(), &["-c", script, algorithm, kid, key, claims])
}

fn by_golang_jwt(algorithm: &str, kid: &str, key: &str, claims: &str) -> String {
    let program: PathBuf = tools().join("go/jwt");
    let mut child = Command::new(&program)
        .args(["-alg", algorithm, "-key", key, "-header", &format!("kid={kid}"), "-sign", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} (run `cargo xtask setup`): {error}", program.display()));
    child.stdin.take().expect("piped").write_all(claims.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "golang-jwt {algorithm}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn tokens_of_three_independent_libraries_in_every_algorithm() {
    let folder = Folder::new();
    keys(folder.path());
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let upstream = misbehaving::start();
    let config = format!(
        "{ON_FREE_PORTS}upstreams: {{ app: {{ url: \"http://{}\" }} }}
rate_limit: []
preset: development
identity:
  required: true
  jwt:
    issuers:
      - {{ issuer: public, audience: [api], algorithms: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA], jwks: {{ file: {} }} }}
      - {{ issuer: secret, audience: [api], algorithms: [HS256, HS384, HS512], secret: \"${{file:{}}}\" }}
",
        upstream.address,
        path("jwks.json"),
        path("secret"),
    );
    let gate = Gate::start_in(BINARY, Folder::new(), &config);
    let status = |token: &str| {
        let token = token.trim();
        let head = format!("GET /ok HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
        ask(gate.data, &head).text()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut minted = 0;
    for (name, mint) in
        [("jose", by_jose as fn(&str, &str, &str, &str) -> String), ("PyJWT", by_pyjwt), ("golang-jwt", by_golang_jwt)]
    {
        for (algorithm, key) in ALGORITHMS {
            let issuer = if key == "secret" { "secret" } else { "public" };
            let claims = json!({ "iss": issuer, "aud": "api", "sub": "ada", "exp": now + 300, "iat": now });
            let token = mint(algorithm, key, &path(key), &claims.to_string());
            let heard = status(&token);
            assert!(!heard.contains("ERR_"), "{name} {algorithm}: {heard}\n{token}");
            // The same with another ending is forged.
            let (message, signature) = token.trim().rsplit_once('.').expect("three parts");
            let turned: String = signature.chars().rev().collect();
            assert!(status(&format!("{message}.{turned}")).contains("ERR_TOKEN_INVALID"), "{name} {algorithm}");
            // And with the name of the other issuer it has no key.
            let other = if issuer == "secret" { "public" } else { "secret" };
            let claims = json!({ "iss": other, "aud": "api", "sub": "ada", "exp": now + 300, "iat": now });
            let confused = mint(algorithm, key, &path(key), &claims.to_string());
            assert!(status(&confused).contains("ERR_TOKEN_INVALID"), "{name} {algorithm}");
            minted += 1;
        }
    }
    assert_eq!(minted, 36);
}
