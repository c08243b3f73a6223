//! What lines hold and what they never hold. `counts` is about the metrics, `properties` about hostile bytes.

mod counts;
mod properties;

use std::sync::Arc;

use portcullis_core::refusal::{CATALOGUE, Code, LogLevel, Refusal};
use serde_json::{Value, json};

use super::decide::level;
use super::escape::put_escaped;
use super::line::Stamp;
use super::*;
use crate::config::RouteConfig;
use crate::guard::End;
use crate::path::{Descent, Path};
use crate::rehearsal::{Ask, Lines, Wall, ask, get, ground, outcome};
use crate::route::{self, Route};
use crate::trail::Rule;
use crate::{client_address, request_id};

fn named(names: &[&str]) -> PathConfig {
    let route = |name: &&str| RouteConfig { name: (*name).to_owned(), ..RouteConfig::default() };
    PathConfig { routes: names.iter().map(route).collect(), upstreams: vec!["app".to_owned()], ..PathConfig::default() }
}

fn guard(config: &PathConfig) -> (AccessLog, Ground, Arc<Lines>) {
    let (ground, lines) = ground();
    (build(config, &ground).unwrap(), ground, lines)
}

fn routed(ask: Ask, index: usize, name: &str) -> Exchange {
    let mut exchange = ask.begin();
    exchange.route = Some(Arc::new(Route { index, name: Arc::from(name), upstream: Arc::from("app"), cost: 1 }));
    exchange
}

/// The only line, as JSON.
fn only(lines: &Lines) -> Value {
    let lines = lines.take();
    assert_eq!(lines.len(), 1);
    serde_json::from_slice(&lines[0]).unwrap()
}

