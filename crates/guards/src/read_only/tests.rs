//! Read-only routes: a table of who may write, failures that end in read-only, and what never changes the answer.

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::path::{Descent, Path};
use crate::{client_address, rehearsal, route};

const SECOND: u64 = 1_000_000_000;

fn config(general: Value, routes: Value) -> PathConfig {
    let mut config: PathConfig = serde_json::from_value(json!({ "read_only": general, "routes": routes })).unwrap();
    config.upstreams = vec!["app".to_owned()];
    config
}

fn path(config: &PathConfig, ground: &Ground) -> Path {
    let guards = (client_address::build(config, ground), route::build(config, ground), build(config, ground));
    let (Ok(client), Ok(route), Ok(own)) = guards else { panic!("the config is valid") };
    Path::builder().add(client).add(route).add(own).build().unwrap()
}

/// A request at `now`; the code it was refused with, or the answer of an upstream that says `status`.
fn ask(path: &Path, now: u64, method: &str, target: &str, status: u16) -> Result<(), (Code, u64)> {
    let mut exchange = rehearsal::ask(method, target).with("host", "a").with("x-http-method-override", "GET").begin();
    exchange.now.monotonic_nanos = now;
    match path.descend(&mut exchange) {
        Descent::Refused(refusal) => Err((refusal.code, refusal.retry_after_seconds.unwrap_or(0))),
        _ => {
            let mut head = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: Default::default() };
            path.ascend(&mut exchange, &mut head);
            Ok(())
        }
    }
}

#[test]
fn who_may_write() {
    use Decision::{Ask, Pass, Read, Refuse};
    for (is_safe, mode, by_hand, expected) in [
        (true, Mode::Always, ByHand::On, Read),
        (false, Mode::Never, ByHand::Nothing, Pass),
        (false, Mode::Never, ByHand::On, Refuse(Why::Hand)),
        (false, Mode::Always, ByHand::Nothing, Refuse(Why::Config)),
        (false, Mode::Always, ByHand::Off, Pass),
        (false, Mode::Always, ByHand::On, Refuse(Why::Hand)),
        (false, Mode::Auto, ByHand::Nothing, Ask),
        (false, Mode::Auto, ByHand::Off, Pass),
        (false, Mode::Auto, ByHand::On, Refuse(Why::Hand)),
    ] {
        assert_eq!(decide(is_safe, mode, by_hand), expected, "{is_safe} {mode:?} {by_hand:?}");
    }
}

proptest! {
    #[test]
    fn a_read_is_never_refused_and_a_write_never_passes(method in "GET|HEAD|OPTIONS|PUT|POST|PATCH|DELETE|[A-Z]{1,8}", override_with in "[A-Za-z]{0,8}") {
        let (ground, _) = rehearsal::ground();
        let path = path(&config(json!({ "mode": "always" }), json!([])), &ground);
        let request = rehearsal::ask(&method, "/x").with("host", "a").with("x-http-method-override", &override_with);
        let refused = match path.descend(&mut request.begin()) {
            Descent::Refused(refusal) => Some(refusal.code),
            _ => None,
        };
        match method.as_str() {
            "GET" | "HEAD" | "OPTIONS" => prop_assert_eq!(refused, None),
            "PUT" | "POST" | "PATCH" | "DELETE" => prop_assert_eq!(refused, Some(Code::ReadOnly)),
            // Methods that nobody knows are refused by `route` unless it lists them.
            _ => prop_assert_eq!(refused, Some(Code::MethodNotAllowed)),
        }
    }
}

#[test]
fn row_148_each_route_by_itself_and_an_override_changes_nothing() {
    let (ground, _) = rehearsal::ground();
    let routes = json!([
        { "name": "free", "match": { "path": "/free/**" }, "read_only": { "mode": "never" } },
        { "name": "rest", "match": { "path": "/**" } },
    ]);
    let path = path(&config(json!({ "mode": "always" }), routes), &ground);
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        assert_eq!(ask(&path, 1, method, "/x", 200), Err((Code::ReadOnly, 60)), "{method}");
        assert_eq!(ask(&path, 1, method, "/free/x", 200), Ok(()), "{method}");
    }
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(ask(&path, 1, method, "/x", 200), Ok(()), "{method}");
    }
    assert!(ground.metrics.render().contains("portcullis_read_only_refused_total{route=\"rest\"} 4"));
}

