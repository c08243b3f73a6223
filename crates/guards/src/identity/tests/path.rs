//! What other guards do with an identity: limits by who is asking, the watch over failed logins, the access log.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::rehearsal::Lines;

/// The whole path under `rest` of a config, with the issuer of the tests.
fn path_with(rest: Value) -> (Path, Ground, Arc<Lines>) {
    let (ground, lines) = rehearsal::ground();
    let mut config: PathConfig = serde_json::from_value(rest).unwrap();
    let other = jwt::IssuerConfig { issuer: "https://other/".to_owned(), ..issuer() };
    config.identity.jwt = Some(jwt::Config { issuers: vec![issuer(), other], memory: None });
    let path = request_path(&config, &ground).unwrap();
    path.begins();
    (path, ground, lines)
}

fn bearer_of(claims: &Value) -> String {
    format!("Bearer {}", mint(claims, jwt::Algorithm::EdDsa))
}

/// Sends one request and finishes it; the code of the refusal, and the answer's fields.
fn send(path: &Path, address: &str, authorization: Option<&str>) -> (String, http::HeaderMap) {
    let ask = get("/x").from(address);
    let ask = authorization.into_iter().fold(ask, |ask, field| ask.with("authorization", field));
    let (mut exchange, refused) = run(path, ask);
    let head = refused.unwrap_or_else(|| {
        let mut head = rehearsal::answer(&[]);
        path.ascend(&mut exchange, &mut head);
        head
    });
    path.finish(&exchange, &rehearsal::outcome(head.status.as_u16()));
    let code =
        exchange.trail.refused().map_or(String::new(), |(step, code)| format!("{} {}", step.guard, code.entry().name));
    (code, head.headers)
}

#[test]
fn limits_by_user_tenant_plan_and_claim_count_who_was_checked() {
    let one = |by: &str| {
        let (path, ..) = path_with(json!({ "rate_limit": [{ "name": "one", "by": [by], "limit": "1/1h" }] }));
        move |address: &str, claims: Option<Value>| {
            let token = claims.as_ref().map(bearer_of);
            send(&path, address, token.as_deref()).0
        }
    };
    let limited = "rate_limit_by_identity ERR_RATE_LIMITED";
    for (by, claim, name) in
        [("user", "sub", "ada"), ("tenant", "tenant", "acme"), ("plan", "plan", "gold"), ("claim:org", "org", "x")]
    {
        let send = one(by);
        let told = with(claim, json!(name));
        assert_eq!(send("192.0.2.1", Some(told.clone())), "", "{by}");
        assert_eq!(send("192.0.2.2", Some(told)), limited, "{by}: another address is no way around");
        assert_eq!(send("192.0.2.1", Some(with(claim, json!("other")))), "", "{by}");
        let mut of_other = with(claim, json!(name));
        of_other["iss"] = json!("https://other/");
        assert_eq!(send("192.0.2.1", Some(of_other)), "", "{by}: the same word of another issuer is another one");
        assert_eq!(send("192.0.2.1", None), "", "{by}");
        assert_eq!(send("192.0.2.3", None), limited, "{by}: nobody shares one limit");
    }
}

#[test]
fn both_stages_are_told_and_nothing_is_later_than_the_refusals_retry_after() {
    let (path, ..) = path_with(json!({ "rate_limit": [
        { "name": "wide", "by": ["address"], "limit": "100/1h" },
        { "name": "own", "by": ["user"], "limit": "2/10s" },
    ] }));
    let token = bearer_of(&claims());
    let (code, fields) = send(&path, "192.0.2.1", Some(&token));
    assert_eq!(code, "");
    assert_eq!(values(&fields, "ratelimit-policy"), ["\"own\";q=2;w=10", "\"wide\";q=100;w=3600"]);
    assert_eq!(values(&fields, "ratelimit"), ["\"own\";r=1;t=5", "\"wide\";r=99;t=36"]);
    assert_eq!(values(&fields, "x-ratelimit-remaining"), ["1"], "the nearest of both stages");
    send(&path, "192.0.2.1", Some(&token));
    let (code, fields) = send(&path, "192.0.2.1", Some(&token));
    assert_eq!(code, "rate_limit_by_identity ERR_RATE_LIMITED");
    assert_eq!(values(&fields, "retry-after"), ["5"]);
    assert_eq!(values(&fields, "ratelimit"), ["\"own\";r=0;t=5", "\"wide\";r=97"]);
}

#[test]
fn limits_by_identity_need_one() {
    let (ground, _) = rehearsal::ground();
    let config = serde_json::from_value(json!({ "rate_limit": [{ "name": "a", "by": ["plan"], "limit": "1/1s" }] }));
    let found = request_path(&config.unwrap(), &ground).err().unwrap();
    assert_eq!(found.iter().map(|mistake| mistake.path.as_str()).collect::<Vec<_>>(), ["rate_limit[0].by[0]"]);
}

#[test]
fn forged_tokens_count_as_failed_logins_and_expired_or_absent_ones_do_not() {
    let watched = || path_with(json!({ "ip_block": { "login_watch": { "failures": 3 } }, "rate_limit": [] }));
    let invalid = |number: u64| bearer_of(&json!({ "iss": "https://nobody/", "exp": NOW + number }));
    let expired = |number: u64| bearer_of(&with("exp", json!(NOW - 1000 - number)));
    let (path, ..) = watched();
    for number in 0..3 {
        assert_eq!(send(&path, "192.0.2.1", Some(&invalid(number))).0, "identity ERR_TOKEN_INVALID");
    }
    assert_eq!(send(&path, "192.0.2.1", Some(&invalid(9))).0, "ip_block ERR_ADDRESS_BLOCKED");
    assert_eq!(send(&path, "192.0.2.2", Some(&invalid(9))).0, "identity ERR_TOKEN_INVALID", "others are not banned");
    let (path, ..) = watched();
    for number in 0..10 {
        assert_eq!(send(&path, "192.0.2.1", Some(&expired(number))).0, "identity ERR_TOKEN_EXPIRED");
        assert_eq!(send(&path, "192.0.2.1", None).0, "");
        // One client that keeps sending one broken token does not guess.
        assert_eq!(send(&path, "192.0.2.1", Some("Bearer a.b.c")).0, "identity ERR_TOKEN_INVALID");
    }
    assert_eq!(send(&path, "192.0.2.1", Some(&bearer_of(&claims()))).0, "");
}

#[test]
fn the_access_log_names_user_and_tenant_and_never_the_token() {
    let (path, _, lines) = path_with(json!({}));
    let mut told = with("sub", json!("ada\"\n{}"));
    told["tenant"] = json!("t".repeat(128));
    let token = bearer_of(&told);
    send(&path, "192.0.2.1", Some(&token));
    let line = String::from_utf8(lines.take().remove(0)).unwrap();
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&read["user"], &read["tenant"]), (&json!("ada\"\n{}"), &json!("t".repeat(128))));
    assert!(!line.contains(&token[token.len() - 20..]));
    send(&path, "192.0.2.1", None);
    assert!(!String::from_utf8(lines.take().remove(0)).unwrap().contains("user\":"));
}
