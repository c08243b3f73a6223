//! Tests of the guard: what is kept, for whom, for how long, and what ends it.
//!
//! Invariant: no test reads a clock; times are made up.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use portcullis_core::clock::Now;
use portcullis_core::identity::{Claims, CredentialKind, Identity};
use portcullis_core::refusal::{Code, Refusal};
use serde_json::{Value, json};

use super::*;
use crate::path::{Descent, Path};
use crate::rehearsal::{Ask, NOW, ask, get, ground, outcome, values};
use crate::route;

const SECOND: u64 = 1_000_000_000;

struct Stage {
    path: Path,
    ground: Ground,
}

/// What the client got.
#[derive(Debug)]
struct Heard {
    status: u16,
    headers: HeaderMap,
    body: String,
    stood_in: Option<String>,
}

fn config(value: Value, stale: Option<Duration>) -> PathConfig {
    let mut config: PathConfig = serde_json::from_value(value).unwrap();
    config.upstreams = vec!["app".to_owned()];
    config.stale = stale.map(|stale| ("app".to_owned(), stale.into())).into_iter().collect();
    config
}

impl Stage {
    fn new() -> Stage {
        Stage::with(json!({}))
    }

    fn with(value: Value) -> Stage {
        let (ground, _) = ground();
        let config = config(value, Some(Duration::from_secs(300)));
        let path = Path::builder()
            .add(route::build(&config, &ground).unwrap())
            .add(build(&config, &ground).unwrap())
            .build()
            .unwrap();
        path.begins();
        Stage { path, ground }
    }

    fn down(&self, ask: Ask, after_seconds: u64) -> Exchange {
        let mut exchange = ask.with("host", "a.example").begin();
        exchange.now = Now {
            monotonic_nanos: NOW.monotonic_nanos + after_seconds * SECOND,
            unix_millis: NOW.unix_millis + after_seconds * 1000,
        };
        assert!(matches!(self.path.descend(&mut exchange), Descent::Through));
        exchange
    }

    fn up(&self, mut exchange: Exchange, status: u16, fields: &[(&str, &str)], body: &str) -> Heard {
        exchange.headers.clear();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let mut head = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers };
        self.path.ascend(&mut exchange, &mut head);
        let body = match exchange.instead.take() {
            Some(instead) => String::from_utf8(instead.to_vec()).unwrap(),
            None => {
                if let Some(tap) = &exchange.answer_tap {
                    tap.feed(body.as_bytes());
                }
                body.to_owned()
            }
        };
        self.path.finish(&exchange, &outcome(head.status.as_u16()));
        let stood_in = exchange.trail.stood_in().map(|step| step.rule.text().to_owned());
        Heard { status: head.status.as_u16(), headers: head.headers, body, stood_in }
    }

    /// The whole way.
    fn go(&self, ask: Ask, after_seconds: u64, status: u16, fields: &[(&str, &str)], body: &str) -> Heard {
        let exchange = self.down(ask, after_seconds);
        self.up(exchange, status, fields, body)
    }

    /// What `ask` gets while the upstream fails.
    fn in_need(&self, ask: Ask, after_seconds: u64) -> Heard {
        self.go(ask, after_seconds, 503, &[], "down")
    }

    fn keeps(&self, ask: Ask, fields: &[(&str, &str)]) -> bool {
        self.go(ask, 0, 200, fields, "good");
        self.in_need(get("/x"), 10).status == 200
    }
}

const GOOD: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("content-type", "text/plain")];

#[test]
fn the_last_good_answer_stands_in_and_is_marked() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "first");
    stage.go(get("/x"), 5, 200, GOOD, "second");
    let heard = stage.in_need(get("/x"), 75);
    assert_eq!((heard.status, heard.body.as_str(), heard.stood_in.as_deref()), (200, "second", Some("stale")));
    assert_eq!(values(&heard.headers, "age"), ["70"]);
    assert_eq!(values(&heard.headers, "content-type"), ["text/plain"]);
    let expected = "portcullis; fwd=stale; fwd-status=503; ttl=-10; detail=stale-if-error";
    assert_eq!(values(&heard.headers, "cache-status"), [expected]);
    let fresh = stage.in_need(get("/x"), 10);
    assert_eq!((fresh.stood_in.as_deref(), values(&fresh.headers, "age")), (Some("fresh"), vec!["5".to_owned()]));
    let text = stage.ground.metrics.render();
    assert!(text.contains("portcullis_stale_if_error_served_total{route=\"default\"} 2"), "{text}");
}

