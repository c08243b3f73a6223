//! What rate limits cost a request that passes: deciding, and writing the fields of the answer.
//!
//! `cargo bench -p portcullis-guards --bench rate_limit`, about 10 s. The rows `2` run one guard from two threads at once,
//! each with a client of its own; their times are those that one thread sees. Time moves by itself, so that nobody is
//! refused where the row does not say so.
//!
//! Invariant: every iteration is one request; what the rows of one group share is in the row `nothing_but`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_guards::access_log::LogSink;
use portcullis_guards::config::PathConfig;
use portcullis_guards::exchange::{Arrival, Body, ClientAddress, Exchange, Touch};
use portcullis_guards::guard::{Guard, ResponseHead};
use portcullis_guards::rate_limit::{self, RateLimit};
use portcullis_guards::request_path::Ground;
use portcullis_store::counters::KeyHasher;
use portcullis_store::memory::counters::MemoryCounters;

fn main() {
    divan::main();
}

const THREADS: [usize; 2] = [1, 2];
/// What a clock that is read once a request would have advanced: more than the default policy's time for one unit.
const TICK_NANOS: u64 = 20_000_000;

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &[u8]) {}
}

/// A guard with these general policies, or the default one.
fn guard(policies: Option<&str>) -> RateLimit {
    let metrics = Arc::new(Registry::new("p"));
    let counters = Arc::new(MemoryCounters::new(64 << 20).expect("64 MiB"));
    let ground = Ground::new(metrics, counters, KeyHasher::random().expect("randomness"), Arc::new(NoLog));
    let rate_limit = policies.map(|policies| serde_json::from_str(policies).expect("policies"));
    let config = PathConfig { rate_limit, ..PathConfig::default() };
    rate_limit::build(&config, &ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

/// A client of its own each time: what the guards above have found out about it.
fn exchange() -> Exchange {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let address = IpAddr::from([192, 0, 2, NEXT.fetch_add(1, Ordering::Relaxed)]);
    let arrival = Arrival {
        method: Method::GET,
        uri: "/api/things?page=2".parse().expect("a target"),
        version: Version::HTTP_11,
        headers: HeaderMap::from_iter([(
            http::header::AUTHORIZATION,
            HeaderValue::from_static("Bearer 0123456789abcdef0123456789abcdef"),
        )]),
        body: Body::Absent,
        peer: (address, 4711).into(),
        is_secure: false,
    };
    let now = Now { monotonic_nanos: 0, unix_millis: 1_767_261_600_000 };
    let mut exchange = Exchange::new(arrival, now, Touch::Take);
    exchange.client = Some(ClientAddress { address, group: address, peer_is_trusted: false });
    exchange
}

/// The next request of the same client.
fn next(exchange: &mut Exchange) {
    exchange.now.monotonic_nanos += TICK_NANOS;
    exchange.now.unix_millis += TICK_NANOS / 1_000_000;
}

/// The head of an answer as an upstream sends it.
fn fill(head: &mut ResponseHead) {
    head.headers.clear();
    head.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("1024"));
    head.headers.insert(http::header::DATE, HeaderValue::from_static("Thu, 01 Jan 2026 10:00:00 GMT"));
}

fn empty_head() -> ResponseHead {
    ResponseHead { status: StatusCode::OK, headers: HeaderMap::with_capacity(16) }
}

thread_local! {
    static CLIENT: std::cell::RefCell<(Exchange, ResponseHead)> = std::cell::RefCell::new((exchange(), empty_head()));
}

/// Runs one request of the thread's client.
fn with_client<R>(run: impl FnOnce(&mut Exchange, &mut ResponseHead) -> R) -> R {
    CLIENT.with_borrow_mut(|(exchange, head)| {
        next(exchange);
        run(exchange, head)
    })
}

const TWO: &str =
    r#"[{"name":"burst","limit":"100/1s","burst":200},{"name":"key","limit":"1000000/1h","by":["api_key","address"]}]"#;
const CLOSED: &str = r#"[{"name":"api","limit":"1/1000d"}]"#;

#[divan::bench_group]
mod decide {
    use super::*;

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn nothing_but_the_pretend_client(bencher: Bencher) {
        bencher.bench(|| with_client(|exchange, _| black_box(exchange.now.monotonic_nanos)));
    }

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn one_policy_by_address(bencher: Bencher) {
        let guard = guard(None);
        bencher.bench(|| with_client(|exchange, _| drop(black_box(guard.request(exchange)))));
    }

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn two_policies(bencher: Bencher) {
        let guard = guard(Some(TWO));
        bencher.bench(|| with_client(|exchange, _| drop(black_box(guard.request(exchange)))));
    }

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn refused(bencher: Bencher) {
        let guard = guard(Some(CLOSED));
        bencher.bench(|| with_client(|exchange, _| drop(black_box(guard.request(exchange)))));
    }
}

#[divan::bench_group]
mod whole_with_fields {
    use super::*;

    fn whole(guard: &RateLimit) {
        with_client(|exchange, head| {
            fill(head);
            drop(black_box(guard.request(exchange)));
            guard.response(exchange, head);
            black_box(head.headers.len())
        });
    }

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn nothing_but_the_upstreams_head(bencher: Bencher) {
        bencher.bench(|| {
            with_client(|_, head| {
                fill(head);
                black_box(head.headers.len())
            })
        });
    }

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn one_policy_by_address(bencher: Bencher) {
        let guard = guard(None);
        bencher.bench(|| whole(&guard));
    }

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn two_policies(bencher: Bencher) {
        let guard = guard(Some(TWO));
        bencher.bench(|| whole(&guard));
    }

    #[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
    fn refused(bencher: Bencher) {
        let guard = guard(Some(CLOSED));
        bencher.bench(|| whole(&guard));
    }
}
