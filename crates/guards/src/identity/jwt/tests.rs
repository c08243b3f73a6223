//! Tokens: every rule by a table, the published vectors, and what no mutation may get through.

mod attacks;
mod fetched;
pub(crate) mod keys;
mod vectors;
mod withdrawn;

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use portcullis_core::identity::Identity;
use portcullis_core::metric::Registry;
use serde_json::{Value, json};

use super::config::{Algorithm, ClaimsConfig, Config, IssuerConfig, JwksConfig};
use super::*;
use crate::identity::metrics::Counts;

/// The second at which rehearsed requests begin: 2026-01-01T10:00:00Z.
pub(crate) const NOW: u64 = 1_767_261_600;
pub(crate) const ISSUER: &str = "https://id.example/";
pub(crate) const SECRET: &str = "a secret of tests that has more than sixty-four bytes, for HS512 too";

/// A key set with all keys of the tests.
fn key_set() -> Value {
    json!({ "keys": [
        { "kty": "RSA", "kid": "rsa", "n": keys::RSA_N, "e": "AQAB" },
        { "kty": "EC", "kid": "p256", "crv": "P-256", "x": keys::P256_X, "y": keys::P256_Y },
        { "kty": "EC", "kid": "p384", "crv": "P-384", "x": keys::P384_X, "y": keys::P384_Y },
        { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": keys::ED25519_X },
    ] })
}

/// A file with this key set, in a folder of its own that is never removed before the tests end.
fn file_of(set: &Value) -> std::path::PathBuf {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("portcullis-jwks-{}-{number}.json", std::process::id()));
    std::fs::write(&path, set.to_string()).unwrap();
    path
}

/// An issuer with the public keys of the tests.
pub(crate) fn issuer() -> IssuerConfig {
    IssuerConfig {
        issuer: ISSUER.to_owned(),
        audience: vec!["api".to_owned()],
        algorithms: Algorithm::ALL.into_iter().filter(|algorithm| algorithm.secret_bytes().is_none()).collect(),
        jwks: Some(JwksConfig { file: Some(file_of(&key_set())), ..JwksConfig::default() }),
        claims: ClaimsConfig { tenant: Some("tenant".to_owned()), plan: Some("plan".to_owned()), ..Default::default() },
        ..IssuerConfig::default()
    }
}

/// A source that knows these issuers.
fn source_of(issuers: Vec<IssuerConfig>) -> JwtSource {
    source_on(&Arc::default(), issuers)
}

fn source_on(tokens: &Arc<Tokens>, issuers: Vec<IssuerConfig>) -> JwtSource {
    let config = Config { issuers, memory: None };
    let counts = Arc::new(Counts::new(&Registry::new("p")));
    let source = JwtSource::new(&config, Path::new(""), &["org.id".to_owned()], tokens, &counts).unwrap();
    source.begins();
    source
}

/// Claims that the issuer of the tests may make.
pub(crate) fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "ada", "aud": "api", "exp": NOW + 300, "iat": NOW - 10 })
}

/// `claims` with one more or changed.
pub(crate) fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// Which key of the tests signs by an algorithm, and under which `kid`.
fn signer(algorithm: Algorithm) -> (EncodingKey, &'static str) {
    let der = |text: &str| STANDARD.decode(text).unwrap();
    match algorithm {
        Algorithm::ES256 => (EncodingKey::from_ec_der(&der(keys::P256)), "p256"),
        Algorithm::ES384 => (EncodingKey::from_ec_der(&der(keys::P384)), "p384"),
        Algorithm::EdDsa => (EncodingKey::from_ed_der(&der(keys::ED25519)), "ed"),
        _ if algorithm.secret_bytes().is_some() => (EncodingKey::from_secret(SECRET.as_bytes()), ""),
        _ => (EncodingKey::from_rsa_der(&der(keys::RSA)), "rsa"),
    }
}

/// A token of these parts as texts, signed.
fn sign(header: &str, payload: &str, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &signer(algorithm).0, super::keys::bought(algorithm)).unwrap();
    format!("{message}.{signature}")
}

