//! What it costs a request that passes to be held against lists and bans.
//!
//! `cargo bench -p portcullis-guards --bench ip_block`, about 5 s. The rows `2` run one guard from two threads at once; their
//! times are those that one thread sees.
//!
//! Invariant: every iteration is one request of an address that no rule speaks of, where the row does not say otherwise.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use http::{HeaderMap, Method, Version};
use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_core::units::Cidr;
use portcullis_guards::access_log::LogSink;
use portcullis_guards::config::PathConfig;
use portcullis_guards::exchange::{Arrival, Body, ClientAddress, Exchange, Touch};
use portcullis_guards::guard::Guard;
use portcullis_guards::ip_block::{self, IpBlock, Order};
use portcullis_guards::request_path::Ground;
use portcullis_store::bans::Origin;
use portcullis_store::counters::KeyHasher;
use portcullis_store::memory::counters::{BYTES_MIN, MemoryCounters};

fn main() {
    divan::main();
}

const THREADS: [usize; 2] = [1, 2];
const NOW: Now = Now { monotonic_nanos: 0, unix_millis: 1_767_261_600_000 };

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &[u8]) {}
}

/// A guard with so many single addresses on its deny list, and so many banned.
fn guard(denied: u32, banned: u32) -> IpBlock {
    let metrics = Arc::new(Registry::new("p"));
    let counters = Arc::new(MemoryCounters::new(BYTES_MIN).expect("the least is enough"));
    let ground = Ground::new(metrics, counters, KeyHasher::from_seed([7; 16]), Arc::new(NoLog));
    // Apart from each other, so that no two make one range.
    let network = |number: u32| Cidr::from(IpAddr::from(Ipv4Addr::from_bits(0x0B00_0000 + 2 * number)));
    let mut config = PathConfig::default();
    config.ip_block.deny = Some((0..denied).map(network).collect());
    let guard = ip_block::build(&config, &ground).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    guard.begins();
    for number in 0..banned {
        let time = Some(Duration::from_secs(3600));
        let order = Order { network: network(number), origin: Origin::Operator, reason: String::new(), time };
        ground.bans.add(order, &NOW).expect("there is room");
    }
    guard
}

fn exchange(address: IpAddr) -> Exchange {
    let arrival = Arrival {
        method: Method::GET,
        uri: "/".parse().expect("a target"),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body: Body::Absent,
        peer: SocketAddr::new(address, 4711),
        is_secure: false,
    };
    let mut exchange = Exchange::new(arrival, NOW, Touch::Take);
    exchange.client = Some(ClientAddress { address, group: address, peer_is_trusted: false });
    exchange
}

thread_local! {
    static V4: std::cell::RefCell<Exchange> = std::cell::RefCell::new(exchange(IpAddr::from([203, 0, 113, 9])));
    static V6: std::cell::RefCell<Exchange> = std::cell::RefCell::new(exchange("2001:db8::9".parse().expect("an address")));
    static DENIED: std::cell::RefCell<Exchange> = std::cell::RefCell::new(exchange(IpAddr::from([11, 0, 0, 2])));
}

fn run(
    bencher: Bencher<'_, '_>,
    guard: &IpBlock,
    client: &'static std::thread::LocalKey<std::cell::RefCell<Exchange>>,
) {
    bencher.bench(|| client.with_borrow_mut(|exchange| drop(black_box(guard.request(exchange)))));
}

#[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
fn nothing_but_the_pretend_client(bencher: Bencher) {
    bencher.bench(|| V4.with_borrow_mut(|exchange| black_box(exchange.now.monotonic_nanos)));
}

#[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
fn no_lists_and_no_bans(bencher: Bencher) {
    run(bencher, &guard(0, 0), &V4);
}

#[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
fn no_lists_and_no_bans_v6(bencher: Bencher) {
    run(bencher, &guard(0, 0), &V6);
}

#[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
fn ten_on_the_deny_list(bencher: Bencher) {
    run(bencher, &guard(10, 0), &V4);
}

#[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
fn a_hundred_thousand_on_the_deny_list(bencher: Bencher) {
    run(bencher, &guard(100_000, 0), &V4);
}

#[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
fn ten_thousand_bans(bencher: Bencher) {
    run(bencher, &guard(0, 10_000), &V4);
}

#[divan::bench(threads = THREADS, sample_size = 1000, sample_count = 200)]
fn refused_by_a_ban(bencher: Bencher) {
    run(bencher, &guard(0, 10_000), &DENIED);
}
