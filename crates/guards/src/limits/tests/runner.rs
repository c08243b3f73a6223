//! The guard in the runner, below `route`: a route's own bounds hold, and what is refused never gets further.

use serde_json::json;

use super::super::build;
use crate::config::PathConfig;
use crate::exchange::Body;
use crate::path::{BrokenPath, Descent, Path};
use crate::rehearsal::{NOW, ask, ground};
use crate::route;

fn config() -> PathConfig {
    let routes = json!([
        { "name": "general", "match": { "path": "/**" } },
        { "name": "files", "match": { "path": "/files/**" }, "limits": { "body_bytes": "2MiB", "total": "off" } },
    ]);
    let routes = serde_json::from_value(routes).expect("well-formed");
    let limits = super::config(json!({ "body_bytes": "10B", "total": "2s" }));
    PathConfig { routes, limits, ..PathConfig::default() }
}

fn path() -> Path {
    let (config, ground) = (config(), ground().0);
    let route = route::build(&config, &ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let limits = build(&config, &ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    Path::builder().add(route).add(limits).build().expect("route gives what limits needs")
}

#[test]
fn it_stands_below_route() {
    let limits = build(&config(), &ground().0).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert!(matches!(Path::builder().add(limits).build(), Err(BrokenPath::Unmet { guard: "limits", .. })));
}

#[test]
fn each_route_has_its_own_bounds() {
    let path = path();
    for (target, deadline_nanos, detail) in [
        ("/x", NOW.monotonic_nanos + 2_000_000_000, "at most 10 bytes of body and 2000 ms in all"),
        ("/files/x", u64::MAX, "at most 2097152 bytes of body and any time"),
    ] {
        let mut exchange =
            ask("GET", target).with("host", "h").with("content_length", "5").with("te_x", "1").dry().begin();
        assert!(matches!(path.descend(&mut exchange), Descent::Through));
        assert_eq!(exchange.bounds.expect("given").deadline_nanos, deadline_nanos);
        assert_eq!(exchange.trail.steps()[1].detail.as_deref(), Some(detail));
        // Row 10: a twin of a framing field goes, others with underscores stay.
        assert!(!exchange.headers.contains_key("content_length") && exchange.headers.contains_key("te_x"));
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_at_once_and_the_connection_ends() {
    let path = path();
    let mut exchange = ask("POST", "/x").with("host", "h").with("content-length", "11").begin();
    exchange.body = Body::Sized(11);
    let Descent::Refused(refusal) = path.descend(&mut exchange) else { panic!("11 bytes are too many") };
    let (head, _) = path.refuse(&mut exchange, "limits", refusal);
    assert_eq!(head.status, 413);
    assert_eq!(head.headers["connection"], "close");
    let (step, _) = exchange.trail.refused().expect("refused");
    assert_eq!((step.guard, step.rule.text()), ("limits", "body_bytes"));
    assert!(exchange.bounds.is_none());
}

#[test]
fn fields_that_guards_add_are_not_counted_against_the_client() {
    let path = path();
    let passes = |own: &'static str, value: String| {
        let mut asked = ask("GET", "/x").with("host", "h");
        for index in 0..99 {
            asked = asked.with(&format!("x-{index}"), "1");
        }
        let mut exchange = asked.begin();
        exchange.headers.insert(own, value.parse().expect("a field value"));
        matches!(path.descend(&mut exchange), Descent::Through)
    };
    assert!(passes("x-request-id", "1".to_owned()), "100 lines came, the 101st is ours");
    assert!(passes("forwarded", "a".repeat(40_000)));
    assert!(!passes("x-other", "a".repeat(40_000)));
}
