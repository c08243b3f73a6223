//! Tests of the guard: mistakes in config, who is counted, how much passes, what clients are told, and the whole path.
//!
//! "Row" numbers are those of the list of attacks the project is tested against (119 to 129: limits).
//!
//! Invariant: no test reads a clock or sleeps; times are made up.

mod counting;
mod mistakes;
mod path;
mod subjects;
mod told;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Version};
use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_store::counters::KeyHasher;
use portcullis_store::memory::counters::MemoryCounters;
use serde_json::{Value, json};

use super::RateLimit;
use crate::access_log::LogSink;
use crate::config::PathConfig;
use crate::exchange::{Arrival, Body, ClientAddress, Exchange, Touch};
use crate::guard::{Guard, ResponseHead, Verdict};
use crate::request_path::Ground;
use crate::route::Route;

const SECOND: u64 = 1_000_000_000;
/// 2026-01-01T10:00:00Z, when the pretend process starts.
const EPOCH_MILLIS: u64 = 1_767_261_600_000;

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &[u8]) {}
}

fn ground_of(bytes: usize) -> Ground {
    let metrics = Arc::new(Registry::new("p"));
    let counters = Arc::new(MemoryCounters::new(bytes).unwrap());
    Ground::new(metrics, counters, KeyHasher::from_seed([7; 16]), Arc::new(NoLog))
}

fn ground() -> Ground {
    ground_of(1 << 20)
}

/// A config whose general policies are `policies`.
fn general(policies: Value) -> PathConfig {
    serde_json::from_value(json!({ "rate_limit": policies })).unwrap()
}

fn build(config: &PathConfig) -> RateLimit {
    super::build(config, &ground()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

/// A request as the guards above leave it.
struct Request {
    now: u64,
    address: IpAddr,
    route: Option<(usize, &'static str, u32)>,
    headers: HeaderMap,
}

impl Request {
    fn at(now: u64) -> Request {
        Request { now, address: IpAddr::from([192, 0, 2, 1]), route: None, headers: HeaderMap::new() }
    }

    fn from(self, address: &str) -> Request {
        Request { address: address.parse().unwrap(), ..self }
    }

    /// On the route with this place, name and cost.
    fn on(self, index: usize, name: &'static str, cost: u32) -> Request {
        Request { route: Some((index, name, cost)), ..self }
    }

    fn with(mut self, name: &'static str, value: &str) -> Request {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    fn exchange(self, touch: Touch) -> Exchange {
        let arrival = Arrival {
            method: Method::GET,
            uri: "/".parse().unwrap(),
            version: Version::HTTP_11,
            headers: self.headers,
            body: Body::Absent,
            peer: (self.address, 4711).into(),
            is_secure: false,
        };
        let now = Now { monotonic_nanos: self.now, unix_millis: EPOCH_MILLIS + self.now / 1_000_000 };
        let mut exchange = Exchange::new(arrival, now, touch);
        exchange.client = Some(ClientAddress { address: self.address, group: self.address, peer_is_trusted: false });
        exchange.route = self.route.map(|(index, name, cost)| {
            Arc::new(Route { index, name: Arc::from(name), upstream: Arc::from("app"), cost })
        });
        exchange
    }
}

/// What a request got: `None` when it passed, else `Retry-After`.
fn take(guard: &RateLimit, request: Request) -> Option<u64> {
    ask(guard, &mut request.exchange(Touch::Take))
}

fn ask(guard: &RateLimit, exchange: &mut Exchange) -> Option<u64> {
    match guard.request(exchange) {
        Verdict::Pass | Verdict::Skip => None,
        Verdict::Refuse(refusal) => Some(refusal.retry_after_seconds.expect("every 429 says when to come back")),
        Verdict::Wait(_) => panic!("the guard never waits"),
    }
}

/// How many of `tries` requests pass.
fn passed(guard: &RateLimit, tries: usize, request: impl Fn() -> Request) -> usize {
    (0..tries).filter(|_| take(guard, request()).is_none()).count()
}

/// The response fields after a request, added to those of the upstream.
fn told(guard: &RateLimit, exchange: &mut Exchange, upstream: HeaderMap) -> HeaderMap {
    let mut head = ResponseHead { status: http::StatusCode::OK, headers: upstream };
    guard.response(exchange, &mut head);
    head.headers
}
