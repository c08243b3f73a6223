//! Tests of the guard, the registry and the metrics; the machine itself has its own.
//!
//! "Row" numbers are those of the list of attacks the project is tested against (141 to 145: the breaker).
//!
//! Invariant: no test reads a clock or sleeps; times are made up.

use std::collections::BTreeSet;

use http::{HeaderMap, Method, Version};
use portcullis_core::clock::Now;
use portcullis_core::fault::ErrorType;
use portcullis_core::refusal::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::decide::{State, Verdict as Said};
use super::*;
use crate::exchange::{Arrival, Body};
use crate::guard::ResponseHead;
use crate::path::{Descent, Path};
use crate::{rehearsal, route};

const SECOND: u64 = 1_000_000_000;

/// One upstream `app` with the breaker's defaults (5 failures in 60 s, half of all; open for 30 s; one probe).
fn app() -> Value {
    json!({ "app": {} })
}

/// A config with these breakers, and these routes by (name, upstream).
fn config(breakers: Value, routes: &[(&str, Option<&str>)]) -> PathConfig {
    let routes: Vec<Value> = routes
        .iter()
        .map(|(name, upstream)| json!({ "name": name, "upstream": upstream, "match": { "path": format!("/{name}/**") } }))
        .collect();
    let mut config: PathConfig = serde_json::from_value(json!({ "routes": routes })).unwrap();
    config.breakers = serde_json::from_value(breakers).unwrap();
    config.upstreams = config.breakers.keys().cloned().collect();
    config
}

