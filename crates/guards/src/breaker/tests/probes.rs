//! Half-open: who is let out as a probe, and that no way of losing one wedges the breaker (rows 142 and 143).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier};
use std::thread;

use portcullis_core::fault::ErrorType;

use super::super::config::BreakerConfig;
use super::super::decide::{State, Verdict};
use super::super::observer::Cause;
use super::super::permit::OwnedPermit;
use super::super::state::Breaker;
use super::{LEASE, SECOND, Seen, breaker};

/// When the breakers here are half-open: they open at 0 for 30 s.
const BACK: u64 = 30 * SECOND;

fn half_open(probes: u32) -> (Arc<Breaker>, Seen) {
    let (breaker, seen) = breaker(&BreakerConfig { probes, ..BreakerConfig::default() });
    for _ in 0..5 {
        breaker.admit(0).expect("closed").failure(0, ErrorType::ApiError);
    }
    breaker.advance(BACK);
    assert_eq!(seen.states(), [State::Open, State::HalfOpen]);
    (breaker, seen)
}

fn probe(breaker: &Arc<Breaker>, now: u64) -> OwnedPermit {
    let permit = breaker.admit_owned(now).expect("a free place");
    assert!(permit.is_probe());
    permit
}

/// Row 142: of 100 at the same moment exactly `probes` get through; the others are told to come back in a second.
#[test]
fn of_a_hundred_threads_exactly_the_probes_get_through() {
    for probes in [1, 3] {
        // Not advanced beforehand: the threads race for the transition too.
        let (breaker, seen) = breaker(&BreakerConfig { probes, ..BreakerConfig::default() });
        for _ in 0..5 {
            breaker.admit(0).expect("closed").failure(0, ErrorType::ApiError);
        }
        let start = Barrier::new(100);
        let answers: Vec<_> = thread::scope(|scope| {
            let ask = || {
                start.wait();
                breaker.admit_owned(BACK)
            };
            let threads: Vec<_> = (0..100).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (admitted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!(admitted.len(), probes as usize);
        assert!(refused.iter().all(|answer| answer.as_ref().unwrap_err().retry_after_nanos == SECOND));
        assert_eq!(seen.states(), [State::Open, State::HalfOpen]);
    }
}

#[test]
fn it_closes_after_as_many_successes_as_probes() {
    let (breaker, seen) = half_open(3);
    let [first, second, third] = [(); 3].map(|()| probe(&breaker, BACK));
    first.success(BACK);
    // One success is in and two probes are out: no fourth is needed.
    assert!(breaker.admit(BACK).is_err());
    second.report(BACK, Verdict::Answered);
    assert_eq!(breaker.snapshot(BACK).probes_succeeded, 2);
    assert_eq!(seen.gauge(), State::HalfOpen);
    third.success(BACK);
    assert_eq!(seen.states(), [State::Open, State::HalfOpen, State::Closed]);
    assert!(!breaker.admit(BACK).expect("closed").is_probe());
}

#[test]
fn one_failed_probe_opens_it_again_for_the_whole_time() {
    let (breaker, seen) = half_open(3);
    let [good, bad, late] = [(); 3].map(|()| probe(&breaker, BACK));
    good.success(BACK);
    bad.failure(BACK + SECOND, ErrorType::Timeout);
    assert_eq!(seen.all().last().unwrap().cause, Cause::ProbeFailed(ErrorType::Timeout));
    assert_eq!(breaker.admit(BACK + SECOND).unwrap_err().retry_after_nanos, 30 * SECOND);
    late.failure(BACK + 2 * SECOND, ErrorType::Timeout);
    assert_eq!(breaker.admit(BACK + 2 * SECOND).unwrap_err().retry_after_nanos, 29 * SECOND, "opened once, not twice");
    // Back again, the success of the first time no longer counts.
    let back_again = BACK + 31 * SECOND;
    let _three = [(); 3].map(|()| probe(&breaker, back_again));
    assert!(breaker.admit(back_again).is_err());
}

/// Row 143: every way for a probe to end without a verdict, and what the breaker does next.
#[test]
fn a_probe_without_a_verdict_gives_its_place_back() {
    type End = fn(OwnedPermit);
    let ends: [(&str, End); 4] = [
        ("its client hangs up", |permit| permit.report(BACK, Verdict::Neutral)),
        ("nothing was learnt", OwnedPermit::neutral),
        ("its task is cancelled", drop),
        ("it panics", |permit| {
            let panicked = catch_unwind(AssertUnwindSafe(move || {
                let _held = permit;
                panic!("on purpose");
            }));
            assert!(panicked.is_err());
        }),
    ];
    for (what, end) in ends {
        let (breaker, seen) = half_open(1);
        let permit = probe(&breaker, BACK);
        assert!(breaker.admit(BACK).is_err());
        end(permit);
        assert_eq!((seen.gauge(), breaker.snapshot(BACK).probes_out), (State::HalfOpen, 0), "{what}");
        probe(&breaker, BACK).success(BACK);
        assert_eq!(seen.gauge(), State::Closed, "{what}");
    }
}

/// Row 143: a 404 is an answer, so the upstream is alive. Traffic that is all 404 must not keep it half-open.
#[test]
fn a_probe_that_gets_a_404_closes_it() {
    let (breaker, seen) = half_open(1);
    probe(&breaker, BACK).report(BACK, Verdict::of_status(404));
    assert_eq!(seen.gauge(), State::Closed);
}

/// Row 143: a probe that hangs loses its place when its lease is over, to the nanosecond, and its verdict with it.
#[test]
fn a_probe_that_hangs_loses_its_place_and_its_verdict() {
    for verdict in [Verdict::Success, Verdict::Answered, Verdict::Failure(ErrorType::Timeout), Verdict::Neutral] {
        let (breaker, seen) = half_open(1);
        let hanging = probe(&breaker, BACK);
        assert!(breaker.admit(BACK + LEASE - 1).is_err());
        let next = probe(&breaker, BACK + LEASE);
        hanging.report(BACK + LEASE, verdict);
        assert_eq!(seen.gauge(), State::HalfOpen, "{verdict:?}");
        assert!(breaker.admit(BACK + LEASE).is_err(), "the late verdict must not free the place of the next probe");
        next.success(BACK + LEASE);
        assert_eq!(seen.gauge(), State::Closed);
    }
}

/// Row 143: late is late, also when nobody has asked for the place in between.
#[test]
fn a_verdict_after_the_lease_is_ignored_even_if_the_place_is_still_free() {
    let (breaker, seen) = half_open(1);
    probe(&breaker, BACK).success(BACK + LEASE);
    assert_eq!(seen.gauge(), State::HalfOpen);
    probe(&breaker, BACK).success(BACK + LEASE + LEASE - 1);
    assert_eq!(seen.gauge(), State::Closed, "within the lease, which is reckoned from the latest time seen");
}

/// Row 143: a probe that is lost for good (its permit is never dropped), again and again.
#[test]
fn lost_probes_never_wedge_it() {
    let (breaker, seen) = half_open(2);
    let mut now = BACK;
    for _ in 0..1000 {
        std::mem::forget(probe(&breaker, now));
        std::mem::forget(probe(&breaker, now));
        assert!(breaker.admit(now).is_err());
        now += LEASE;
    }
    probe(&breaker, now).success(now);
    probe(&breaker, now).success(now);
    assert_eq!(seen.states(), [State::Open, State::HalfOpen, State::Closed]);
}

/// Row 143: attempts of an older generation that end late neither open, close nor count.
#[test]
fn late_verdicts_of_an_older_generation_are_ignored() {
    let (breaker, seen) = breaker(&BreakerConfig { failures: 1, ..BreakerConfig::default() });
    let from_first: Vec<_> = (0..20).map(|_| breaker.admit(0).expect("closed")).collect();
    breaker.admit(0).expect("closed").failure(0, ErrorType::ApiError);
    let from_half_open = probe(&breaker, BACK);
    let mut from_first = from_first.into_iter();
    // While half-open: neither a failure opens nor a success closes it.
    from_first.next().unwrap().failure(BACK, ErrorType::ApiError);
    from_first.next().unwrap().success(BACK);
    assert_eq!(seen.gauge(), State::HalfOpen);
    from_half_open.success(BACK);
    // Closed again, in the third generation: nothing of the first one counts.
    from_first.next().unwrap().failure(BACK, ErrorType::ApiError);
    from_first.next().unwrap().success(BACK);
    assert_eq!(breaker.snapshot(BACK).counts.total, 0);
    // Nor does it cost the third one what it has counted.
    breaker.admit(BACK).expect("closed").success(BACK);
    from_first.for_each(|permit| permit.success(BACK));
    assert_eq!(breaker.snapshot(BACK).counts.total, 1);
    assert_eq!(seen.states(), [State::Open, State::HalfOpen, State::Closed]);
}

/// Row 143: a reload that drops the breaker while a probe is out.
#[test]
fn a_permit_outlives_the_config_that_gave_it() {
    let (breaker, seen) = half_open(1);
    let permit = probe(&breaker, BACK);
    drop(breaker);
    permit.success(BACK);
    assert_eq!(seen.gauge(), State::Closed);
}