#[test]
fn it_is_served_up_to_its_age_and_not_a_second_longer() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    assert_eq!(stage.in_need(get("/x"), 60 + 299).status, 200);
    assert_eq!(stage.in_need(get("/x"), 60 + 300).status, 503);
    // What it had before it came counts; what it says itself shortens the operator's time.
    stage.go(get("/y"), 0, 200, &[("cache-control", "max-age=60, stale-if-error=10"), ("age", "30")], "good");
    assert_eq!(stage.in_need(get("/y"), 39).status, 200);
    assert_eq!(stage.in_need(get("/y"), 40).status, 503);
}

#[test]
fn while_the_upstream_answers_nothing_comes_from_memory() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    for status in [200, 204, 301, 304, 400, 401, 404, 429, 501, 505] {
        let heard = stage.go(get("/x"), 1, status, &[], "other");
        assert_eq!((heard.status, heard.stood_in), (status, None));
    }
}

#[test]
fn only_what_any_shared_cache_may_keep_is_kept() {
    let both = |value: &'static str, name: &'static str| vec![("cache-control", "max-age=60"), (name, value)];
    let kept: Vec<Vec<(&str, &str)>> = vec![
        vec![("cache-control", "public")],
        vec![("cache-control", "max-age=0")],
        vec![("cache-control", "s-maxage=60")],
        vec![("cache-control", "s-maxage=0, stale-if-error=60")],
        vec![("expires", "Thu, 01 Jan 2026 10:05:00 GMT")],
        both("accept-language", "vary"),
        both("Thu, 01 Jan 2026 09:59:58 GMT", "date"),
    ];
    for fields in kept {
        assert!(Stage::new().keeps(get("/x"), &fields), "{fields:?}");
    }
    let not_kept: Vec<Vec<(&str, &str)>> = vec![
        vec![],
        vec![("cache-control", "immutable")],
        vec![("cache-control", "public, no-store")],
        vec![("cache-control", "public"), ("cache-control", "private")],
        vec![("cache-control", "max-age=60, no-cache=\"set-cookie\"")],
        vec![("cache-control", "max-age=5, must-revalidate")],
        vec![("cache-control", "max-age=5, proxy-revalidate, stale-if-error=600")],
        vec![("cache-control", "s-maxage=5")],
        vec![("pragma", "x")],
        both("a=b", "set-cookie"),
        both("*", "vary"),
        both("accept, *", "vary"),
        both("a b", "vary"),
        both("old", "age"),
        both("x-sum", "trailer"),
        both("a,b,c,d,e,f,g,h,i", "vary"),
    ];
    for fields in not_kept {
        assert!(!Stage::new().keeps(get("/x"), &fields), "{fields:?}");
    }
}

