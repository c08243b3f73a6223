//! The guard on a real path, below the guards that find the client and the route.

use http::StatusCode;
use portcullis_core::refusal::Code;

use super::*;
use crate::path::{Descent, Path};
use crate::trail::Decision;
use crate::{client_address, route};

fn path(config: &Value, ground: &Ground) -> Path {
    let config: PathConfig = serde_json::from_value(config.clone()).unwrap();
    Path::builder()
        .add(client_address::build(&config, ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
        .add(route::build(&config, ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
        .add(crate::rate_limit::build(&config, ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
        .build()
        .unwrap()
}

fn arrives(method: &str, target: &str, peer: &str, touch: Touch) -> Exchange {
    let arrival = Arrival {
        method: method.parse().unwrap(),
        uri: target.parse().unwrap(),
        version: Version::HTTP_11,
        headers: HeaderMap::from_iter([(http::header::HOST, "example.com".parse().unwrap())]),
        body: Body::Absent,
        peer: (peer.parse::<IpAddr>().unwrap(), 4711).into(),
        is_secure: false,
    };
    Exchange::new(arrival, Now { monotonic_nanos: SECOND, unix_millis: EPOCH_MILLIS }, touch)
}

/// The answer's status and fields; 200 when every guard let the request pass.
fn answer(path: &Path, exchange: &mut Exchange) -> ResponseHead {
    match path.descend(exchange) {
        Descent::Through => {
            let mut head = ResponseHead { status: StatusCode::OK, headers: HeaderMap::new() };
            path.ascend(exchange, &mut head);
            head
        }
        Descent::Refused(refusal) => path.refuse(exchange, "rate_limit", refusal).0,
        Descent::Waiting(_) => panic!("nobody waits here"),
    }
}

fn config() -> Value {
    json!({
        "routes": [{
            "name": "api",
            "match": { "path": "/api/**", "case_insensitive": true },
            "rate_limit": [{ "name": "api", "limit": "3/1m", "by": ["address", "route"] }],
        }],
    })
}

#[test]
fn a_refusal_carries_status_fields_and_trail() {
    let ground = ground();
    let path = path(&config(), &ground);
    for left in [2, 1, 0] {
        let mut exchange = arrives("GET", "/api/x", "192.0.2.1", Touch::Take);
        let head = answer(&path, &mut exchange);
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["x-ratelimit-remaining"], left.to_string());
    }
    let mut exchange = arrives("GET", "/api/x", "192.0.2.1", Touch::Take);
    let head = answer(&path, &mut exchange);
    assert_eq!(head.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(head.headers["retry-after"], "20");
    assert_eq!(head.headers["ratelimit-policy"], r#""api";q=3;w=60"#);
    assert_eq!(head.headers["ratelimit"], r#""api";r=0;t=20"#);
    let (step, code) = exchange.trail.refused().unwrap();
    assert_eq!((step.guard, code, step.rule.text()), ("rate_limit", Code::RateLimited, "api"));
    assert_eq!(Code::RateLimited.entry().said_by, step.guard);

    let mut dry = arrives("GET", "/api/x", "192.0.2.1", Touch::Peek);
    assert_eq!(answer(&path, &mut dry).status, StatusCode::TOO_MANY_REQUESTS);
    let last = dry.trail.steps().last().unwrap();
    assert_eq!(last.decision, Decision::Refused(Code::RateLimited));
    let detail = last.detail.as_deref().unwrap();
    assert_eq!(detail, "api by address and route: takes 1 and has 0 of 3, again in 20 s");
}

/// Row 119: however a path is written, it is one route and one limit.
#[test]
fn other_spellings_of_a_path_are_counted_together() {
    let ground = ground();
    let path = path(&config(), &ground);
    let passed = [
        ("GET", "/api/x"),
        ("POST", "/API/x"),
        ("GET", "//api//x"),
        ("GET", "/%61pi/x"),
        ("GET", "/api/x;v=1"),
        ("GET", "/api/./x?b=1&a=2"),
        ("GET", "/y/../api/x?a=2&b=1"),
        ("HEAD", "/api/other"),
    ]
    .into_iter()
    .filter(|(method, target)| {
        let status = answer(&path, &mut arrives(method, target, "192.0.2.1", Touch::Take)).status;
        assert!(
            status == StatusCode::OK || status == StatusCode::TOO_MANY_REQUESTS || status.as_u16() == 400,
            "{target}: {status}"
        );
        status == StatusCode::OK
    });
    assert_eq!(passed.count(), 3);
}

/// Row 121, with the guard that groups addresses.
#[test]
fn addresses_of_one_ipv6_network_share_a_limit_and_mapped_ones_are_ipv4() {
    let ground = ground();
    let path = path(&config(), &ground);
    let status = |peer: &str| answer(&path, &mut arrives("GET", "/api/x", peer, Touch::Take)).status.as_u16();
    let in_network: Vec<u16> = (1..=5).map(|host| status(&format!("2001:db8:0:1:{host}::{host}"))).collect();
    assert_eq!(in_network, [200, 200, 200, 429, 429]);
    assert_eq!(status("2001:db8:0:2::1"), 200, "the next network is someone else");
    let mapped: Vec<u16> = ["192.0.2.9", "::ffff:192.0.2.9", "192.0.2.9", "::ffff:192.0.2.9"].map(status).into();
    assert_eq!(mapped, [200, 200, 200, 429]);
}

#[test]
fn a_path_without_what_the_policies_read_is_refused() {
    let config: PathConfig = serde_json::from_value(config()).unwrap();
    let guard = crate::rate_limit::build(&config, &ground()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert!(Path::builder().add(guard).build().is_err());
}
