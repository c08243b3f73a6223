//! JSON Web Tokens: whatever stands in one, only what is signed, meant for us, and in time names somebody, and names whom it says.
//!
//! The first byte chooses: a token of the fuzzer's own (which cannot be signed), or claims of its own that are signed here.
//! What was accepted is read again by a JSON reader that shares nothing with the guard's.
//!
//! Invariant: the secret is known to this file only, so an accepted token was signed here.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION, header::HOST};
use portcullis_guards::config::PathConfig;
use portcullis_guards::path::{Descent, Path};
use portcullis_guards::{client_address, identity, route};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{NOW, exchange, standing};

const SECRET: &str = "a secret of thirty-two bytes, 012";
const ISSUER: &str = "https://issuer.test/";
const LEEWAY_SECONDS: i128 = 30;

static PATH: LazyLock<Path> = LazyLock::new(|| {
    let config: PathConfig = serde_json::from_value(json!({
        "identity": { "required": true, "jwt": { "issuers": [
            { "issuer": ISSUER, "audience": ["us"], "algorithms": ["HS256"], "secret": SECRET, "leeway": "30s" }
        ] } },
        "routes": [{ "name": "all", "match": { "path": "/**" }, "upstream": "app" }],
    }))
    .expect("a config that is written here");
    let standing = standing();
    let ground = standing.ground();
    let built = Path::builder()
        .add(client_address::build(&config, ground).expect("valid"))
        .add(route::build(&config, ground).expect("valid"))
        .add(identity::build(&config, ground).expect("valid"))
        .build();
    built.unwrap_or_else(|broken| panic!("{broken}"))
});

/// Any bytes as a token, or as the claims of one.
pub fn check(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (token, claims) = match first % 3 {
        0 => (rest.to_vec(), None),
        1 => (signed(br#"{"alg":"HS256","typ":"JWT"}"#, rest), Some(rest)),
        // A header of its own too, up to the first line's end.
        _ => {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let claims = rest.get(end + 1..).unwrap_or_default();
            (signed(&rest[..end], claims), Some(claims))
        }
    };
    let Ok(field) = HeaderValue::from_bytes(&[b"Bearer ", token.as_slice()].concat()) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("a"));
    headers.insert(AUTHORIZATION, field);
    let mut exchange = exchange(([203, 0, 113, 9], 1).into(), headers);
    let is_through = matches!(PATH.descend(&mut exchange), Descent::Through);
    assert_eq!(is_through, exchange.identity.is_some(), "who is let in is known");
    let Some(who) = &exchange.identity else { return };
    let claims = claims.expect("a token that was not signed here named somebody");
    let said: Value = serde_json::from_slice(claims).expect("claims that are JSON");
    let now = i128::from(NOW.unix_millis / 1000);
    let time = |name: &str| said.get(name).map(|time| i128::from(time.as_i64().expect("a whole number")));
    assert_eq!(said["iss"], ISSUER);
    let is_for_us = said["aud"] == "us" || said["aud"].as_array().is_some_and(|all| all.contains(&json!("us")));
    assert!(is_for_us, "{said}");
    assert!(time("exp").expect("an end") > now - LEEWAY_SECONDS, "{said}");
    assert!(time("nbf").is_none_or(|begin| begin <= now + LEEWAY_SECONDS), "{said}");
    assert!(time("iat").is_none_or(|issued| issued <= now + LEEWAY_SECONDS), "{said}");
    let user = match &said["sub"] {
        Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    assert_eq!(who.user(), user);
    assert!(!user.is_empty());
}

fn signed(header: &[u8], claims: &[u8]) -> Vec<u8> {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut signer = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length of key");
    signer.update(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signer.finalize().into_bytes())).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn the_seed_is_let_in() {
        let seed = br#"a{"iss":"https://issuer.test/","aud":"us","sub":"x","exp":1767265200,"iat":1767261600}"#;
        let mut with_mode = seed.to_vec();
        with_mode[0] = 1;
        check(&with_mode);
        assert!(super::PATH.names().any(|name| name == "identity"));
    }
}