fn sample(exposition: &str, series: &str) -> Option<f64> {
    exposition.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn a_line_holds_everything_about_an_exchange() {
    let (guard, _, lines) = guard(&named(&["api"]));
    let mut exchange = routed(
        ask("POST", "/a/b?token=secret").with("host", "app.example.com").with("user-agent", "curl/8 \"x\""),
        0,
        "api",
    );
    guard.request(&mut exchange);
    exchange.headers.clear();
    exchange.request_id = Some("id-1".try_into().unwrap());
    exchange.trace_id = Some("4bf92f3577b34da6a3ce929d0e0e4736".try_into().unwrap());
    let address = "198.51.100.7".parse().unwrap();
    exchange.client = Some(crate::exchange::ClientAddress { address, group: address, peer_is_trusted: true });
    let over = Outcome {
        end: End::ClientGone,
        bytes_in: 5,
        bytes_out: 7,
        upstream_nanos: 999_999,
        attempts: 2,
        ..outcome(200)
    };
    guard.finish(&exchange, &over);
    assert_eq!(
        only(&lines),
        json!({
            "time": "2026-01-01T10:00:00.000Z",
            "level": "info",
            "msg": "request",
            "request_id": "id-1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "client": "198.51.100.7",
            "peer": "203.0.113.9:50000",
            "method": "POST",
            "host": "app.example.com",
            "path": "/a/b",
            "status": 200,
            "end": "client_gone",
            "bytes_in": 5,
            "bytes_out": 7,
            "duration_ms": 1.234,
            "upstream_ms": 0.999,
            "attempts": 2,
            "upstream": "app",
            "route": "api",
            "user_agent": "curl/8 \"x\"",
        })
    );
}

#[test]
fn the_least_that_is_known_still_makes_a_line() {
    let (guard, _, lines) = guard(&PathConfig::default());
    let mut exchange = get("/").from("[2001:db8::1]:99").begin();
    guard.request(&mut exchange);
    guard.finish(&exchange, &outcome(400));
    assert_eq!(
        only(&lines),
        json!({
            "time": "2026-01-01T10:00:00.000Z", "level": "info", "msg": "request", "peer": "[2001:db8::1]:99",
            "method": "GET", "path": "/", "status": 400, "end": "complete", "bytes_in": 0, "bytes_out": 0,
            "duration_ms": 1.234, "attempts": 0,
        })
    );
}

#[test]
fn a_refusal_is_told_with_guard_rule_and_the_catalogues_level() {
    for entry in CATALOGUE {
        let (guard, _, lines) = guard(&named(&["api"]));
        let path = Path::builder().add(guard).add(Wall(Refusal::new(entry.code))).build().unwrap();
        let mut exchange = routed(get("/"), 0, "api");
        exchange.would_refuse("rate_limit", Code::RateLimited, Rule::Named(Arc::from("new \"policy\"")));
        exchange.would_refuse("rate_limit", Code::RateLimited, Rule::Only);
        exchange.by_rule(Rule::Fixed("the rule"));
        let Descent::Refused(refusal) = path.descend(&mut exchange) else { panic!("the wall refuses") };
        let (head, body) = path.refuse(&mut exchange, "wall", refusal);
        path.finish(&exchange, &Outcome { bytes_out: body.len() as u64, ..outcome(head.status.as_u16()) });
        let line = only(&lines);
        assert_eq!(line["code"], entry.name);
        assert_eq!(line["guard"], "wall");
        assert_eq!(line["level"], entry.level.name());
        assert_eq!(line["status"], entry.status);
        assert_eq!(
            line["would_refuse"],
            json!([
                { "code": "ERR_RATE_LIMITED", "guard": "rate_limit", "rule": "new \"policy\"" },
                { "code": "ERR_RATE_LIMITED", "guard": "rate_limit" },
            ])
        );
    }
}

#[test]
fn the_rule_of_a_refusal_is_told() {
    let (guard, _, lines) = guard(&named(&["api"]));
    let path = Path::builder().add(guard).build().unwrap();
    let mut exchange = get("/").begin();
    path.descend(&mut exchange);
    exchange.by_rule(Rule::Named(Arc::from("per-user")));
    path.refuse(&mut exchange, "proxy", Refusal::new(Code::UpstreamClosed));
    path.finish(&exchange, &outcome(502));
    assert_eq!(only(&lines)["rule"], "per-user");
}

#[test]
fn the_level_follows_refusal_end_and_status() {
    for (refused, end, status, expected) in [
        (None, End::Complete, 200, LogLevel::Info),
        (None, End::Complete, 404, LogLevel::Info),
        (None, End::Complete, 500, LogLevel::Warn),
        (None, End::ClientGone, 499, LogLevel::Info),
        (None, End::UpstreamCut, 200, LogLevel::Warn),
        (None, End::DeadlinePassed, 200, LogLevel::Warn),
        (None, End::Panicked, 500, LogLevel::Error),
        (Some(Code::RateLimited), End::Complete, 429, LogLevel::Info),
        (Some(Code::CircuitOpen), End::Complete, 503, LogLevel::Warn),
        (Some(Code::UpstreamUnreachable), End::Complete, 502, LogLevel::Error),
        (Some(Code::RateLimited), End::Panicked, 500, LogLevel::Error),
    ] {
        assert_eq!(level(refused, end, status), expected, "{refused:?} {end:?} {status}");
    }
}

#[test]
fn queries_and_passwords_are_never_written() {
    let (guard, _, lines) = guard(&PathConfig::default());
    for ask in [
        get("/p?token=SECRET&x=SECRET"),
        get("http://SECRET:SECRET@app.example.com:81/p?SECRET"),
        get("/p").with("host", "SECRET@app.example.com:81"),
        get("/p").with("authorization", "Bearer SECRET").with("cookie", "SECRET=SECRET").with("referer", "/?SECRET"),
    ] {
        let mut exchange = ask.begin();
        guard.request(&mut exchange);
        guard.finish(&exchange, &outcome(200));
        let line = String::from_utf8(lines.take().remove(0)).unwrap();
        assert!(!line.contains("SECRET"), "{line}");
        assert!(line.contains("\"path\":\"/p\""), "{line}");
    }
}

#[test]
fn long_things_are_cut_and_say_so() {
    let (guard, _, lines) = guard(&PathConfig::default());
    let mut exchange = get(&format!("/{}", "p".repeat(5000)))
        .with("user-agent", "u".repeat(5000))
        .with("host", "h".repeat(5000))
        .begin();
    guard.request(&mut exchange);
    guard.finish(&exchange, &outcome(200));
    let line = only(&lines);
    assert_eq!(line["path"].as_str().unwrap(), format!("/{}...", "p".repeat(2047)));
    assert_eq!(line["user_agent"].as_str().unwrap(), format!("{}...", "u".repeat(256)));
    assert_eq!(line["host"].as_str().unwrap(), format!("{}...", "h".repeat(256)));
}

#[test]
fn escaping_keeps_what_is_readable_and_shows_the_rest() {
    for (bytes, expected) in [
        (&b"plain /path"[..], "plain /path"),
        (b"a\"b\\c", "a\\\"b\\\\c"),
        (b"a\nb\r\tc\0\x7f\x1b[31m", "a\\u000ab\\u000d\\u0009c\\u0000\\u007f\\u001b[31m"),
        ("Zoë 東京 🙂".as_bytes(), "Zoë 東京 🙂"),
        ("a\u{2028}b\u{202e}c\u{85}d\u{feff}".as_bytes(), "a\\u2028b\\u202ec\\u0085d\\ufeff"),
        ("\u{e0041}".as_bytes(), "\\udb40\\udc41"),
        (b"\xff\xc3(", "\\u00ff\\u00c3("),
    ] {
        let mut out = Vec::new();
        put_escaped(&mut out, bytes, 100);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let mut out = Vec::new();
    put_escaped(&mut out, "ab\u{20ac}".as_bytes(), 3);
    assert_eq!(String::from_utf8(out).unwrap(), "ab\\u00e2...", "a character that is cut in two is shown as bytes");
}

#[test]
fn every_byte_at_every_place_is_escaped_exactly_when_it_must_be() {
    for byte in 0..=255u8 {
        for place in 0..20 {
            let mut bytes = [b'a'; 20];
            bytes[place] = byte;
            let mut out = Vec::new();
            put_escaped(&mut out, &bytes, 100);
            let is_plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            assert_eq!(out == bytes, is_plain, "{byte} at {place}");
        }
    }
}

#[test]
fn the_kept_stamp_always_tells_the_time_it_is_asked_for() {
    let mut stamp = Stamp::NEVER;
    for unix_millis in [0, 1, 999, 1000, 1000, 999, 1_767_261_600_000, 1_767_261_600_042, 1_767_261_600_007, u64::MAX] {
        assert_eq!(*stamp.at(unix_millis), portcullis_core::clock::rfc3339(unix_millis), "{unix_millis}");
    }
}

#[test]
fn lines_can_be_turned_off_and_written_as_text_per_route() {
    let mut config = named(&["quiet", "plain", "json"]);
    config.routes[0].access_log = Some(Config { enabled: Some(false), ..Config::default() });
    config.routes[1].access_log = Some(Config { format: Some(Format::Text), ..Config::default() });
    let (guard, ground, lines) = guard(&config);
    for (index, name) in ["quiet", "plain", "json"].into_iter().enumerate() {
        let mut exchange = routed(
            get("/x y".replace(' ', "%20").as_str()).with("user-agent", "a\nb".replace('\n', "\t")),
            index,
            name,
        );
        guard.request(&mut exchange);
        exchange.request_id = Some("id-1".try_into().unwrap());
        guard.finish(&exchange, &outcome(200));
    }
    let lines = lines.take();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        String::from_utf8(lines[0].clone()).unwrap(),
        "2026-01-01T10:00:00.000Z info GET /x%20y 200 1.234ms peer=203.0.113.9:50000 end=complete in=0 out=0 attempts=0 \
         upstream=app route=plain id=id-1 agent=\"a\\u0009b\""
    );
    assert!(lines[1].starts_with(b"{"));
    let exposition = ground.metrics.render();
    assert_eq!(
        sample(&exposition, r#"portcullis_http_requests_total{route="quiet",method="GET",status="200"}"#),
        Some(1.0)
    );

    let off = PathConfig { access_log: Config { enabled: Some(false), ..Config::default() }, ..PathConfig::default() };
    let (guard, _, lines) = self::guard(&off);
    let mut exchange = get("/").with("host", "a").begin();
    guard.request(&mut exchange);
    assert!(exchange.logged_host.is_none(), "nothing is kept for nobody");
    guard.finish(&exchange, &outcome(200));
    assert!(lines.take().is_empty());
}

#[test]
fn text_lines_tell_refusals_too() {
    let config =
        PathConfig { access_log: Config { format: Some(Format::Text), ..Config::default() }, ..PathConfig::default() };
    let (guard, _, lines) = guard(&config);
    let path = Path::builder().add(guard).build().unwrap();
    let mut exchange = get("/a").with("host", "h").begin();
    path.descend(&mut exchange);
    exchange.would_refuse("rate_limit", Code::RateLimited, Rule::Only);
    exchange.by_rule(Rule::Fixed("a rule"));
    path.refuse(&mut exchange, "proxy", Refusal::new(Code::UpstreamClosed));
    path.finish(&exchange, &Outcome { attempts: 1, upstream_nanos: 1_000, ..outcome(502) });
    assert_eq!(
        String::from_utf8(lines.take().remove(0)).unwrap(),
        "2026-01-01T10:00:00.000Z error GET h/a 502 1.234ms peer=203.0.113.9:50000 end=complete in=0 out=0 upstream_ms=0.001 \
         attempts=1 refused=ERR_UPSTREAM_CLOSED guard=proxy rule=\"a rule\" would_refuse=ERR_RATE_LIMITED guard=rate_limit"
    );
}

#[test]
fn the_only_route_is_counted_under_the_name_that_the_route_guard_gives_it() {
    let config = PathConfig { upstreams: vec!["app".to_owned()], ..PathConfig::default() };
    let (guard, ground, lines) = guard(&config);
    let path = Path::builder()
        .add(request_id::build(&config, &ground).unwrap())
        .add(guard)
        .add(client_address::build(&config, &ground).unwrap())
        .add(route::build(&config, &ground).unwrap())
        .build()
        .unwrap();
    let mut exchange = get("/a/./b/?q=1").with("host", "app.example.com").begin();
    assert!(matches!(path.descend(&mut exchange), Descent::Through));
    path.finish(&exchange, &Outcome { attempts: 1, ..outcome(200) });
    let line = only(&lines);
    assert_eq!(line["path"], "/a/b", "the path as everyone understood it");
    assert_eq!(line["request_id"], exchange.request_id.unwrap().as_str());
    assert_eq!(line["client"], "203.0.113.9");
    let series = format!(
        r#"portcullis_http_requests_total{{route="{}",method="GET",status="200"}}"#,
        line["route"].as_str().unwrap()
    );
    assert_eq!(sample(&ground.metrics.render(), &series), Some(1.0), "{series}");
    assert_eq!(
        sample(&ground.metrics.render(), r#"portcullis_upstream_request_duration_seconds_count{upstream="app"}"#),
        Some(1.0)
    );
}

#[test]
fn what_is_written_overrides_what_is_not() {
    let read: Config = serde_json::from_str(r#"{"enabled":false,"format":"text"}"#).unwrap();
    assert_eq!(read.over(&Config::defaults()).compile(), Rules { enabled: false, format: Format::Text });
    assert_eq!(Config::default().over(&read), read);
    assert_eq!(Config::default().over(&Config::defaults()).compile(), Rules { enabled: true, format: Format::Json });
    assert!(serde_json::from_str::<Config>(r#"{"level":"info"}"#).is_err());
}
