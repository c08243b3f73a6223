//! What the breaker costs a request that passes: asking, and reporting a success. Beside it the `failsafe` crate.
//!
//! `cargo bench -p portcullis-guards --bench breaker`, about 20 s. The row `2` runs the same object from two threads at
//! once; its times are those that one thread sees. Times move by themselves so that our window turns as it does in life.
//!
//! Invariant: every row asks and reports once per iteration; rows that read a clock say so.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use divan::{Bencher, black_box};
use failsafe::CircuitBreaker;
use portcullis_core::fault::ErrorType;
use portcullis_guards::breaker::{Breaker, Config};

fn main() {
    divan::main();
}

const THREADS: [usize; 2] = [1, 2];
/// Iterations a sample: long enough (about a millisecond) for two threads to be at it together.
const SAMPLE_SIZE: u32 = 100_000;
const SAMPLES: u32 = 100;
/// What a clock that is read once a request would have advanced.
const TICK_NANOS: u64 = 20_000;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// A clock that costs next to nothing and always moves.
fn now() -> u64 {
    NOW.with(|now| {
        now.set(now.get() + TICK_NANOS);
        now.get()
    })
}

fn breaker() -> Arc<Breaker> {
    let rules = Config::default().compile(Duration::from_secs(35)).expect("the default is within bounds");
    Arc::new(Breaker::new(rules.expect("the default is enabled"), ()))
}

/// The floor: what the benchmark itself costs.
#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn nothing_but_the_pretend_clock(bencher: Bencher) {
    bencher.bench(|| black_box(now()));
}

#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn closed_success(bencher: Bencher) {
    let breaker = breaker();
    bencher.bench(|| {
        let now = now();
        if let Ok(permit) = black_box(&breaker).admit(now) {
            permit.success(now);
        }
    });
}

#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn closed_success_owned_permit(bencher: Bencher) {
    let breaker = breaker();
    bencher.bench(|| {
        let now = now();
        if let Ok(permit) = black_box(&breaker).admit_owned(now) {
            permit.success(now);
        }
    });
}

/// The failures among a thousand attempts go through the lock; the share is too small to open.
#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn closed_one_failure_in_a_thousand(bencher: Bencher) {
    let breaker = breaker();
    bencher.bench(|| {
        let now = now();
        if let Ok(permit) = black_box(&breaker).admit(now) {
            if now.is_multiple_of(1000 * TICK_NANOS) {
                permit.failure(now, ErrorType::ApiError)
            } else {
                permit.success(now)
            }
        }
    });
}

#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn open_refused(bencher: Bencher) {
    let breaker = breaker();
    for _ in 0..5 {
        breaker.admit(0).expect("closed").failure(0, ErrorType::Timeout);
    }
    bencher.bench(|| black_box(&breaker).admit(black_box(1)).is_err());
}

/// As `closed_success`, but reading the clock twice itself, as `failsafe` does in its default policy.
#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn closed_success_two_clock_reads(bencher: Bencher) {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let nanos = || START.elapsed().as_nanos() as u64;
    let breaker = breaker();
    bencher.bench(|| {
        if let Ok(permit) = black_box(&breaker).admit(nanos()) {
            permit.success(nanos());
        }
    });
}

#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn failsafe_default_policy(bencher: Bencher) {
    let breaker = failsafe::Config::new().build();
    bencher.bench(|| {
        black_box(now());
        black_box(black_box(&breaker).call(|| Ok::<(), ()>(())).is_ok())
    });
}

#[divan::bench(threads = THREADS, sample_size = SAMPLE_SIZE, sample_count = SAMPLES)]
fn failsafe_consecutive_failures(bencher: Bencher) {
    let backoff = failsafe::backoff::constant(Duration::from_secs(30));
    let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    bencher.bench(|| {
        black_box(now());
        black_box(black_box(&breaker).call(|| Ok::<(), ()>(())).is_ok())
    });
}
