//! The guard in the runner: what it gives to those below, and what a client hears.

use http::header::{ALLOW, CONNECTION, HOST};
use http::{Method, StatusCode};
use serde_json::json;

use super::super::build;
use super::path_config;
use crate::exchange::Touch;
use crate::path::{Descent, Path};
use crate::rehearsal::{ask, get, ground};

fn path() -> Path {
    let config = path_config(json!([
        { "name": "api", "match": { "path": "/api/**", "methods": ["GET"], "host": "h" }, "strip_prefix": "/api", "cost": 3 },
    ]));
    let guard = build(&config, &ground().0).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    Path::builder().add(guard).build().expect("the guard needs nothing")
}

#[test]
fn those_below_and_the_upstream_see_one_route_one_path_and_one_host() {
    let path = path();
    let asked = || get("http://h/x/..//api/%61;b=1?q").with("host", "other");
    for mut exchange in [asked().begin(), asked().dry().begin()] {
        assert!(matches!(path.descend(&mut exchange), Descent::Through));
        let route = exchange.route.as_ref().expect("given");
        assert_eq!((&*route.name, &*route.upstream, route.index, route.cost), ("api", "app", 0, 3));
        let normal = exchange.path.as_ref().expect("given");
        assert_eq!(normal.matched(&exchange.uri), "/api/a");
        assert_eq!(normal.forwarded(&exchange.uri), "/a;b=1?q");
        assert_eq!(exchange.headers[HOST], "h");
        let step = &exchange.trail.steps()[0];
        assert_eq!((step.guard, step.rule.text()), ("route", "api"));
        let detail = "path /api/a goes to upstream app as /a;b=1";
        assert_eq!(step.detail.as_deref(), (exchange.touch == Touch::Peek).then_some(detail));
    }
}

#[test]
fn a_client_hears_what_it_may_do_and_the_log_keeps_the_path() {
    let path = path();
    let mut exchange = ask("POST", "/api//x").with("host", "h").begin();
    let Descent::Refused(refusal) = path.descend(&mut exchange) else { panic!("POST is not allowed") };
    let (head, body) = path.refuse(&mut exchange, "route", refusal);
    assert_eq!(head.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(head.headers[ALLOW], "GET, HEAD");
    assert!(!head.headers.contains_key(CONNECTION));
    assert!(String::from_utf8_lossy(&body).contains("ERR_METHOD_NOT_ALLOWED"));
    assert!(exchange.route.is_none());
    assert_eq!(exchange.path.as_ref().expect("readable").matched(&exchange.uri), "/api/x");
    assert_eq!(exchange.trail.steps()[0].rule.text(), "method");
    // An empty `Allow` is how a 405 says that no method is allowed (RFC 9110, section 10.2.1).
    let mut exchange = ask("CONNECT", "h:443").with("host", "h").begin();
    let Descent::Refused(refusal) = path.descend(&mut exchange) else { panic!("never a tunnel") };
    let (head, _) = path.refuse(&mut exchange, "route", refusal);
    assert_eq!(
        (exchange.method, &head.headers[ALLOW], &head.headers[CONNECTION]),
        (Method::CONNECT, &"".parse().unwrap(), &"close".parse().unwrap())
    );
}