/// A token with these claims.
pub(crate) fn mint(claims: &Value, algorithm: Algorithm) -> String {
    let header = match signer(algorithm).1 {
        "" => json!({ "alg": algorithm.name(), "typ": "JWT" }),
        kid => json!({ "alg": algorithm.name(), "typ": "JWT", "kid": kid }),
    };
    sign(&header.to_string(), &claims.to_string(), algorithm)
}

/// What a source says about a token at a second.
fn ask(source: &JwtSource, token: &str, now: u64) -> Result<Arc<Identity>, (Code, &'static str)> {
    let mut exchange = crate::rehearsal::get("/").begin();
    exchange.now.unix_millis = now * 1000;
    match source.look(&exchange, Some(token)) {
        Found::Known(identity) => Ok(identity),
        Found::Refused(code, rule) => Err((code, rule)),
        _ => panic!("a token is good or bad"),
    }
}

fn rule(source: &JwtSource, token: &str) -> &'static str {
    match ask(source, token, NOW) {
        Ok(_) => "good",
        Err((Code::TokenExpired, _)) => "expired",
        Err((_, rule)) => rule,
    }
}

#[test]
fn every_algorithm_is_checked_and_only_where_it_is_allowed() {
    let public = source_of(vec![issuer()]);
    let secret = |algorithms| IssuerConfig { algorithms, jwks: None, secret: Some(SECRET.into()), ..issuer() };
    let symmetric = source_of(vec![secret(vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512])]);
    for algorithm in Algorithm::ALL {
        let token = mint(&claims(), algorithm);
        let is_secret = algorithm.secret_bytes().is_some();
        let (own, other) = if is_secret { (&symmetric, &public) } else { (&public, &symmetric) };
        assert_eq!(rule(own, &token), "good", "{algorithm:?}");
        assert_eq!(rule(other, &token), "algorithm", "{algorithm:?}");
        // An issuer that signs by another algorithm of the same key does not sign by this one.
        let others: Vec<Algorithm> = Algorithm::ALL
            .into_iter()
            .filter(|other| *other != algorithm && other.secret_bytes().is_some() == is_secret)
            .collect();
        let config = if is_secret { secret(others) } else { IssuerConfig { algorithms: others, ..issuer() } };
        assert_eq!(rule(&source_of(vec![config]), &token), "algorithm", "{algorithm:?}");
    }
}

#[test]
fn claims_mean_what_the_config_says() {
    let mapped = IssuerConfig {
        claims: ClaimsConfig {
            user: Some("profile.id".to_owned()),
            tenant: Some("https://example.com/tenant".to_owned()),
            roles: Some("realm_access.roles".to_owned()),
            plan: Some("plan".to_owned()),
            scopes: Some("scp".to_owned()),
        },
        ..issuer()
    };
    let mut told = claims();
    told["profile"] = json!({ "id": 42 });
    told["https://example.com/tenant"] = json!("acme");
    told["realm_access"] = json!({ "roles": ["editor", "a,b"] });
    told["plan"] = json!("gold");
    told["scp"] = json!(["read", "write"]);
    told["org"] = json!({ "id": 7 });
    told["jti"] = json!("token-1");
    let identity = ask(&source_of(vec![mapped]), &mint(&told, Algorithm::ES256), NOW).unwrap();
    assert_eq!((identity.user(), identity.issuer(), identity.tenant()), ("42", ISSUER, Some("acme")));
    assert_eq!(identity.roles(), ["editor", "a,b"]);
    assert_eq!(identity.scopes(), ["read", "write"]);
    assert_eq!((identity.plan(), identity.claim("org.id"), identity.claim("x")), (Some("gold"), Some("7"), None));
    assert_eq!(identity.credential(), Some("token-1"));
    assert_eq!(identity.expires_unix_millis(), Some((NOW + 330) * 1000));
    let plain = with("scope", json!("read  write"));
    let identity = ask(&source_of(vec![issuer()]), &mint(&plain, Algorithm::ES256), NOW).unwrap();
    assert_eq!((identity.user(), identity.scopes().len(), identity.roles().len()), ("ada", 2, 0));
}