fn built(config: &PathConfig, ground: &Ground) -> CircuitBreaker {
    build(config, ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

fn exchange(now: u64, target: &str, touch: Touch) -> Exchange {
    let arrival = Arrival {
        method: Method::GET,
        uri: target.parse().unwrap(),
        version: Version::HTTP_11,
        headers: HeaderMap::from_iter([(http::header::HOST, "example.com".parse().unwrap())]),
        body: Body::Absent,
        peer: ([192, 0, 2, 1], 4711).into(),
        is_secure: false,
    };
    Exchange::new(arrival, Now { monotonic_nanos: now, unix_millis: 1_767_261_600_000 }, touch)
}

/// An exchange that passed, or the `Retry-After` of one that did not.
fn ask(guard: &CircuitBreaker, now: u64) -> Result<Exchange, u64> {
    let mut exchange = exchange(now, "/", Touch::Take);
    match guard.request(&mut exchange) {
        Verdict::Pass | Verdict::Skip => Ok(exchange),
        Verdict::Refuse(refusal) => {
            assert_eq!(refusal.code, Code::CircuitOpen);
            assert!(exchange.permit.is_none() && exchange.breaker.is_none(), "who is refused holds nothing");
            Err(refusal.retry_after_seconds.expect("every 503 says when to come back"))
        }
        Verdict::Wait(_) => panic!("the guard never waits"),
    }
}

fn report(mut exchange: Exchange, now: u64, verdict: Said) {
    exchange.permit.take().expect("who passed holds a permit").report(now, verdict);
}

const FAILED: Said = Said::Failure(ErrorType::ApiError);

/// Lets five attempts fail at `now`.
fn fail(guard: &CircuitBreaker, now: u64) {
    for _ in 0..5 {
        report(ask(guard, now).unwrap(), now, FAILED);
    }
}

/// The value of a series; panics where it is missing.
fn value(ground: &Ground, series: &str) -> f64 {
    let text = ground.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("portcullis_circuit_breaker_{series} ")));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

fn gauge(ground: &Ground, service: &str) -> f64 {
    value(ground, &format!("state{{service=\"{service}\"}}"))
}

/// Row 142, and what becomes of permits.
#[test]
fn an_open_breaker_refuses_with_the_rest_of_its_time_and_then_probes_once() {
    let (ground, _) = rehearsal::ground();
    let guard = built(&config(app(), &[]), &ground);
    fail(&guard, SECOND);
    assert_eq!(ask(&guard, SECOND).err(), Some(30));
    assert_eq!(ask(&guard, 30 * SECOND + SECOND / 2).err(), Some(1));
    let half = 31 * SECOND;
    let probe = ask(&guard, half).unwrap();
    assert!(probe.permit.as_ref().unwrap().is_probe());
    assert!((0..100).all(|_| ask(&guard, half).is_err()), "one probe is out");
    drop(probe);
    let probe = ask(&guard, half).expect("a probe that never reports gives its place back");
    report(probe, half, Said::Success);
    assert!((0..100).all(|_| ask(&guard, half).is_ok()), "closed again");
}

/// Row 143: a probe that hangs loses its place when its lease is over, and its late verdict counts for nothing.
#[test]
fn a_probe_that_hangs_keeps_its_place_for_its_lease_only() {
    let (ground, _) = rehearsal::ground();
    let guard = built(&config(app(), &[]), &ground);
    fail(&guard, 0);
    let hanging = ask(&guard, 30 * SECOND).unwrap();
    assert!(ask(&guard, 64 * SECOND).is_err(), "`limits.total` is 30 s and the margin 5 s");
    let second = ask(&guard, 65 * SECOND).expect("the lease of the first is over");
    report(hanging, 66 * SECOND, FAILED);
    assert_eq!(gauge(&ground, "app"), 1.0);
    report(second, 67 * SECOND, Said::Success);
    assert_eq!(gauge(&ground, "app"), 0.0);
}

#[test]
fn a_lease_is_as_long_as_any_route_of_the_upstream_gives_a_request() {
    let mut two = config(json!({ "app": {}, "other": {} }), &[("a", Some("app")), ("b", Some("other"))]);
    let mut of = |general: Value, route: Value| {
        two.limits = serde_json::from_value(general).unwrap();
        two.routes[0].limits = serde_json::from_value(route).unwrap();
        (lease(&two, "app").as_secs(), lease(&two, "other").as_secs())
    };
    assert_eq!(of(json!({}), json!(null)), (35, 35));
    assert_eq!(of(json!({}), json!({ "total": "2m" })), (125, 35));
    assert_eq!(of(json!({ "total": "1m" }), json!({ "body_bytes": "1MiB" })), (65, 65));
    assert_eq!(of(json!({}), json!({ "total": "off" })), (60, 35));
    assert_eq!(of(json!({}), json!({ "total": "24h" })), (600, 35));
}

/// Row 145: each upstream has its own breaker, shared by its routes.
#[test]
fn a_failing_upstream_closes_nobody_elses_routes() {
    let (ground, _) = rehearsal::ground();
    let config = config(
        json!({ "app": {}, "other": {}, "bare": { "enabled": false } }),
        &[("a", Some("app")), ("b", Some("app")), ("c", Some("other")), ("d", Some("bare"))],
    );
    let path = Path::builder()
        .add(route::build(&config, &ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}")))
        .add(built(&config, &ground))
        .build()
        .unwrap();
    let descend = |target: &str, touch| {
        let mut exchange = exchange(SECOND, target, touch);
        let descent = path.descend(&mut exchange);
        (exchange, descent)
    };
    for _ in 0..5 {
        report(descend("/a/x", Touch::Take).0, SECOND, FAILED);
    }
    for target in ["/a/x", "/b/x"] {
        let (mut exchange, Descent::Refused(refusal)) = descend(target, Touch::Take) else { panic!("{target} passed") };
        let (head, _): (ResponseHead, _) = path.refuse(&mut exchange, "breaker", refusal);
        assert_eq!((head.status.as_u16(), head.headers["retry-after"].as_bytes()), (503, &b"30"[..]));
        let (step, code) = exchange.trail.refused().unwrap();
        assert_eq!((step.guard, step.rule.text(), code), ("breaker", "app", Code::CircuitOpen));
        assert_eq!(code.entry().said_by, step.guard);
    }
    for (target, has_breaker) in [("/c/x", true), ("/d/x", false)] {
        let (exchange, descent) = descend(target, Touch::Take);
        assert!(matches!(descent, Descent::Through), "{target}");
        assert_eq!((exchange.breaker.is_some(), exchange.permit.is_some()), (has_breaker, has_breaker), "{target}");
    }
    let detail = |target| {
        let (exchange, _) = descend(target, Touch::Peek);
        let last = exchange.trail.steps().last().unwrap();
        (last.decision.name(), last.rule.text().to_owned(), last.detail.as_deref().unwrap().to_owned())
    };
    let said = |decision, rule: &str, detail: &str| (decision, rule.to_owned(), detail.to_owned());
    assert_eq!(detail("/a/x"), said("refused", "app", "app is open for another 30 s"));
    assert_eq!(detail("/c/x"), said("passed", "other", "other is closed: 0 of the last 0 attempts failed"));
    assert_eq!(detail("/d/x"), said("skipped", "", "the upstream has no circuit breaker"));
    assert!(Path::builder().add(built(&config, &ground)).build().is_err(), "it needs a route");
}

#[test]
fn a_dry_run_changes_nothing() {
    let (ground, _) = rehearsal::ground();
    let guard = built(&config(app(), &[]), &ground);
    fail(&guard, 0);
    let half = 30 * SECOND;
    let before = ground.metrics.render();
    for now in [0, half, half] {
        let mut dry = exchange(now, "/", Touch::Peek);
        assert_eq!(matches!(guard.request(&mut dry), Verdict::Pass), now == half);
        assert!(dry.permit.is_none());
    }
    assert_eq!(ground.metrics.render(), before);
    assert!(ask(&guard, half).unwrap().permit.unwrap().is_probe(), "the only probe was not spent");
}

#[test]
fn mistakes_are_told_at_the_upstream() {
    let (ground, _) = rehearsal::ground();
    let wrong =
        config(json!({ "app": { "failures": 0, "window": "2h" }, "other": { "ratio": 1.5, "enabled": false } }), &[]);
    let found = build(&wrong, &ground).map(|_| ()).unwrap_err();
    let paths: BTreeSet<_> = found.iter().map(|mistake| mistake.path.as_str()).collect();
    let at = ["app.circuit_breaker.failures", "app.circuit_breaker.window", "other.circuit_breaker.ratio"];
    assert_eq!(paths, at.map(|path| format!("upstreams.{path}")).iter().map(String::as_str).collect());
    assert!(ground.breakers.snapshot(0).is_empty(), "nothing is left of a config that is wrong");
}

/// Row 143: a reload keeps the breaker of an upstream whose rules are the same, and no other.
#[test]
fn a_reload_keeps_what_did_not_change() {
    let (ground, _) = rehearsal::ground();
    let before = built(&config(json!({ "app": {}, "gone": {} }), &[]), &ground);
    let first = before._all.iter().find(|service| &*service.name == "app").unwrap().breaker.clone();
    for _ in 0..5 {
        first.admit(0).unwrap().failure(0, ErrorType::Timeout);
    }
    let same = built(&config(app(), &[]), &ground);
    assert!(Arc::ptr_eq(&first, &same._all[0].breaker));
    assert_eq!(ask(&same, SECOND).err(), Some(29), "it is open as before");
    let names = |now| ground.breakers.snapshot(now).into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(0), ["app", "gone"], "while requests of the old config are on their way");
    drop(before);
    assert_eq!(names(0), ["app"]);

    assert_eq!(gauge(&ground, "app"), 2.0);
    let changed = built(&config(json!({ "app": { "failures": 6 } }), &[]), &ground);
    assert!(ask(&changed, SECOND).is_ok(), "other rules, a new breaker");
    ground.breakers.refresh(SECOND);
    assert_eq!(gauge(&ground, "app"), 0.0, "the newest breaker is shown");
    let state = || ground.breakers.snapshot(SECOND)[0].1.state;
    assert_eq!(state(), State::Closed);
    drop((same, first));
    assert_eq!(state(), State::Closed);
}

#[test]
fn a_config_that_fails_elsewhere_leaves_the_running_breaker_as_it_is() {
    let (ground, _) = rehearsal::ground();
    let running = built(&config(app(), &[]), &ground);
    fail(&running, 0);
    // Its breaker guard was built, another guard found a mistake, and the whole path was thrown away.
    drop(built(&config(json!({ "app": { "failures": 6 }, "new": {} }), &[]), &ground));
    ground.breakers.refresh(SECOND);
    let shown: Vec<_> =
        ground.breakers.snapshot(SECOND).iter().map(|(name, shown)| (name.to_string(), shown.state)).collect();
    assert_eq!(shown, [("app".to_owned(), State::Open)]);
    assert_eq!(gauge(&ground, "app"), 2.0);
    assert!(Arc::ptr_eq(&running._all[0].breaker, &built(&config(app(), &[]), &ground)._all[0].breaker));
}

#[test]
fn the_gauge_of_an_upstream_that_is_gone_goes_back_to_closed() {
    let (ground, _) = rehearsal::ground();
    let guard = built(&config(app(), &[]), &ground);
    fail(&guard, 0);
    assert_eq!(gauge(&ground, "app"), 2.0);
    drop(guard);
    ground.breakers.refresh(SECOND);
    assert_eq!(gauge(&ground, "app"), 0.0);
}

#[test]
fn without_traffic_the_gauge_turns_half_open_when_the_time_is_up() {
    let (ground, _) = rehearsal::ground();
    let guard = built(&config(app(), &[]), &ground);
    fail(&guard, 0);
    ground.breakers.refresh(30 * SECOND - 1);
    assert_eq!(gauge(&ground, "app"), 2.0);
    ground.breakers.refresh(30 * SECOND);
    assert_eq!(gauge(&ground, "app"), 1.0);
    let turned = "state_transitions_total{service=\"app\",from_state=\"open\",to_state=\"half_open\"}";
    assert_eq!(value(&ground, turned), 1.0);
    assert_eq!(ground.breakers.snapshot(30 * SECOND)[0].1.state, State::HalfOpen);
}

#[test]
fn every_series_is_there_at_zero_before_the_first_request() {
    let (ground, _) = rehearsal::ground();
    let _guard = built(&config(app(), &[]), &ground);
    let text = ground.metrics.render();
    let series: Vec<_> =
        text.lines().filter(|line| line.contains("service=\"app\"") && !line.contains("_bucket")).collect();
    // 1 gauge, 3 results, 3 error types, sum and count, 4 transitions.
    assert_eq!(series.len(), 13, "{series:#?}");
    assert!(series.iter().all(|line| line.ends_with(" 0") || line.ends_with(" 0.0")), "{series:#?}");
    assert!(!text.contains("_other"));
}

#[test]
fn attempts_are_counted_by_what_became_of_them() {
    let (ground, _) = rehearsal::ground();
    let guard = built(&config(app(), &[]), &ground);
    let reports = [
        Said::Success,
        Said::Success,
        judge(StatusCode::NOT_FOUND),
        judge(StatusCode::BAD_GATEWAY),
        Said::Failure(ErrorType::Timeout),
        Said::Failure(ErrorType::Timeout),
        Said::Failure(ErrorType::NetworkError),
        Said::Neutral,
    ];
    for verdict in reports {
        report(ask(&guard, SECOND).unwrap(), SECOND + SECOND / 4, verdict);
    }
    drop(ask(&guard, SECOND));
    report(ask(&guard, SECOND).unwrap(), SECOND, FAILED);
    assert!(ask(&guard, 2 * SECOND).is_err());
    let breaker = Arc::clone(&guard._all[0].breaker);
    assert!(breaker.admit_owned(2 * SECOND).is_err(), "the proxy's retry is counted too");
    for (series, count) in [
        ("requests_total{service=\"app\",result=\"success\"}", 3.0),
        ("requests_total{service=\"app\",result=\"failure\"}", 5.0),
        ("requests_total{service=\"app\",result=\"rejected\"}", 2.0),
        ("errors_total{service=\"app\",error_type=\"api_error\"}", 2.0),
        ("errors_total{service=\"app\",error_type=\"timeout\"}", 2.0),
        ("errors_total{service=\"app\",error_type=\"network_error\"}", 1.0),
        ("latency_seconds_count{service=\"app\"}", 8.0),
        ("latency_seconds_sum{service=\"app\"}", 7.0 * 0.25),
        ("latency_seconds_bucket{le=\"0.25\",service=\"app\"}", 8.0),
        ("latency_seconds_bucket{le=\"0.1\",service=\"app\"}", 1.0),
    ] {
        assert_eq!(value(&ground, series), count, "{series}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, the gauge is the state of the machine, and the transitions add up to it.
    #[test]
    fn the_gauge_is_the_machine(events in proptest::collection::vec((0_u8..6, 0_u64..12), 1..120)) {
        let (ground, _) = rehearsal::ground();
        let guard = built(&config(json!({ "app": { "failures": 2, "ratio": 0.3, "open_for": "5s", "probes": 2 } }), &[]), &ground);
        let mut now = 0;
        let mut out = Vec::new();
        for (event, seconds) in events {
            now += seconds * SECOND / 2;
            match event {
                0 | 1 => out.extend(ask(&guard, now)),
                2 => ground.breakers.refresh(now),
                3 => drop(out.pop()),
                other => {
                    if let Some(exchange) = out.pop() {
                        report(exchange, now, if other == 4 { FAILED } else { Said::Success });
                    }
                }
            }
            ground.breakers.refresh(now);
            let state = ground.breakers.snapshot(now)[0].1.state;
            prop_assert_eq!(gauge(&ground, "app"), f64::from(state.gauge()));
            let moves = |from: &str, to: &str| {
                value(&ground, &format!("state_transitions_total{{service=\"app\",from_state=\"{from}\",to_state=\"{to}\"}}"))
            };
            let into_open = moves("closed", "open") + moves("half_open", "open");
            let into_half = moves("open", "half_open");
            let left_half = moves("half_open", "open") + moves("half_open", "closed");
            prop_assert_eq!(into_open - into_half, f64::from(u8::from(state == State::Open)));
            prop_assert_eq!(into_half - left_half, f64::from(u8::from(state == State::HalfOpen)));
        }
    }
}
