//! The cases of `request_id`: which ids and traces are kept, which are made, and the guard in the runner.

use proptest::prelude::*;

use super::config::Traceparent;
use super::decide::{Fresh, Sent, Trace, decide_id, decide_trace, trace_id};
use super::*;
use crate::path::{Descent, Path};
use crate::rehearsal::{answer, get, ground, values};

const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn guard(config: Config) -> RequestId {
    let path = PathConfig {
        request_id: config,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..PathConfig::default()
    };
    build(&path, &ground().0).unwrap()
}

fn starting() -> RequestId {
    guard(Config { traceparent: Some(Traceparent::Start) })
}

fn is_uuid_v4(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_ok_and(|id| id.get_version_num() == 4) && id.len() == 36
}

#[test]
fn row_50_only_a_well_formed_id_of_a_trusted_peer_is_kept() {
    let long = "a".repeat(65);
    for (peer, sent, is_kept) in [
        ("10.1.2.3", "abc-DEF_1.2", true),
        ("10.1.2.3", "a", true),
        ("10.1.2.3", &long[..64], true),
        ("::ffff:10.1.2.3", "abc", true),
        ("10.1.2.3", &long, false),
        ("10.1.2.3", "", false),
        ("10.1.2.3", "a b", false),
        ("10.1.2.3", "a\"b", false),
        ("10.1.2.3", "a\tb", false),
        ("10.1.2.3", "a:b", false),
        ("203.0.113.9", "abc", false),
        ("2001:db8::1", "abc", false),
    ] {
        let mut exchange = get("/").from(peer).with("X-Request-Id", sent).begin();
        guard(Config::default()).request(&mut exchange);
        let id = exchange.request_id.unwrap();
        assert_eq!(id.as_str() == sent, is_kept, "{peer} {sent:?}");
        assert!(is_kept || is_uuid_v4(&id), "{id}");
        assert_eq!(values(&exchange.headers, "x-request-id"), [id.as_str()], "the upstream sees the same");
    }
}

#[test]
fn two_ids_are_no_id() {
    let mut exchange = get("/").from("10.0.0.1").with("X-Request-Id", "one").with("X-Request-Id", "two").begin();
    guard(Config::default()).request(&mut exchange);
    let id = exchange.request_id.unwrap();
    assert!(is_uuid_v4(&id));
    assert_eq!(values(&exchange.headers, "x-request-id"), [id.as_str()]);
}

#[test]
fn ids_made_here_differ() {
    let guard = guard(Config::default());
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let mut exchange = get("/").begin();
        guard.request(&mut exchange);
        assert!(seen.insert(exchange.request_id.unwrap()));
    }
}

#[test]
fn a_dry_run_has_a_fixed_id() {
    let mut exchange = get("/").dry().begin();
    starting().request(&mut exchange);
    assert_eq!(exchange.request_id.unwrap().as_str(), "explain");
    let again = values(&exchange.headers, "traceparent");
    let mut exchange = get("/").dry().begin();
    starting().request(&mut exchange);
    assert_eq!(values(&exchange.headers, "traceparent"), again);
    assert!(trace_id(again[0].as_bytes()).is_some());
}

#[test]
fn the_answer_carries_the_id_in_place_of_the_upstreams() {
    let path = Path::builder().add(guard(Config::default())).build().unwrap();
    let mut exchange = get("/").begin();
    assert!(matches!(path.descend(&mut exchange), Descent::Through));
    let mut head = answer(&[("x-request-id", "upstream's"), ("x-request-id", "and another")]);
    path.ascend(&mut exchange, &mut head);
    assert_eq!(values(&head.headers, "x-request-id"), [exchange.request_id.unwrap().as_str()]);
}

#[test]
fn traces_are_valid_exactly_as_the_standard_says() {
    for (value, is_valid) in [
        (VALID, true),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", true),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings", true),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", false),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", false),
        ("0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        (" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        ("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", false),
        ("", false),
    ] {
        let read = trace_id(value.as_bytes());
        assert_eq!(read.is_some(), is_valid, "{value}");
        assert!(read.is_none_or(|id| id.as_str() == "4bf92f3577b34da6a3ce929d0e0e4736"), "{value}");
    }
}