#[test]
fn nobody_gets_what_was_another_ones() {
    let shared = [("cache-control", "max-age=60")];
    assert!(!Stage::new().keeps(get("/x").with("authorization", "Bearer a"), &[("cache-control", "public")]));
    assert!(!Stage::new().keeps(get("/x").with("cookie", "sid=a"), &shared));
    assert!(Stage::new().keeps(get("/x").with("cookie", "sid=a"), &[("cache-control", "public")]));
    assert!(!Stage::new().keeps(get("/x").with("cache-control", "no-store"), &shared));
    assert!(!Stage::new().keeps(get("/x").with("range", "bytes=0-1"), &shared));
    assert!(!Stage::new().keeps(get("/x").with("upgrade", "websocket"), &shared));
    assert!(!Stage::new().keeps(ask("HEAD", "/x"), &shared));
    assert!(!Stage::new().keeps(ask("OPTIONS", "/x"), &shared));
    assert!(!Stage::new().keeps(get("/x?a=1"), &shared), "another query");
    assert!(!Stage::new().keeps(get("/x").secure(), &shared), "another scheme");
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    assert_eq!(stage.in_need(get("/x").with("authorization", "Bearer a"), 1).status, 503);
    let elsewhere = crate::rehearsal::get("/x").with("host", "b.example");
    let mut exchange = elsewhere.begin();
    assert!(matches!(stage.path.descend(&mut exchange), Descent::Through));
    assert_eq!(stage.up(exchange, 503, &[], "").status, 503, "another host");
    let mut exchange = get("/x").with("host", "a.example").begin();
    let claims = Claims { user: "ada".to_owned(), issuer: "id".to_owned(), ..Claims::default() };
    exchange.identity = Identity::new(CredentialKind::Session, claims).ok().map(Arc::new);
    assert!(matches!(stage.path.descend(&mut exchange), Descent::Through));
    assert_eq!(stage.up(exchange, 503, &[], "").status, 503, "somebody who is known");
}

#[test]
fn vary_chooses_among_answers() {
    let stage = Stage::new();
    let fields = [("cache-control", "max-age=60"), ("vary", "Accept-Language, x-a")];
    for language in ["de", "en", "de, en"] {
        stage.go(get("/x").with("accept-language", language), 0, 200, &fields, language);
    }
    for language in ["de", "en", "de, en"] {
        assert_eq!(stage.in_need(get("/x").with("accept-language", language), 1).body, language);
    }
    assert_eq!(stage.in_need(get("/x").with("accept-language", "fr"), 1).status, 503);
    assert_eq!(stage.in_need(get("/x"), 1).status, 503);
    assert_eq!(stage.in_need(get("/x").with("accept-language", "de").with("x-a", "1"), 1).status, 503);
    for number in 0..20 {
        stage.go(get("/x").with("accept-language", number.to_string()), 2, 200, &fields, "n");
    }
    assert_eq!(stage.in_need(get("/x").with("accept-language", "de"), 3).status, 503, "eight variants at most");
    assert_eq!(stage.in_need(get("/x").with("accept-language", "19"), 3).status, 200);
}

#[test]
fn a_write_or_another_answer_ends_it() {
    for (method, status, is_ended) in [
        ("POST", 200, true),
        ("PUT", 303, true),
        ("DELETE", 204, true),
        ("POST", 400, false),
        ("POST", 503, false),
        ("GET", 404, true),
        ("GET", 401, false),
        ("GET", 403, false),
        ("GET", 410, true),
        ("GET", 302, true),
        ("GET", 304, false),
        ("GET", 429, false),
        ("GET", 500, false),
        ("GET", 200, true),
    ] {
        let stage = Stage::new();
        stage.go(get("/x"), 0, 200, GOOD, "good");
        stage.go(ask(method, "/x"), 1, status, &[], "");
        let expected = if is_ended { 503 } else { 200 };
        assert_eq!(stage.in_need(get("/x"), 2).status, expected, "{method} {status}");
    }
}

#[test]
fn an_answer_that_was_on_its_way_during_a_write_is_not_kept() {
    let stage = Stage::new();
    let slow = stage.down(get("/x"), 0);
    stage.go(ask("PUT", "/x"), 1, 204, &[], "");
    stage.up(slow, 200, GOOD, "old");
    assert_eq!(stage.in_need(get("/x"), 2).status, 503);
    let late = stage.down(get("/x"), 3);
    stage.go(get("/x"), 5, 200, GOOD, "newer");
    stage.up(late, 200, GOOD, "older");
    assert_eq!(stage.in_need(get("/x"), 6).body, "newer");
}