#[test]
fn by_hand_wins_until_it_is_taken_back_and_outlives_a_reload() {
    let (ground, _) = rehearsal::ground();
    let config = config(json!({}), json!([{ "name": "api", "match": { "path": "/**" } }]));
    let first = path(&config, &ground);
    assert_eq!(ask(&first, 1, "POST", "/x", 200), Ok(()));
    ground.read_only.of("api").set(ByHand::On);
    let second = path(&config, &ground);
    for path in [&first, &second] {
        assert_eq!(ask(path, 1, "POST", "/x", 200), Err((Code::ReadOnly, 60)));
        assert_eq!(ask(path, 1, "GET", "/x", 200), Ok(()));
    }
    ground.read_only.refresh(1);
    assert!(ground.metrics.render().contains("portcullis_read_only_active{route=\"api\"} 1"));
    ground.read_only.of("api").set(ByHand::Nothing);
    assert_eq!(ask(&second, 1, "POST", "/x", 200), Ok(()));
}

#[test]
fn writes_that_keep_failing_make_it_read_only_and_one_probe_ends_it() {
    let (ground, _) = rehearsal::ground();
    let auto = json!({ "mode": "auto", "failures": 3, "window": "60s", "hold": "30s" });
    let path = path(&config(auto, json!([{ "name": "api", "match": { "path": "/**" } }])), &ground);
    let standing = |now| ground.read_only.of("api").standing(now).why;
    let mut now = SECOND;
    // Reads and wrong requests say nothing about writes.
    for _ in 0..10 {
        assert_eq!(ask(&path, now, "GET", "/x", 500), Ok(()));
        assert_eq!(ask(&path, now, "POST", "/x", 422), Ok(()));
    }
    for _ in 0..3 {
        assert_eq!(standing(now), None);
        assert_eq!(ask(&path, now, "POST", "/x", 500), Ok(()));
    }
    assert_eq!(standing(now), Some(Why::Failures));
    assert_eq!(ask(&path, now, "POST", "/x", 200), Err((Code::ReadOnly, 30)));
    assert_eq!(ask(&path, now, "GET", "/x", 200), Ok(()));
    now += 30 * SECOND;
    assert_eq!(standing(now), Some(Why::Failures), "nobody knows yet");
    assert_eq!(ask(&path, now, "PUT", "/x", 503), Ok(()), "the probe");
    assert_eq!(ask(&path, now, "PUT", "/x", 200), Err((Code::ReadOnly, 30)));
    now += 30 * SECOND;
    assert_eq!(ask(&path, now, "PUT", "/x", 201), Ok(()), "the next probe");
    assert_eq!(standing(now), None);
    assert_eq!(ask(&path, now, "PUT", "/x", 200), Ok(()));
}

#[test]
fn what_the_gateway_itself_refuses_says_nothing_about_writes() {
    let (ground, _) = rehearsal::ground();
    let path = path(&config(json!({ "mode": "auto", "failures": 1 }), json!([])), &ground);
    let refuse = |code: Code, by| {
        let mut exchange = rehearsal::ask("POST", "/x").with("host", "a").begin();
        assert!(matches!(path.descend(&mut exchange), Descent::Through), "{code:?}");
        let _ = path.refuse(&mut exchange, by, Refusal::new(code));
    };
    for _ in 0..5 {
        refuse(Code::RateLimited, "rate_limit");
        refuse(Code::CircuitOpen, "breaker");
        refuse(Code::Overloaded, "proxy");
        refuse(Code::BodyTimeout, "proxy");
    }
    refuse(Code::UpstreamTimeout, "proxy");
    assert_eq!(ask(&path, rehearsal::NOW.monotonic_nanos, "POST", "/x", 200), Err((Code::ReadOnly, 30)));
}

#[test]
fn each_mistake_is_told_at_its_place() {
    let (ground, _) = rehearsal::ground();
    let routes = json!([{ "name": "a", "match": { "path": "/**" }, "read_only": { "hold": "0s" } }]);
    let found = build(&config(json!({ "failures": 0, "window": "2h" }), routes), &ground).err().unwrap_or_default();
    let paths: Vec<_> = found.into_iter().map(|mistake| mistake.path).collect();
    assert!(paths.contains(&"read_only.failures".to_owned()) && paths.contains(&"read_only.window".to_owned()));
    assert!(paths.contains(&"routes[0].read_only.hold".to_owned()), "{paths:?}");
}