#[test]
fn a_valid_trace_goes_on_and_a_broken_one_takes_its_state_with_it() {
    let run = |guard: &RequestId, ask: crate::rehearsal::Ask| {
        let mut exchange = ask.with("tracestate", "vendor=1").begin();
        guard.request(&mut exchange);
        let fields = (values(&exchange.headers, "traceparent"), values(&exchange.headers, "tracestate"));
        (fields.0, fields.1, exchange.trace_id)
    };
    let passing = guard(Config::default());
    let (parent, state, id) = run(&passing, get("/").with("traceparent", VALID));
    assert_eq!((parent, state), (vec![VALID.to_owned()], vec!["vendor=1".to_owned()]));
    assert_eq!(id.unwrap().as_str(), &VALID[3..35]);

    let broken = || get("/").with("traceparent", "00-zz");
    let twice = || get("/").with("traceparent", VALID).with("traceparent", VALID);
    for ask in [broken(), twice(), get("/")] {
        assert_eq!(run(&passing, ask), (vec![], vec![], None));
    }
    for ask in [broken(), twice(), get("/")] {
        let (parent, state, id) = run(&starting(), ask);
        assert_eq!(state, [""; 0]);
        assert_eq!(parent.len(), 1);
        assert!(parent[0].ends_with("-01"));
        assert_eq!(trace_id(parent[0].as_bytes()), id);
        assert!(id.is_some());
    }
    assert_eq!(run(&starting(), get("/").with("traceparent", VALID)).0, [VALID]);
}

#[test]
fn a_trace_state_of_more_than_32_members_is_dropped_and_the_trace_kept() {
    for (members, is_kept) in [(32, true), (33, false)] {
        let state: Vec<String> = (0..members).map(|member| format!("v{member}=1")).collect();
        let (first, second) = state.split_at(5);
        let ask = get("/").with("traceparent", VALID).with("tracestate", first.join(","));
        let mut exchange = ask.with("tracestate", second.join(",")).begin();
        guard(Config::default()).request(&mut exchange);
        assert_eq!(exchange.headers.contains_key("tracestate"), is_kept, "{members}");
        assert!(exchange.trace_id.is_some());
    }
}

#[test]
fn what_is_written_overrides_what_is_not() {
    let start = Config { traceparent: Some(Traceparent::Start) };
    assert_eq!(Config::default().over(&start), start);
    assert_eq!(Config::default().over(&Config::defaults()).compile().traceparent, Traceparent::Pass);
    let read: Config = serde_json::from_str(r#"{"traceparent":"start"}"#).unwrap();
    assert_eq!(read, start);
    assert!(serde_json::from_str::<Config>(r#"{"tracing":true}"#).is_err());
}

proptest! {
    #[test]
    fn whatever_is_sent_the_id_is_harmless(sent in proptest::collection::vec(any::<u8>(), 0..80)) {
        let (id, is_taken) = decide_id(Sent::Once(&sent), &Fresh::random());
        prop_assert!((1..=64).contains(&id.len()));
        prop_assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)));
        prop_assert_eq!(is_taken, id.as_bytes() == sent);
    }

    #[test]
    fn whatever_is_sent_the_trace_id_is_hexadecimal(
        sent in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..70),
            "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?".prop_map(String::into_bytes),
        ],
        start in any::<bool>(),
    ) {
        let rule = if start { Traceparent::Start } else { Traceparent::Pass };
        match decide_trace(rule, Sent::Once(&sent), &Fresh::random()) {
            Trace::Keep(id) => {
                prop_assert_eq!(id.as_bytes(), &sent[3..35]);
            }
            Trace::Start(id, line) => prop_assert_eq!(trace_id(line.as_bytes()), Some(id)),
            Trace::Drop => prop_assert!(!start),
            Trace::Absent => prop_assert!(false, "something was sent"),
        }
    }
}