#[test]
fn what_ended_early_or_is_too_long_is_not_kept() {
    let stage = Stage::with(json!({ "stale_if_error": { "answer": "1KiB", "memory": "1MiB" } }));
    let length = |length: &'static str| [("cache-control", "max-age=60"), ("content-length", length)];
    assert_eq!(stage.go(get("/x"), 0, 200, &length("9"), "good").status, 200);
    assert_eq!(stage.in_need(get("/x"), 1).status, 503, "five bytes were missing");
    stage.go(get("/x"), 2, 200, GOOD, &"x".repeat(1025));
    assert_eq!(stage.in_need(get("/x"), 3).status, 503);
    stage.go(get("/x"), 4, 200, GOOD, &"x".repeat(1024));
    assert_eq!(stage.in_need(get("/x"), 5).body.len(), 1024);
    stage.go(get("/x"), 6, 200, &length("4096"), "…");
    assert_eq!(stage.in_need(get("/x"), 7).status, 503, "what has become too long ends what was kept");
    let cut = stage.down(get("/y"), 0);
    let mut cut_head = crate::rehearsal::answer(GOOD);
    let mut exchange = cut;
    stage.path.ascend(&mut exchange, &mut cut_head);
    stage.path.finish(&exchange, &Outcome { end: End::UpstreamCut, ..outcome(200) });
    assert_eq!(stage.in_need(get("/y"), 1).status, 503);
}

#[test]
fn memory_is_bounded_and_a_flood_of_urls_fits() {
    let stage = Stage::with(json!({ "stale_if_error": { "answer": "64KiB", "memory": "1MiB" } }));
    let body = "x".repeat(60_000);
    for number in 0..200 {
        stage.go(get(&format!("/{number}")), 0, 200, GOOD, &body);
        assert!(stage.ground.shelf.weight() <= 1024 * 1024);
    }
    assert!(stage.ground.shelf.weight() > 512 * 1024, "it is used");
    let on_their_way: Vec<Exchange> = (0..200)
        .map(|number| {
            let mut exchange = stage.down(get(&format!("/w{number}")), 0);
            stage.path.ascend(&mut exchange, &mut crate::rehearsal::answer(GOOD));
            exchange
        })
        .collect();
    let kept = on_their_way.iter().filter(|exchange| exchange.answer_tap.is_some()).count();
    assert_eq!(kept, 200, "who reads nothing takes no room");
    let taken = |exchange: &Exchange| {
        let tap = exchange.answer_tap.as_ref().unwrap();
        tap.feed(body.as_bytes());
        !tap.seen().is_cut
    };
    assert_eq!(on_their_way.iter().filter(|exchange| taken(exchange)).count(), 4, "a quarter of 1 MiB, 60 kB each");
    drop(on_their_way);
    stage.go(get("/again"), 1, 200, GOOD, &body);
    assert_eq!(stage.in_need(get("/again"), 2).status, 200, "all of the room was given back");
}

#[test]
fn refusals_of_the_proxy_are_stood_in_for_and_our_own_defects_are_not() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    let refuse = |code: Code, by: &'static str| {
        let mut exchange = stage.down(get("/x"), 90);
        let (head, body) = stage.path.refuse(&mut exchange, by, Refusal::new(code).closing());
        (
            head.status.as_u16(),
            values(&head.headers, "cache-status").concat(),
            values(&head.headers, "connection"),
            body,
        )
    };
    let (status, how, connection, body) = refuse(Code::CircuitOpen, "breaker");
    assert_eq!((status, &*body, connection.concat().as_str()), (200, b"good".as_slice(), "close"));
    assert_eq!(how, "portcullis; hit; ttl=-30; detail=stale-if-error");
    let (status, how, ..) = refuse(Code::UpstreamTimeout, "proxy");
    assert_eq!((status, how.as_str()), (200, "portcullis; fwd=stale; ttl=-30; detail=stale-if-error"));
    assert_eq!(refuse(Code::Internal, "proxy").0, 500);
    assert_eq!(refuse(Code::BodyTimeout, "proxy").0, 408);
}

