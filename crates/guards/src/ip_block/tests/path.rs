//! The guard on a real path, below the guard that finds the client.

use std::sync::Arc;

use portcullis_core::refusal::Code;

use super::*;
use crate::path::{Descent, Path};
use crate::rehearsal::{Ask, NOW, get, ground, values};
use crate::request_path::Ground;
use crate::{client_address, ip_block};

fn path(value: Value, ground: &Ground) -> Path {
    let config = config(value);
    let path = Path::builder()
        .add(client_address::build(&config, ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
        .add(ip_block::build(&config, ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
        .build()
        .unwrap();
    path.begins();
    path
}

/// Status, `Retry-After`, and the rule in the trail.
fn answer(path: &Path, ask: Ask) -> (u16, Option<String>, String) {
    let mut exchange = ask.begin();
    let refused = match path.descend(&mut exchange) {
        Descent::Through => None,
        Descent::Refused(refusal) => Some(refusal),
        Descent::Waiting(_) => panic!("nobody waits here"),
    };
    let rule = exchange.trail.steps().last().unwrap().rule.text().to_owned();
    let Some(refusal) = refused else { return (200, None, rule) };
    assert_eq!(refusal.code, Code::AddressBlocked);
    let (head, body) = path.refuse(&mut exchange, "ip_block", refusal);
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("ERR_ADDRESS_BLOCKED") && !body.contains("deny") && !body.contains("secret"), "{body}");
    (head.status.as_u16(), values(&head.headers, "retry-after").pop(), rule)
}

#[test]
fn a_denied_and_a_banned_address_hear_403_and_only_a_ban_with_an_end_says_when() {
    let (ground, _) = ground();
    let path = path(json!({ "ip_block": { "deny": ["198.51.100.0/24"], "allow": ["203.0.113.200"] } }), &ground);
    let secret = |network: &str, time| Order { reason: "secret".to_owned(), ..order(network, Origin::Operator, time) };
    ground.bans.add(secret("203.0.113.9", Some(HOUR)), &NOW).unwrap();
    ground.bans.add(secret("203.0.113.128/25", None), &NOW).unwrap();
    for (from, status, retry_after, rule) in [
        ("198.51.100.7", 403, None, "deny"),
        ("203.0.113.9", 403, Some("3600"), "ban"),
        ("::ffff:203.0.113.9", 403, Some("3600"), "ban"),
        ("203.0.113.129", 403, None, "ban"),
        ("203.0.113.200", 200, None, "allow"),
        ("203.0.113.10", 200, None, ""),
    ] {
        assert_eq!(
            answer(&path, get("/").from(from)),
            (status, retry_after.map(str::to_owned), rule.to_owned()),
            "{from}"
        );
    }
    let text = ground.metrics.render();
    for line in
        ["ip_blocks_active{} 2", "ip_block_refusals_total{rule=\"ban\"} 3", "ip_block_refusals_total{rule=\"deny\"} 1"]
    {
        assert!(text.contains(line), "no {line} in {text}");
    }
}

/// Row 44: who is not a trusted proxy cannot make others look banned, nor itself look like others.
#[test]
fn row_44_a_forged_chain_neither_frees_the_banned_nor_blocks_the_innocent() {
    let (ground, _) = ground();
    let path = path(json!({ "trusted_proxies": ["10.0.0.1"] }), &ground);
    ground.bans.add(by_watch("203.0.113.9"), &NOW).unwrap();
    let status = |ask: Ask| answer(&path, ask).0;
    assert_eq!(status(get("/").from("203.0.113.9").with("X-Forwarded-For", "192.0.2.1")), 403);
    assert_eq!(status(get("/").from("192.0.2.1").with("X-Forwarded-For", "203.0.113.9")), 200);
    assert_eq!(status(get("/").from("10.0.0.1").with("X-Forwarded-For", "203.0.113.9")), 403);
    assert_eq!(status(get("/").from("10.0.0.1").with("X-Forwarded-For", "203.0.113.9, 192.0.2.1")), 200);
}

#[test]
fn a_dry_run_says_the_same_with_its_rule_and_counts_nothing() {
    let (ground, _) = ground();
    let path = path(json!({ "ip_block": { "deny": ["198.51.100.0/24"] } }), &ground);
    ground.bans.add(by_watch("203.0.113.9"), &NOW).unwrap();
    for (from, detail) in [
        ("198.51.100.7", "the deny list has 198.51.100.0 to 198.51.100.255"),
        ("203.0.113.9", "203.0.113.9 is banned for 3600 s more by login_watch: test"),
    ] {
        let mut exchange = get("/").from(from).dry().begin();
        assert!(matches!(path.descend(&mut exchange), Descent::Refused(_)));
        assert_eq!(exchange.trail.steps().last().unwrap().detail.as_deref(), Some(detail));
    }
    assert!(ground.metrics.render().contains("ip_block_refusals_total{rule=\"ban\"} 0"));
}

/// A ban that was placed before its network's proxy became trusted does not hold for the proxy.
#[test]
fn a_proxy_that_becomes_trusted_is_let_in_at_once() {
    let (ground, _) = ground();
    let before = path(json!({}), &ground);
    ground.bans.add(by_watch("10.0.0.1"), &NOW).unwrap();
    assert_eq!(answer(&before, get("/").from("10.0.0.1")).0, 403);
    let after = path(json!({ "trusted_proxies": ["10.0.0.1"] }), &ground);
    assert_eq!(answer(&after, get("/").from("10.0.0.1")), (200, None, "trusted_proxy".to_owned()));
}

#[test]
fn a_config_that_was_only_built_changes_no_rule_of_the_register() {
    let (ground, _) = ground();
    let _running = path(json!({}), &ground);
    let refused = config(json!({ "ip_block": { "allow": ["203.0.113.9"] } }));
    let built = Arc::new(ip_block::build(&refused, &ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}")));
    assert!(ground.bans.add(by_watch("203.0.113.9"), &NOW).is_ok(), "{}", Arc::strong_count(&built));
}