#[test]
fn rows_71_72_73_and_84_claims_that_are_not_as_they_must_be() {
    let strict = IssuerConfig { required_claims: vec!["org.id".to_owned()], ..issuer() };
    let (source, strict) = (source_of(vec![issuer()]), source_of(vec![strict]));
    let good = with("roles", json!(["*"]));
    let identity = ask(&source, &mint(&good, Algorithm::ES256), NOW).unwrap();
    assert_eq!(identity.roles(), ["*"], "a star is a name like any other");
    let years = 10 * 365 * 86_400;
    for (claims, expected) in [
        (with("exp", json!(NOW + 300)), "good"),
        (with("nbf", json!(NOW)), "good"),
        (without("iat"), "good"),
        (with("aud", json!(["web", "api"])), "good"),
        // Times of other types are no times, and never "not there".
        (with("nbf", json!("9999")), "time"),
        (with("nbf", Value::Null), "time"),
        (with("exp", json!((NOW + 300).to_string())), "time"),
        (with("exp", json!(NOW as f64 + 300.5)), "time"),
        (with("exp", json!(-1)), "time"),
        (with("exp", json!(1u64 << 63)), "time"),
        (with("exp", json!([NOW + 300])), "time"),
        (with("exp", Value::Null), "time"),
        (with("iat", json!("0")), "time"),
        (with("iat", json!(true)), "time"),
        (with("iat", json!({})), "time"),
        (without("exp"), "no_expiry"),
        // Thirty seconds of leeway, and not one more.
        (with("exp", json!(NOW - 29)), "good"),
        (with("exp", json!(NOW - 30)), "expired"),
        (with("nbf", json!(NOW + 30)), "good"),
        (with("nbf", json!(NOW + 31)), "not_yet"),
        (with("iat", json!(NOW + 30)), "good"),
        (with("iat", json!(NOW + 31)), "issued_later"),
        (with("iat", json!(4_070_908_800u64)), "issued_later"),
        (with("exp", json!(NOW + years)), "lifetime"),
        // Who issued it, and for whom.
        (with("iss", json!("https://id.example")), "issuer"),
        (with("iss", json!([ISSUER])), "issuer"),
        (without("iss"), "issuer"),
        (without("aud"), "audience"),
        (with("aud", json!("ap")), "audience"),
        (with("aud", json!("api2")), "audience"),
        (with("aud", json!(["web"])), "audience"),
        (with("aud", json!(["api", 1])), "audience"),
        (with("aud", json!({ "api": true })), "audience"),
        // What is used has the type that it must have.
        (without("sub"), "claim_type"),
        (with("sub", json!(["ada"])), "claim_type"),
        (with("sub", json!(1.5)), "claim_type"),
        (with("sub", json!("")), "claim_bounds"),
        (with("sub", json!("x".repeat(257))), "claim_bounds"),
        (with("jti", json!(1)), "claim_type"),
        (with("tenant", json!(1)), "claim_type"),
        (with("tenant", json!("")), "claim_bounds"),
        (with("plan", json!([])), "claim_type"),
        (with("roles", json!({ "admin": true })), "claim_type"),
        (with("roles", json!([1])), "claim_type"),
        (with("roles", json!(vec!["r"; 65])), "claim_bounds"),
        (with("scope", json!(1)), "claim_type"),
    ] {
        assert_eq!(rule(&source, &mint(&claims, Algorithm::ES256)), expected, "{claims}");
    }
    for (org, expected) in
        [(json!({ "id": 1 }), "good"), (json!({}), "required_claim"), (json!({ "id": null }), "required_claim")]
    {
        assert_eq!(rule(&strict, &mint(&with("org", org), Algorithm::ES256)), expected);
    }
}

#[test]
fn an_issuer_speaks_for_itself_alone() {
    // Two issuers with the same keys: the claims choose the issuer, and each has its own rules.
    let other = IssuerConfig { issuer: "https://other/".to_owned(), audience: vec!["web".to_owned()], ..issuer() };
    let source = source_of(vec![issuer(), other]);
    assert_eq!(rule(&source, &mint(&with("iss", json!("https://other/")), Algorithm::ES256)), "audience");
    assert_eq!(rule(&source, &mint(&with("aud", json!("web")), Algorithm::ES256)), "audience");
    let mut told = with("iss", json!("https://other/"));
    told["aud"] = json!("web");
    let other = ask(&source, &mint(&told, Algorithm::ES256), NOW).unwrap();
    let own = ask(&source, &mint(&claims(), Algorithm::ES256), NOW).unwrap();
    assert!(!own.is_same_person(&other), "the same sub of two issuers is two people");
}

