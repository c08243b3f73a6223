//! Checks of [`Counters`]: the same schedule admits the same requests on every backend.
//!
//! The oracles in `model` count in another way than any backend does, so that a shared mistake cannot hide.
//! All keys are drawn from the hasher handed in; give a random one and a store that outlives a run needs no cleaning.
//!
//! Invariant: checks use keys of their own and may run side by side on one store.

mod model;

use crate::counters::{
    Algorithm, CLOCK_SLACK_NANOS, CompiledQuota, Counters, Key, KeyHasher, NEVER, Nanos, Outcome, Quota,
};
use model::{Dice, LeakyBucket, WindowCount};

const SECOND: Nanos = 1_000_000_000;
const HOUR: Nanos = 3600 * SECOND;
/// Checks start here, so that clocks have room to step back.
const START: Nanos = 10 * HOUR;

/// Runs every check on one store. `schedules` random ones are played, of some forty requests each.
///
/// # Panics
/// When the backend does not do what [`Counters`] says.
pub fn check_all(counters: &dyn Counters, hasher: &KeyHasher, schedules: u64) {
    a_bucket_gives_its_burst_then_its_rate(counters, hasher);
    a_window_gives_its_limit_once(counters, hasher);
    keys_and_policies_are_apart(counters, hasher);
    costs_at_the_edges(counters, hasher);
    peeking_changes_nothing_and_says_what_taking_says(counters, hasher);
    a_clock_step_back_gives_nothing_and_ends_soon(counters, hasher);
    a_changed_quota_takes_over(counters, hasher);
    threads_on_one_key_admit_the_burst(counters, hasher);
    schedules_match_the_models(counters, hasher, schedules);
    jumping_clocks_admit_no_more_than_forward_time_earns(counters, hasher, schedules / 10);
}

fn bucket(limit: u64, period_nanos: u64, burst: u64) -> CompiledQuota {
    compile(Algorithm::TokenBucket, limit, period_nanos, burst)
}

fn window(limit: u64, period_nanos: u64) -> CompiledQuota {
    compile(Algorithm::FixedWindow, limit, period_nanos, 0)
}

fn compile(algorithm: Algorithm, limit: u64, period_nanos: u64, burst: u64) -> CompiledQuota {
    let quota = Quota { algorithm, limit, period_nanos, burst };
    quota.compile().unwrap_or_else(|error| panic!("the check's own {quota:?} does not compile: {error}"))
}

fn key(hasher: &KeyHasher, check: &str, subject: u64) -> Key {
    hasher.policy(check).key(&[&subject.to_le_bytes()])
}

/// Takes one unit at a time until refused; how many were admitted.
fn drain(counters: &dyn Counters, key: Key, quota: &CompiledQuota, now: Nanos) -> u64 {
    (0..=quota.capacity()).take_while(|_| counters.take(key, quota, 1, now).allowed).count() as u64
}

/// Burst at once, then one unit an interval, and no more than the burst after any rest.
pub fn a_bucket_gives_its_burst_then_its_rate(counters: &dyn Counters, hasher: &KeyHasher) {
    let (quota, key) = (bucket(10, SECOND, 5), key(hasher, "bucket", 0));
    let first = counters.take(key, &quota, 2, START);
    let expected =
        Outcome { allowed: true, limit: 5, remaining: 3, reset_after_nanos: 2 * SECOND / 10, retry_after_nanos: 0 };
    assert_eq!(first, expected);
    assert_eq!(drain(counters, key, &quota, START), 3);
    let refused = counters.take(key, &quota, 1, START);
    assert_eq!((refused.allowed, refused.remaining, refused.retry_after_nanos), (false, 0, SECOND / 10));
    assert!(!counters.take(key, &quota, 1, START + SECOND / 10 - 1).allowed);
    assert!(counters.take(key, &quota, 1, START + SECOND / 10).allowed);
    assert_eq!(drain(counters, key, &quota, START + HOUR), 5);
}

/// The limit once a window, anew at the next multiple of the period, so at most twice the limit across a boundary.
pub fn a_window_gives_its_limit_once(counters: &dyn Counters, hasher: &KeyHasher) {
    let (quota, key) = (window(5, SECOND), key(hasher, "window", 0));
    let end = START + SECOND;
    assert_eq!(drain(counters, key, &quota, end - 1), 5);
    let refused = counters.take(key, &quota, 1, end - 1);
    assert_eq!((refused.remaining, refused.reset_after_nanos, refused.retry_after_nanos), (0, 1, 1));
    assert_eq!(drain(counters, key, &quota, end), 5);
    assert_eq!(drain(counters, key, &quota, end + SECOND - 1), 0);
}