#[test]
fn head_gets_the_head() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, &[("cache-control", "max-age=60"), ("content-length", "4")], "good");
    let heard = stage.in_need(ask("HEAD", "/x"), 1);
    assert_eq!(
        (heard.status, heard.body.as_str(), values(&heard.headers, "content-length").concat()),
        (200, "", "4".into())
    );
}

#[test]
fn closed_routes_and_other_upstreams_keep_nothing() {
    let routes =
        json!({ "routes": [{ "name": "all", "match": { "path": "/**" }, "on_outage": { "upstream": "closed" } }] });
    assert!(!Stage::with(routes).keeps(get("/x"), GOOD));
    let asks =
        json!({ "routes": [{ "name": "all", "match": { "path": "/**" }, "on_outage": { "upstream": "stale" } }] });
    assert!(Stage::with(asks.clone()).keeps(get("/x"), GOOD));
    let mistakes = build(&config(asks, None), &ground().0).err().unwrap();
    assert_eq!(mistakes[0].path, "routes[0].on_outage.upstream");
}

#[test]
fn bounds_are_checked() {
    for (value, time, at) in [
        (json!({ "stale_if_error": { "memory": "1KiB" } }), 300, "stale_if_error.memory"),
        (json!({ "stale_if_error": { "memory": "1MiB", "answer": "1MiB" } }), 300, "stale_if_error.answer"),
        (json!({}), 0, "upstreams.app.stale_if_error"),
        (json!({}), 8 * 24 * 3600, "upstreams.app.stale_if_error"),
    ] {
        let mistakes = build(&config(value, Some(Duration::from_secs(time))), &ground().0).err().unwrap();
        assert!(mistakes.iter().any(|mistake| mistake.path == at), "{at}: {mistakes:?}");
    }
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    let exchange = stage.down(get("/x").dry(), 10);
    let step = exchange.trail.steps().last().unwrap();
    assert_eq!(step.detail.as_deref(), Some("an answer of 10 s ago is kept, and served for 300 s after it is stale"));
    assert!(exchange.stale.is_none());
}

#[test]
fn who_asks_for_eight_variants_pushes_out_one() {
    let stage = Stage::new();
    let fields = [("cache-control", "max-age=60"), ("vary", "accept-encoding")];
    let ask = |encoding: &str| get("/x").with("accept-encoding", encoding);
    for _ in 0..3 {
        for encoding in ["gzip", "br"] {
            stage.go(ask(encoding), 0, 200, &fields, encoding);
        }
    }
    for number in 0..20 {
        stage.go(ask(&format!("x{number}")), 1, 200, &fields, "x");
    }
    assert_eq!(stage.in_need(ask("gzip"), 2).body, "gzip");
    assert_eq!(stage.in_need(ask("br"), 2).body, "br");
}

#[test]
fn a_request_with_a_cookie_ends_nothing_for_others() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    stage.go(get("/x").with("cookie", "sid=a"), 1, 200, GOOD, "mine");
    assert_eq!(stage.in_need(get("/x"), 2).body, "good");
}

#[test]
fn what_is_kept_has_memory_of_its_own_and_all_of_it_is_weighed() {
    let stage = Stage::new();
    let vary = [("cache-control", "max-age=60"), ("vary", "x-a")];
    stage.go(get("/x").with("x-a", "v".repeat(2048)), 0, 200, &vary, "good");
    assert!(stage.ground.shelf.weight() > 2048 + 4, "the value that chose it counts");
    assert!(!{
        stage.go(get("/y").with("x-a", "v".repeat(2049)), 0, 200, &vary, "good");
        stage.in_need(get("/y").with("x-a", "v".repeat(2049)), 1).status == 200
    });
    let whole = Bytes::from(vec![b'x'; 64 * 1024]);
    let piece = HeaderValue::from_maybe_shared(whole.slice(10..20)).unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("x-a", piece);
    let copy = decide::copied_fields(&fields);
    assert_eq!(copy, fields);
    assert_ne!(copy["x-a"].as_bytes().as_ptr(), fields["x-a"].as_bytes().as_ptr());
    drop(fields);
    assert!(whole.is_unique(), "nothing holds the buffer that the head was read into");
}