#[test]
fn a_remembered_token_is_still_held_against_time_and_key_and_issuer() {
    let tokens = Arc::default();
    let source = source_on(&tokens, vec![issuer()]);
    let token = mint(&with("nbf", json!(NOW - 100)), Algorithm::ES256);
    let first = ask(&source, &token, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &ask(&source, &token, NOW + 1).unwrap()), "it was not remembered");
    assert_eq!(tokens.remembered.weight().0, 1);
    // A clock that is stepped back or on is believed each time.
    assert_eq!(ask(&source, &token, NOW - 200).unwrap_err().1, "not_yet");
    let first = ask(&source, &token, NOW).unwrap();
    assert_eq!(ask(&source, &token, NOW + 330).unwrap_err().0, Code::TokenExpired);
    assert_eq!(tokens.remembered.weight().0, 0, "what is over is not kept");
    // A reload that changes nothing forgets nothing, though the file was read again.
    ask(&source, &token, NOW).unwrap();
    let kept = ask(&source, &token, NOW).unwrap();
    let reloaded = JwtSource::new(
        &Config { issuers: source.issuers.iter().map(|issuer| issuer.config.clone()).collect(), memory: None },
        Path::new(""),
        &["org.id".to_owned()],
        &tokens,
        &source.counts,
    )
    .unwrap();
    reloaded.begins();
    assert!(Arc::ptr_eq(&kept, &ask(&reloaded, &token, NOW).unwrap()));
    assert!(!Arc::ptr_eq(&first, &kept));
    // A key that left the set takes with it what it had signed, and only that.
    let rsa = mint(&claims(), Algorithm::RS256);
    let by_rsa = ask(&reloaded, &rsa, NOW).unwrap();
    let file = reloaded.issuers[0].config.jwks.as_ref().unwrap().file.clone().unwrap();
    let mut set = key_set();
    set["keys"].as_array_mut().unwrap().remove(1);
    std::fs::write(file, set.to_string()).unwrap();
    let config = Config { issuers: vec![reloaded.issuers[0].config.clone()], memory: None };
    let rotated = JwtSource::new(&config, Path::new(""), &["org.id".to_owned()], &tokens, &source.counts).unwrap();
    assert!(ask(&reloaded, &token, NOW).is_ok(), "a config that did not begin changes nothing");
    rotated.begins();
    assert_eq!(ask(&rotated, &token, NOW).unwrap_err().1, "unknown_key");
    assert!(Arc::ptr_eq(&by_rsa, &ask(&rotated, &rsa, NOW).unwrap()));
    // An issuer whose rules changed is another issuer: what the old one accepted is checked anew.
    let stricter = IssuerConfig { audience: vec!["web".to_owned()], ..config.issuers[0].clone() };
    assert_eq!(ask(&source_on(&tokens, vec![stricter]), &rsa, NOW).unwrap_err().1, "audience");
}

#[test]
fn what_is_remembered_is_bounded_in_bytes() {
    let tokens = Arc::new(Tokens::default());
    let config = Config { issuers: vec![issuer()], memory: Some(portcullis_core::units::ByteSize::from_kib(64)) };
    let counts = Arc::new(Counts::new(&Registry::new("p")));
    let source = JwtSource::new(&config, Path::new(""), &[], &tokens, &counts).unwrap();
    source.begins();
    for number in 0..300 {
        let token = mint(&with("sub", json!(format!("{number}{}", "x".repeat(200)))), Algorithm::EdDsa);
        assert_eq!(rule(&source, &token), "good");
        assert!(tokens.remembered.weight().1 <= 64 << 10);
    }
    assert!((10..200).contains(&tokens.remembered.weight().0), "{:?}", tokens.remembered.weight());
}

#[test]
fn a_dry_run_remembers_nothing() {
    let tokens = Arc::default();
    let source = source_on(&tokens, vec![issuer()]);
    let exchange = crate::rehearsal::get("/").dry().begin();
    assert!(matches!(source.look(&exchange, Some(&mint(&claims(), Algorithm::ES256))), Found::Known(_)));
    assert_eq!((tokens.remembered.weight().0, source.counts.verified.get()), (0, 0));
}