/// Using one key up leaves others alone, and so it does under another policy.
pub fn keys_and_policies_are_apart(counters: &dyn Counters, hasher: &KeyHasher) {
    let quota = bucket(1, SECOND, 3);
    assert_eq!(drain(counters, key(hasher, "apart", 1), &quota, START), 3);
    assert_eq!(drain(counters, key(hasher, "apart", 2), &quota, START), 3);
    assert_eq!(drain(counters, key(hasher, "apart too", 1), &quota, START), 3);
    assert_eq!(drain(counters, key(hasher, "apart", 1), &quota, START), 0);
}

/// Cost 0 is free, cost above the capacity is never allowed, and a closed quota says so.
pub fn costs_at_the_edges(counters: &dyn Counters, hasher: &KeyHasher) {
    for (subject, quota) in [(1, bucket(1, SECOND, 3)), (2, window(3, SECOND))] {
        let key = key(hasher, "edges", subject);
        for cost in [4, 1 << 63, u64::MAX] {
            let refused = counters.take(key, &quota, cost, START);
            assert_eq!((refused.allowed, refused.remaining, refused.retry_after_nanos), (false, 3, NEVER));
        }
        assert!(counters.take(key, &quota, 3, START).allowed, "a refusal took something");
        for _ in 0..10 {
            let free = counters.take(key, &quota, 0, START);
            assert_eq!((free.allowed, free.remaining, free.retry_after_nanos), (true, 0, 0));
        }
    }
    for (subject, closed) in [(3, bucket(0, SECOND, 3)), (4, bucket(1, SECOND, 0)), (5, window(0, SECOND))] {
        let refused = counters.take(key(hasher, "edges", subject), &closed, 1, START);
        assert_eq!((refused.allowed, refused.limit, refused.retry_after_nanos), (false, 0, NEVER));
    }
}

/// `peek` gives the very answer of the `take` after it, any number of times.
pub fn peeking_changes_nothing_and_says_what_taking_says(counters: &dyn Counters, hasher: &KeyHasher) {
    let mut dice = Dice::new(1);
    for (subject, quota) in [(1, bucket(10, SECOND, 8)), (2, window(8, SECOND))] {
        let key = key(hasher, "peek", subject);
        let mut now = START;
        for _ in 0..200 {
            now += dice.below(SECOND / 3);
            let cost = dice.below(10);
            let peeked = [(); 3].map(|()| counters.peek(key, &quota, cost, now));
            let taken = counters.take(key, &quota, cost, now);
            assert_eq!(peeked, [taken; 3], "cost {cost} of {quota:?} at {now}");
        }
    }
}

/// An hour back: nothing is admitted for it, and the key waits one refill, not an hour.
pub fn a_clock_step_back_gives_nothing_and_ends_soon(counters: &dyn Counters, hasher: &KeyHasher) {
    for (subject, quota) in [(1, bucket(5, 5 * SECOND, 5)), (2, window(5, 5 * SECOND))] {
        let key = key(hasher, "step back", subject);
        assert_eq!(drain(counters, key, &quota, START), 5);
        let slightly = START - CLOCK_SLACK_NANOS / 2;
        assert_eq!(drain(counters, key, &quota, slightly), 0, "{quota:?}");
        let back = START - HOUR;
        let refused = counters.take(key, &quota, 1, back);
        assert!(!refused.allowed && refused.retry_after_nanos <= 5 * SECOND, "{refused:?} of {quota:?}");
        assert!(counters.take(key, &quota, 1, back + 5 * SECOND).allowed, "{quota:?}");
    }
}

/// A reload that makes a quota smaller or changes its algorithm neither panics nor frees a key that was used up.
pub fn a_changed_quota_takes_over(counters: &dyn Counters, hasher: &KeyHasher) {
    let quotas = [bucket(10, SECOND, 100), bucket(10, SECOND, 10), window(10, 10 * SECOND), window(100, 10 * SECOND)];
    for (from_index, from) in quotas.iter().enumerate() {
        for (to_index, to) in quotas.iter().enumerate() {
            let key = key(hasher, "changed", (from_index * quotas.len() + to_index) as u64);
            drain(counters, key, from, START);
            let left = drain(counters, key, to, START);
            // What used up ten of anything has not used up a hundred; no more than the difference may be left.
            let most = to.capacity().saturating_sub(from.capacity());
            assert!(left <= most, "{left} left of {to:?} after {from:?}");
            assert_eq!(drain(counters, key, to, START + HOUR), to.capacity());
        }
    }
}

