//! Every interleaving of a few threads, by loom, on the breaker of `over_loom.rs`.
//!
//! Invariant: a scene begins anew in each order; what it asserts holds in all of them.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use portcullis_core::fault::ErrorType;

use super::super::config::{BreakerConfig, Rules};
use super::super::decide::State;
use super::over_loom::state::Breaker;
use super::over_loom::sync::NEXT_SEAT;
use super::{LEASE, SECOND, Seen};

/// When a breaker that opened at 0 may be probed.
const BACK: u64 = 30 * SECOND;

fn rules(failures: u32, probes: u32) -> Rules {
    let config = BreakerConfig { failures, probes, ..BreakerConfig::default() };
    config.compile(Duration::from_nanos(LEASE)).unwrap().unwrap()
}

/// Runs `scene` in every order that has at most three preemptions.
fn in_every_order(scene: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(scene);
}

fn closed(failures: u32) -> (Arc<Breaker>, Seen) {
    let seen = Seen::default();
    (Arc::new(Breaker::new(rules(failures, 1), seen.clone())), seen)
}

/// Opened at 0; the transition to half-open is left to whoever asks first.
fn opened(probes: u32) -> (Arc<Breaker>, Seen) {
    let seen = Seen::default();
    let breaker = Arc::new(Breaker::new(rules(1, probes), seen.clone()));
    breaker.admit(0).expect("closed").failure(0, ErrorType::ApiError);
    (breaker, seen)
}

#[test]
fn two_that_ask_at_once_get_one_place() {
    in_every_order(|| {
        let (breaker, seen) = opened(1);
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.admit_owned(BACK))
        };
        let ours = breaker.admit_owned(BACK);
        let theirs = other.join().unwrap();
        assert!(ours.is_ok() != theirs.is_ok());
        assert_eq!(seen.states(), [State::Open, State::HalfOpen]);
    });
}

#[test]
fn a_place_that_is_dropped_while_another_asks_is_given_once() {
    in_every_order(|| {
        let (breaker, _) = opened(1);
        let probe = breaker.admit_owned(BACK).expect("the only place");
        let dropper = thread::spawn(move || drop(probe));
        let ours = breaker.admit_owned(BACK);
        dropper.join().unwrap();
        assert_eq!(breaker.snapshot(BACK).probes_out, u32::from(ours.is_ok()));
        drop(ours);
        assert!(breaker.admit(BACK).is_ok(), "the place is free again");
    });
}

#[test]
fn a_late_verdict_cannot_take_the_next_probe_s_place() {
    in_every_order(|| {
        let (breaker, seen) = opened(1);
        let hanging = breaker.admit_owned(BACK).expect("the only place");
        let late = thread::spawn(move || hanging.success(BACK + LEASE));
        let next = breaker.admit_owned(BACK + LEASE).expect("the lease is over");
        late.join().unwrap();
        assert_eq!(seen.gauge(), State::HalfOpen);
        assert!(breaker.admit(BACK + LEASE).is_err());
        next.success(BACK + LEASE);
        assert_eq!(seen.states(), [State::Open, State::HalfOpen, State::Closed]);
    });
}

#[test]
fn a_success_and_a_failure_of_two_probes_end_open() {
    in_every_order(|| {
        let (breaker, seen) = opened(2);
        let good = breaker.admit_owned(BACK).expect("the first place");
        let bad = breaker.admit_owned(BACK).expect("the second place");
        let other = thread::spawn(move || good.success(BACK));
        bad.failure(BACK, ErrorType::Timeout);
        other.join().unwrap();
        assert_eq!(seen.states(), [State::Open, State::HalfOpen, State::Open]);
        assert_eq!(breaker.snapshot(BACK).probes_succeeded, 0);
        assert_eq!(breaker.admit(BACK).unwrap_err().retry_after_nanos, 30 * SECOND);
    });
}

#[test]
fn two_last_failures_at_once_open_it_once() {
    in_every_order(|| {
        let (breaker, seen) = closed(2);
        let theirs = breaker.admit_owned(0).expect("closed");
        let ours = breaker.admit_owned(0).expect("closed");
        let other = thread::spawn(move || theirs.failure(0, ErrorType::ApiError));
        ours.failure(0, ErrorType::ApiError);
        other.join().unwrap();
        assert_eq!(seen.states(), [State::Open]);
        assert_eq!(breaker.admit(0).unwrap_err().retry_after_nanos, 30 * SECOND);
    });
}

/// State and end of the open time are read one after the other, without the lock. Whichever is the older one, nobody may
/// get through early, or hear a wait that was never right.
#[test]
fn nobody_gets_through_on_an_old_end_of_the_open_time() {
    in_every_order(|| {
        let (breaker, _) = opened(1);
        let probe = breaker.admit_owned(BACK).expect("the only place");
        let other = thread::spawn(move || probe.failure(BACK, ErrorType::ApiError));
        // Still half-open with the probe out, or open again since a second.
        let wait = breaker.admit(BACK + SECOND).expect_err("a probe too many").retry_after_nanos;
        other.join().unwrap();
        let open_again = breaker.admit(BACK + SECOND).expect_err("open").retry_after_nanos;
        assert!(wait == SECOND || wait == open_again, "{wait}");
        assert!((29 * SECOND..=30 * SECOND).contains(&open_again), "{open_again}");
    });
}

/// Successes are counted without a lock: none may be lost, also where threads meet at a place that is taken over.
#[test]
fn successes_that_meet_in_a_new_bucket_all_count() {
    for first_seat in [0, 1] {
        in_every_order(move || {
            NEXT_SEAT.set(first_seat);
            let (breaker, _) = closed(1);
            // The bucket that has the place now is one turn of the ring (16 buckets of 4 s) older, and holds a success.
            breaker.admit(SECOND).expect("closed").success(SECOND);
            let later = SECOND + 16 * 4 * SECOND;
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let permit = breaker.admit_owned(later).expect("closed");
                    thread::spawn(move || permit.success(later))
                })
                .collect();
            breaker.admit(later).expect("closed").success(later);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(breaker.snapshot(later).counts.total, 3);
        });
    }
}

/// A success that is being counted while the breaker opens, is probed and closes must not count in the new window.
#[test]
fn a_success_of_an_older_generation_never_counts() {
    for first_seat in [0, 1] {
        in_every_order(move || {
            NEXT_SEAT.set(first_seat);
            let (breaker, seen) = closed(1);
            let old = breaker.admit_owned(BACK).expect("closed");
            let other = thread::spawn(move || old.success(BACK));
            breaker.admit(0).expect("closed").failure(0, ErrorType::ApiError);
            breaker.admit(BACK).expect("a probe").success(BACK);
            other.join().unwrap();
            assert_eq!(seen.gauge(), State::Closed);
            assert_eq!(breaker.snapshot(BACK).counts.total, 0);
        });
    }
}