#[test]
fn what_proxies_in_front_say_tells_answers_apart() {
    for (name, value) in [("x-forwarded-host", "b"), ("x-forwarded-prefix", "/p"), ("x-forwarded-proto", "https")] {
        let stage = Stage::new();
        stage.go(get("/x").with(name, value), 0, 200, GOOD, "told");
        assert_eq!(stage.in_need(get("/x"), 1).status, 503, "{name}");
        assert_eq!(stage.in_need(get("/x").with(name, value), 1).status, 200, "{name}");
        assert_eq!(stage.in_need(get("/x").with(name, "other"), 1).status, 503, "{name}");
    }
    let stage = Stage::new();
    stage.go(get("/x").with("x-forwarded-for", "198.51.100.1"), 0, 200, GOOD, "good");
    assert_eq!(stage.in_need(get("/x").with("x-forwarded-for", "198.51.100.2"), 1).status, 200);
}

#[test]
fn a_field_that_chooses_a_route_chooses_the_answer() {
    let stage = Stage::with(json!({ "routes": [
        { "name": "inner", "match": { "path": "/**", "headers": { "X-Internal": "s3cret" } } },
        { "name": "all", "match": { "path": "/**" } },
    ] }));
    stage.go(get("/x").with("x-internal", "s3cret"), 0, 200, GOOD, "inner");
    assert_eq!(stage.in_need(get("/x"), 1).status, 503);
    assert_eq!(stage.in_need(get("/x").with("x-internal", "s3cret"), 1).body, "inner");
    stage.go(ask("PUT", "/x"), 2, 204, &[], "");
    assert_eq!(stage.in_need(get("/x").with("x-internal", "s3cret"), 3).status, 503, "a write ends all of them");
}

#[test]
fn its_age_is_that_of_the_moment_of_the_answer() {
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    let mut slow = stage.down(get("/x"), 350);
    assert!(slow.needs_time());
    slow.answer_nanos = Some(slow.now.monotonic_nanos + 9 * SECOND);
    let heard = stage.up(slow, 503, &[], "");
    assert_eq!((heard.status, values(&heard.headers, "age")), (200, vec!["359".to_owned()]));
    let mut slower = stage.down(get("/x"), 350);
    slower.answer_nanos = Some(slower.now.monotonic_nanos + 10 * SECOND);
    assert_eq!(stage.up(slower, 503, &[], "").status, 503);
}

#[test]
fn reads_of_what_is_not_there_do_not_end_what_is_on_its_way() {
    let stage = Stage::new();
    let slow = stage.down(get("/x"), 0);
    for number in 0..20_000 {
        stage.go(get(&format!("/none{number}")), 0, 404, &[], "");
    }
    stage.up(slow, 200, GOOD, "good");
    assert_eq!(stage.in_need(get("/x"), 1).status, 200);
}

#[test]
fn what_may_have_been_cut_or_was_told_by_a_twin_is_not_kept() {
    let stage = Stage::new();
    let mut exchange = stage.down(get("/x"), 0);
    exchange.ends_with_connection = true;
    stage.up(exchange, 200, GOOD, "half of i");
    assert_eq!(stage.in_need(get("/x"), 1).status, 503);
    let vary = [("cache-control", "max-age=60"), ("vary", "accept-language")];
    assert!(!Stage::new().keeps(get("/x").with("accept_language", "evil"), &vary));
    let two_ages = [("cache-control", "max-age=60"), ("age", "1"), ("age", "400")];
    assert!(!Stage::new().keeps(get("/x"), &two_ages));
    for field in ["cdn-cache-control", "surrogate-control"] {
        assert!(!Stage::new().keeps(get("/x"), &[("cache-control", "max-age=60"), (field, "private")]), "{field}");
    }
    let stage = Stage::new();
    stage.go(get("/x"), 0, 200, GOOD, "good");
    stage.ground.shelf.clear();
    assert_eq!(stage.in_need(get("/x"), 1).status, 503, "another upstream");
}