/// Sixty-four takers on a new key at one instant: exactly the burst is admitted.
pub fn threads_on_one_key_admit_the_burst(counters: &dyn Counters, hasher: &KeyHasher) {
    const THREADS: usize = 8;
    const TAKES: usize = 8;
    for subject in 0..50 {
        let key = key(hasher, "threads", subject);
        let quota = if subject % 2 == 0 { bucket(1, SECOND, 20) } else { window(20, SECOND) };
        let start = std::sync::Barrier::new(THREADS);
        let takes = || {
            start.wait();
            (0..TAKES).filter(|_| counters.take(key, &quota, 1, START).allowed).count()
        };
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(takes)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a taker does not panic")).sum()
        });
        assert_eq!(admitted, 20, "of {} takers on {quota:?}", THREADS * TAKES);
    }
}

/// Random schedules on a clock that runs forward: each decision is the model's, and no span gets more than is written.
pub fn schedules_match_the_models(counters: &dyn Counters, hasher: &KeyHasher, schedules: u64) {
    let policy = hasher.policy("schedules");
    for seed in 0..schedules {
        let mut dice = Dice::new(seed);
        let period = 10_000_000 + dice.below(10 * SECOND);
        let limit = 1 + dice.below(1000);
        let burst = 1 + dice.below(50);
        let mut now = START + dice.below(HOUR);
        let key = policy.key(&[&seed.to_le_bytes()]);
        let mut buckets = LeakyBucket::new(limit, period, burst, now);
        let mut windows = WindowCount::new(limit, period);
        let is_bucket = dice.below(2) == 0;
        let quota = if is_bucket { bucket(limit, period, burst) } else { window(limit, period) };
        for request in 0..40 {
            // Mostly around the time one unit takes, with bursts at one instant and now and then a long rest.
            now += match dice.below(10) {
                0..4 => 0,
                4..9 => dice.below(3 * period / limit + 2),
                _ => dice.below(2 * period),
            };
            let cost = if dice.below(2) == 0 { 1 } else { dice.below(quota.capacity() + 2) };
            let allowed = counters.take(key, &quota, cost, now).allowed;
            let expected = if is_bucket { buckets.take(cost, now) } else { windows.take(cost, now) };
            assert_eq!(allowed, expected, "request {request} of schedule {seed}: cost {cost} of {quota:?} at {now}");
            if is_bucket {
                assert!(buckets.is_within_what_was_written(), "request {request} of schedule {seed} on {quota:?}");
            } else {
                assert!(windows.is_within_twice_the_limit(now), "request {request} of schedule {seed} on {quota:?}");
            }
        }
    }
}

/// Random schedules on a clock that jumps both ways: the burst, and what the steps forward earn, is all there is.
pub fn jumping_clocks_admit_no_more_than_forward_time_earns(
    counters: &dyn Counters,
    hasher: &KeyHasher,
    schedules: u64,
) {
    let policy = hasher.policy("jumps");
    for seed in 0..schedules {
        let mut dice = Dice::new(seed);
        let (limit, period, burst) = (1 + dice.below(100), 10_000_000 + dice.below(SECOND), 1 + dice.below(20));
        let quota = bucket(limit, period, burst);
        let key = policy.key(&[&seed.to_le_bytes()]);
        let (mut now, mut forward, mut admitted) = (START, 0u128, 0u128);
        for _ in 0..60 {
            let largest = match dice.below(4) {
                0 => 1,
                1 => 3 * period / limit,
                2 => 2 * CLOCK_SLACK_NANOS,
                _ => HOUR / 60,
            };
            let step = dice.below(largest);
            if dice.below(2) == 0 {
                now -= step;
            } else {
                now += step;
                forward += u128::from(step);
            }
            let cost = 1 + dice.below(burst);
            if counters.take(key, &quota, cost, now).allowed {
                admitted += u128::from(cost);
            }
            let earned = u128::from(burst) * u128::from(period) + forward * u128::from(limit);
            assert!(admitted * u128::from(period) <= earned, "schedule {seed} admitted {admitted} of {quota:?}");
        }
    }
}
