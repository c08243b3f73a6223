//! Which series exist, when they begin, and that nobody can make more of them.

use portcullis_core::refusal::Refusal;

use super::super::build;
use super::super::metrics::{ROUTES_MAX, STARTING};
use super::{guard, named, routed, sample};
use crate::config::PathConfig;
use crate::guard::{Guard, Outcome};
use crate::path::Path;
use crate::rehearsal::{ask, get, outcome};

#[test]
fn known_series_start_at_zero() {
    let mut config = named(&["api", "reads"]);
    config.routes[1].matches.methods = Some(vec!["GET".to_owned()]);
    let (_guard, ground, _) = guard(&config);
    let exposition = ground.metrics.render();
    for status in STARTING {
        for (route, method, starts) in
            [("api", "GET", true), ("api", "POST", true), ("reads", "GET", true), ("reads", "POST", false)]
        {
            let series =
                format!(r#"portcullis_http_requests_total{{route="{route}",method="{method}",status="{status}"}}"#);
            assert_eq!(sample(&exposition, &series), starts.then_some(0.0), "{series}");
        }
    }
    assert_eq!(sample(&exposition, "portcullis_http_requests_in_flight{}"), Some(0.0));
    assert_eq!(sample(&exposition, r#"portcullis_http_request_duration_seconds_count{route="api"}"#), Some(0.0));
    assert_eq!(sample(&exposition, r#"portcullis_upstream_request_duration_seconds_count{upstream="app"}"#), Some(0.0));
}

#[test]
fn exchanges_are_counted_by_route_method_and_status_with_their_times() {
    let (guard, ground, _) = guard(&named(&["api"]));
    let count = |method: &str, status: u16, attempts: u32| {
        let mut exchange = routed(ask(method, "/"), 0, "api");
        guard.request(&mut exchange);
        let times = Outcome { duration_nanos: 50_000_000, upstream_nanos: 40_000_000, attempts, ..outcome(status) };
        guard.finish(&exchange, &times);
    };
    count("GET", 200, 1);
    count("GET", 200, 2);
    count("DELETE", 204, 1);
    count("GET", 418, 1);
    count("GET", 418, 1);
    count("GET", 599, 1);
    count("GET", 100, 1);
    count("GET", 99, 0);
    count("GET", 600, 0);
    count("GET", 999, 0);
    count("GET", 0, 0);
    count("BREW", 429, 0);
    count("get", 429, 0);
    let exposition = ground.metrics.render();
    for (method, status, expected) in [
        ("GET", "200", 2.0),
        ("DELETE", "204", 1.0),
        ("GET", "418", 2.0),
        ("GET", "599", 1.0),
        ("GET", "100", 1.0),
        ("GET", "_other", 4.0),
        ("_other", "429", 2.0),
    ] {
        let series = format!(r#"portcullis_http_requests_total{{route="api",method="{method}",status="{status}"}}"#);
        assert_eq!(sample(&exposition, &series), Some(expected), "{series}");
    }
    let duration = "portcullis_http_request_duration_seconds";
    assert_eq!(sample(&exposition, &format!(r#"{duration}_count{{route="api"}}"#)), Some(13.0));
    assert_eq!(sample(&exposition, &format!(r#"{duration}_bucket{{le="0.05",route="api"}}"#)), Some(13.0));
    assert_eq!(sample(&exposition, &format!(r#"{duration}_bucket{{le="0.025",route="api"}}"#)), Some(0.0));
    let upstream = "portcullis_upstream_request_duration_seconds";
    assert_eq!(sample(&exposition, &format!(r#"{upstream}_count{{upstream="app"}}"#)), Some(7.0), "asked ones only");
}

#[test]
fn every_status_has_its_own_place() {
    let (guard, ground, _) = guard(&named(&["api"]));
    for status in 100..=599 {
        let exchange = routed(get("/"), 0, "api");
        guard.finish(&exchange, &outcome(status));
    }
    let exposition = ground.metrics.render();
    for status in 100..=599 {
        let series = format!(r#"portcullis_http_requests_total{{route="api",method="GET",status="{status}"}}"#);
        assert_eq!(sample(&exposition, &series), Some(1.0), "{series}");
    }
}

#[test]
fn ten_thousand_paths_methods_and_agents_make_no_new_series() {
    let (guard, ground, lines) = guard(&named(&["api"]));
    let series = || ground.metrics.render().lines().count();
    let send = |index: u32, is_routed: bool| {
        let text = format!("{:x}", index.wrapping_mul(2_654_435_761));
        let request =
            ask(&format!("M{text}"), &format!("/{text}?{text}")).with("user-agent", &text).with("host", &text);
        let mut exchange = if is_routed { routed(request, 0, "api") } else { request.begin() };
        guard.request(&mut exchange);
        guard.finish(&exchange, &outcome(if is_routed { 200 } else { 404 }));
    };
    send(0, true);
    send(0, false);
    let before = series();
    for index in 1..10_000 {
        send(index, index % 2 == 0);
    }
    assert_eq!(series(), before);
    assert_eq!(lines.take().len(), 10_001);
}

#[test]
fn routes_beyond_the_first_two_hundred_share_a_label() {
    let names: Vec<String> = (0..10_000).map(|index| format!("r{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (guard, ground, _) = guard(&named(&names));
    for index in [0, ROUTES_MAX - 1, ROUTES_MAX, 5_000, 9_999] {
        let mut exchange = routed(get("/"), index, names[index]);
        guard.request(&mut exchange);
        guard.finish(&exchange, &Outcome { attempts: 1, ..outcome(200) });
    }
    let exposition = ground.metrics.render();
    for (route, expected) in [("r0", Some(1.0)), ("r199", Some(1.0)), ("r200", None), ("_other", Some(3.0))] {
        let series = format!(r#"portcullis_http_requests_total{{route="{route}",method="GET",status="200"}}"#);
        assert_eq!(sample(&exposition, &series), expected, "{series}");
    }
    assert_eq!(sample(&exposition, r#"portcullis_upstream_request_duration_seconds_count{upstream="app"}"#), Some(5.0));
}

#[test]
fn what_is_in_flight_is_counted_once_and_not_in_dry_runs() {
    let (guard, ground, _) = guard(&PathConfig::default());
    let path = Path::builder().add(guard).build().unwrap();
    let in_flight = || sample(&ground.metrics.render(), "portcullis_http_requests_in_flight{}").unwrap();
    let mut first = get("/").begin();
    let mut second = get("/").begin();
    path.descend(&mut first);
    path.descend(&mut second);
    assert_eq!(in_flight(), 2.0);
    let mut dry = get("/").dry().begin();
    path.descend(&mut dry);
    path.finish(&dry, &outcome(200));
    assert_eq!(in_flight(), 2.0);
    path.finish(&first, &outcome(200));
    path.refuse(&mut second, "proxy", Refusal::internal());
    path.finish(&second, &outcome(500));
    assert_eq!(in_flight(), 0.0);
}

#[test]
fn a_reload_goes_on_counting() {
    let (first, ground, _) = guard(&named(&["api"]));
    let mut exchange = routed(get("/"), 0, "api");
    first.request(&mut exchange);
    let second = build(&named(&["new", "api"]), &ground).unwrap();
    first.finish(&exchange, &outcome(200));
    second.finish(
        &{
            let mut exchange = routed(get("/"), 1, "api");
            second.request(&mut exchange);
            exchange
        },
        &outcome(200),
    );
    let exposition = ground.metrics.render();
    assert_eq!(
        sample(&exposition, r#"portcullis_http_requests_total{route="api",method="GET",status="200"}"#),
        Some(2.0)
    );
    assert_eq!(sample(&exposition, "portcullis_http_requests_in_flight{}"), Some(0.0));
}

#[test]
fn requests_without_a_route_have_a_label_of_their_own() {
    let (guard, ground, _) = guard(&named(&["api"]));
    guard.finish(&get("/").begin(), &outcome(404));
    let series = r#"portcullis_http_requests_total{route="_none",method="GET",status="404"}"#;
    assert_eq!(sample(&ground.metrics.render(), series), Some(1.0));
}
