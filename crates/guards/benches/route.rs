//! What finding the route costs a request: the whole `route` guard, with 10 and with 10,000 routes, and the `limits` guard.
//!
//! `cargo bench -p portcullis-guards --bench route`, about 10 s. Each row cycles through 1000 targets, so that with 10,000
//! routes the look-ups do not all fall on the same ones. `nothing_but_the_cycle` is what the cycling itself costs.
//!
//! Invariant: rows differ only in the number of routes, not in the form of the requests.

use std::sync::Arc;

use divan::{Bencher, black_box};
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_guards::access_log::LogSink;
use portcullis_guards::config::PathConfig;
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};
use portcullis_guards::guard::{Guard, Verdict};
use portcullis_guards::request_path::Ground;
use portcullis_guards::route::Router;
use portcullis_guards::{limits, route};
use portcullis_store::counters::KeyHasher;
use portcullis_store::memory::counters::{BYTES_MIN, MemoryCounters};
use serde_json::json;

fn main() {
    divan::main();
}

const ROUTES: [usize; 2] = [10, 10_000];
const REQUESTS: usize = 1000;

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _line: &[u8]) {}
}

fn ground() -> Ground {
    let metrics = Arc::new(Registry::new("portcullis"));
    let counters = Arc::new(MemoryCounters::new(BYTES_MIN).expect("the least is enough"));
    Ground::new(metrics, counters, KeyHasher::from_seed([7; 16]), Arc::new(NoLog))
}

fn config(routes: &[serde_json::Value]) -> PathConfig {
    let routes = serde_json::from_value(json!(routes)).expect("well-formed");
    PathConfig { routes, upstreams: vec!["app".to_owned()], ..PathConfig::default() }
}

/// The head of a browser's request.
fn exchange() -> Exchange {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "app.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("connection", "keep-alive"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("cache-control", "max-age=0"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let arrival = Arrival {
        method: Method::GET,
        uri: Uri::from_static("/items/1234?page=2"),
        version: Version::HTTP_11,
        headers,
        body: Body::Absent,
        peer: ([127, 0, 0, 1], 1).into(),
        is_secure: false,
    };
    Exchange::new(arrival, Now { monotonic_nanos: 0, unix_millis: 0 }, Touch::Take)
}

/// Hands the guard one request after the other; `target` and `host` make those of a number below the routes' count.
fn run(
    bencher: Bencher,
    guard: &impl Guard,
    count: usize,
    target: impl Fn(usize) -> String,
    host: Option<fn(usize) -> String>,
) {
    let step = (count / REQUESTS).max(1);
    let numbers = || (0..REQUESTS).map(|i| i * step % count);
    let targets: Vec<Uri> = numbers().map(|i| target(i).parse().expect("a target")).collect();
    let hosts: Vec<HeaderValue> =
        host.iter().flat_map(|host| numbers().map(|i| host(i).parse().expect("a host"))).collect();
    let mut exchange = exchange();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % REQUESTS;
        exchange.uri = targets[next].clone();
        if let Some(host) = hosts.get(next) {
            exchange.headers.insert(HOST, host.clone());
        }
        let verdict = guard.request(black_box(&mut exchange));
        assert!(matches!(verdict, Verdict::Pass));
    });
}

fn router(count: usize, matches: impl Fn(usize) -> serde_json::Value) -> Router {
    let routes: Vec<_> = (0..count).map(|i| json!({ "name": format!("r{i}"), "match": matches(i) })).collect();
    route::build(&config(&routes), &ground()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

struct Nothing;

impl Guard for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Pass
    }
}

#[divan::bench(sample_size = 1000, sample_count = 500)]
fn nothing_but_the_cycle(bencher: Bencher) {
    run(bencher, &Nothing, 10, |i| format!("/tenants/t{i}/items/1234?page=2"), None);
}

#[divan::bench(args = ROUTES, sample_size = 1000, sample_count = 500)]
fn by_path(bencher: Bencher, count: usize) {
    let guard = router(count, |i| json!({ "path": format!("/tenants/t{i}/items/**") }));
    run(bencher, &guard, count, |i| format!("/tenants/t{i}/items/1234?page=2"), None);
}

#[divan::bench(args = ROUTES, sample_size = 1000, sample_count = 500)]
fn by_first_segment(bencher: Bencher, count: usize) {
    let guard = router(count, |i| json!({ "path": format!("/service-{i}/**"), "methods": ["GET"] }));
    run(bencher, &guard, count, |i| format!("/service-{i}/items/1234?page=2"), None);
}

#[divan::bench(args = ROUTES, sample_size = 1000, sample_count = 500)]
fn by_host(bencher: Bencher, count: usize) {
    let guard = router(count, |i| json!({ "host": format!("t{i}.example.com"), "path": "/items/**" }));
    run(bencher, &guard, count, |_| "/items/1234?page=2".to_owned(), Some(|i| format!("t{i}.example.com")));
}

/// A path that must be rewritten: what a spelling out of the common costs.
#[divan::bench(sample_size = 1000, sample_count = 500)]
fn path_not_in_normal_form(bencher: Bencher) {
    let guard = router(1, |_| json!({ "path": "/tenants/**" }));
    run(bencher, &guard, 1, |i| format!("/tenants//t{i}/../items/%61?page=2"), None);
}

#[divan::bench(sample_size = 1000, sample_count = 500)]
fn limits_of_a_get(bencher: Bencher) {
    let guard = limits::build(&config(&[]), &ground()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    run(bencher, &guard, 1, |_| "/items/1234?page=2".to_owned(), None);
}
