//! What one rate-limit decision costs, beside `governor`'s keyed limiter in the same run.
//!
//! Every request is admitted unless the name says otherwise. Figures are per decision as one thread sees it, with one
//! thread and with two on the same limiter. `clock passed in` is the decision alone, as the gateway makes it: it reads
//! the clock once a request for everybody. `hash and clock` is the whole way from bytes to answer.
//! Two threads contend only while both run: on a machine with other work the contended rows come out too low.
//! Only ratios within one run travel to another machine. Run: `cargo bench -p portcullis-store --bench limiter`.
#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]

use divan::{Bencher, black_box};
use governor::clock::{Clock, FakeRelativeClock, QuantaClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use portcullis_store::counters::{Algorithm, CompiledQuota, Counters, Key, KeyHasher, Nanos, PolicyKey, Quota};
use portcullis_store::memory::counters::MemoryCounters;
use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const MIB: usize = 1024 * 1024;
const SECOND: Nanos = 1_000_000_000;
const MANY: u64 = 10_000_000;
const KEYS: [u64; 3] = [1, 1_000, MANY];

/// Ten million keys fit the first table and flood the second, which has room for one in ten of them.
static ROOMY: LazyLock<Filled> = LazyLock::new(|| Filled::new(512 * MIB, MANY));
static TIGHT: LazyLock<Filled> = LazyLock::new(|| Filled::new(16 * MIB, MANY / 5));
static POLICY: LazyLock<PolicyKey> = LazyLock::new(|| KeyHasher::random().unwrap().policy("bench"));
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static GOVERNOR: LazyLock<Governor<QuantaClock>> = LazyLock::new(|| governor(QuantaClock::default(), MANY));
static GOVERNOR_CLOCKLESS: LazyLock<Governor<FakeRelativeClock>> =
    LazyLock::new(|| governor(FakeRelativeClock::default(), 1_000));

type Governor<C> = governor::RateLimiter<u64, DefaultKeyedStateStore<u64>, C, NoOpMiddleware<<C as Clock>::Instant>>;

struct Filled {
    counters: MemoryCounters,
    /// Never runs out within a bench.
    quota: CompiledQuota,
}

impl Filled {
    fn new(bytes: usize, keys: u64) -> Self {
        let quota =
            Quota { algorithm: Algorithm::TokenBucket, limit: 10_000_000, period_nanos: SECOND, burst: 1 << 50 };
        let filled = Self { counters: MemoryCounters::new(bytes).unwrap(), quota: quota.compile().unwrap() };
        for number in 0..keys {
            filled.counters.take(key(number), &filled.quota, 1, 0);
        }
        filled
    }
}

fn governor<C: Clock>(clock: C, keys: u64) -> Governor<C> {
    let quota = governor::Quota::per_second(NonZeroU32::new(1_000_000_000).unwrap());
    let limiter = governor::RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock);
    for number in 0..keys {
        let _ = limiter.check_key(&number);
    }
    limiter
}

fn key(number: u64) -> Key {
    POLICY.key(&[&number.to_le_bytes()])
}

fn now() -> Nanos {
    START.elapsed().as_nanos() as Nanos
}

/// Random numbers below `end`, other ones on each thread.
fn draw(end: u64) -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(0x9E37_79B9_7F4A_7C15);
    thread_local!(static STATE: Cell<u64> = Cell::new(SEED.fetch_add(0x1234_5678_9ABC, Ordering::Relaxed)));
    STATE.with(|state| {
        let mut word = state.get();
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        state.set(word);
        word % end
    })
}

fn main() {
    divan::main();
}

#[divan::bench_group(sample_count = 40, sample_size = 5000)]
mod decision {
    use super::*;

    #[divan::bench(args = KEYS, threads = [1, 2])]
    fn ours_clock_passed_in(bencher: Bencher<'_, '_>, keys: u64) {
        let filled = &*ROOMY;
        let take = |key: Key| filled.counters.take(key, &filled.quota, 1, SECOND);
        bencher.with_inputs(|| key(draw(keys))).bench_values(take);
    }

    #[divan::bench(args = KEYS, threads = [1, 2])]
    fn ours_clock_read(bencher: Bencher<'_, '_>, keys: u64) {
        let filled = &*ROOMY;
        let take = |key: Key| filled.counters.take(key, &filled.quota, 1, now());
        bencher.with_inputs(|| key(draw(keys))).bench_values(take);
    }

    #[divan::bench(args = KEYS, threads = [1, 2])]
    fn ours_hash_and_clock(bencher: Bencher<'_, '_>, keys: u64) {
        let filled = &*ROOMY;
        let take = |number: u64| filled.counters.take(key(number), &filled.quota, 1, now());
        bencher.with_inputs(|| draw(keys)).bench_values(take);
    }

    /// Nine keys in ten are new to the table at every draw, and somebody is forgotten for them.
    #[divan::bench(args = [MANY], threads = [1, 2])]
    fn ours_flooded_clock_passed_in(bencher: Bencher<'_, '_>, keys: u64) {
        let filled = &*TIGHT;
        let take = |key: Key| filled.counters.take(key, &filled.quota, 1, SECOND);
        bencher.with_inputs(|| key(draw(keys))).bench_values(take);
    }

    #[divan::bench(args = [1, 1_000], threads = [1, 2])]
    fn governor_clock_passed_in(bencher: Bencher<'_, '_>, keys: u64) {
        let limiter = &*GOVERNOR_CLOCKLESS;
        bencher.with_inputs(|| draw(keys)).bench_values(|number| limiter.check_key(&number).is_ok());
    }

    #[divan::bench(args = KEYS, threads = [1, 2])]
    fn governor_hash_and_clock(bencher: Bencher<'_, '_>, keys: u64) {
        let limiter = &*GOVERNOR;
        bencher.with_inputs(|| draw(keys)).bench_values(|number| limiter.check_key(&number).is_ok());
    }
}

#[divan::bench_group(sample_count = 40, sample_size = 5000)]
mod parts {
    use super::*;

    #[divan::bench(threads = [1, 2])]
    fn refused_clock_passed_in(bencher: Bencher<'_, '_>) {
        let counters = MemoryCounters::new(MIB).unwrap();
        let quota = Quota { algorithm: Algorithm::TokenBucket, limit: 1, period_nanos: 3600 * SECOND, burst: 1 };
        let quota = quota.compile().unwrap();
        counters.take(key(0), &quota, 1, 0);
        bencher.with_inputs(|| key(0)).bench_values(|key| counters.take(key, &quota, 1, 0));
    }

    #[divan::bench(threads = [1, 2])]
    fn fixed_window_clock_passed_in(bencher: Bencher<'_, '_>) {
        let counters = MemoryCounters::new(MIB).unwrap();
        let quota = Quota { algorithm: Algorithm::FixedWindow, limit: 16_000_000, period_nanos: 60 * SECOND, burst: 0 };
        let quota = quota.compile().unwrap();
        bencher.with_inputs(|| key(draw(1000))).bench_values(|key| counters.take(key, &quota, 1, SECOND));
    }

    #[divan::bench]
    fn hash_of_an_ipv4_address() -> Key {
        POLICY.key(black_box(&[&[192, 0, 2, 1]]))
    }

    #[divan::bench]
    fn hash_of_tenant_and_user() -> Key {
        POLICY.key(black_box(&[b"tenant-00042", b"0123456789abcdef"]))
    }

    #[divan::bench]
    fn clock_read() -> Nanos {
        now()
    }
}
