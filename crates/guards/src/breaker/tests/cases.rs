//! Opening, staying closed, refusing and coming back, case by case.

use std::sync::{Arc, Mutex};

use portcullis_core::clock::retry_after_seconds;
use portcullis_core::fault::{ErrorType, Fault};

use super::super::config::BreakerConfig;
use super::super::decide::{Admission, State, Verdict};
use super::super::observer::{Cause, Observer, Transition};
use super::super::state::{Breaker, Rejected};
use super::{LEASE, SECOND, breaker, rules};

/// One attempt that is admitted and reports at the same moment.
fn attempt(breaker: &Breaker, now: u64, verdict: Verdict) {
    breaker.admit(now).expect("admitted").report(now, verdict);
}

fn fail(breaker: &Breaker, now: u64) {
    attempt(breaker, now, Verdict::Failure(ErrorType::ApiError));
}

/// A breaker that opened at `now`.
fn opened(config: &BreakerConfig, now: u64) -> (Arc<Breaker>, super::Seen) {
    let (breaker, seen) = breaker(config);
    for _ in 0..config.failures {
        fail(&breaker, now);
    }
    assert_eq!(seen.gauge(), State::Open);
    (breaker, seen)
}

/// Row 141: what opens it and what does not.
#[test]
fn a_window_of_outcomes_opens_it_or_not() {
    const F: Verdict = Verdict::Failure(ErrorType::ApiError);
    const T: Verdict = Verdict::Failure(ErrorType::Timeout);
    const N: Verdict = Verdict::Failure(ErrorType::NetworkError);
    const S: Verdict = Verdict::Success;
    const A: Verdict = Verdict::Answered;
    const X: Verdict = Verdict::Neutral;
    let standard = BreakerConfig::default();
    let count_only = BreakerConfig { ratio: 0.0, ..BreakerConfig::default() };
    let at_least_20 = BreakerConfig { minimum: Some(20), ..BreakerConfig::default() };
    let tenth = BreakerConfig { ratio: 0.1, failures: 3, ..BreakerConfig::default() };
    // (what, config, (seconds, how many, verdict)..., state after)
    type Steps<'a> = &'a [(f64, usize, Verdict)];
    let cases: &[(&str, &BreakerConfig, Steps<'_>, State)] = &[
        ("5 failures at once", &standard, &[(0.0, 5, F)], State::Open),
        ("4 failures", &standard, &[(0.0, 4, F)], State::Closed),
        (
            "5 failures spread over the window",
            &standard,
            &[(0.0, 1, F), (15.0, 1, F), (30.0, 1, F), (45.0, 1, F), (59.9, 1, F)],
            State::Open,
        ),
        (
            "the same from an odd moment on",
            &standard,
            &[(4.2, 1, F), (19.0, 1, F), (34.0, 1, F), (49.0, 1, F), (64.1, 1, F)],
            State::Open,
        ),
        ("the first of 5 is a window old", &standard, &[(7.0, 1, F), (8.0, 3, F), (67.0, 1, F)], State::Closed),
        ("4, then 61 s, then 1", &standard, &[(0.0, 4, F), (61.0, 1, F)], State::Closed),
        ("4, then 61 s, then 1, from an odd moment on", &standard, &[(4.2, 4, F), (65.2, 1, F)], State::Closed),
        ("4, then 61 s, then 5", &standard, &[(0.0, 4, F), (61.0, 5, F)], State::Open),
        ("timeouts and network errors count as well", &standard, &[(0.0, 2, T), (0.0, 2, N), (0.0, 1, F)], State::Open),
        ("exactly half failed", &standard, &[(0.0, 5, S), (0.0, 5, F)], State::Open),
        ("less than half failed", &standard, &[(0.0, 6, S), (0.0, 5, F)], State::Closed),
        ("then a sixth failure makes it half", &standard, &[(0.0, 6, S), (0.0, 5, F), (0.0, 1, F)], State::Open),
        (
            "in turn",
            &standard,
            &[
                (0.0, 1, F),
                (0.0, 1, S),
                (0.0, 1, F),
                (0.0, 1, S),
                (0.0, 1, F),
                (0.0, 1, S),
                (0.0, 1, F),
                (0.0, 1, S),
                (0.0, 1, F),
            ],
            State::Open,
        ),
        (
            "a busy upstream that is 99 % well",
            &standard,
            &[(0.0, 495, S), (0.0, 5, F), (1.0, 495, S), (1.0, 5, F)],
            State::Closed,
        ),
        ("old successes do not protect", &standard, &[(0.0, 1000, S), (70.0, 5, F)], State::Open),
        ("successes within the window do", &standard, &[(0.0, 1000, S), (59.0, 5, F)], State::Closed),
        ("a share of 0 counts failures only", &count_only, &[(0.0, 995, S), (0.0, 5, F)], State::Open),
        ("a tenth is a tenth, not 0.1 in binary", &tenth, &[(0.0, 27, S), (0.0, 3, F)], State::Open),
        ("5 of 5 failed, but 20 are asked for", &at_least_20, &[(0.0, 19, F)], State::Closed),
        ("20 of 20", &at_least_20, &[(0.0, 20, F)], State::Open),
        ("4xx never count as failures", &standard, &[(0.0, 100, A), (0.0, 4, F)], State::Closed),
        ("nor as successes", &standard, &[(0.0, 100, A), (0.0, 5, F)], State::Open),
        ("clients that hang up never count as failures", &standard, &[(0.0, 100, X), (0.0, 4, F)], State::Closed),
        ("nor as successes", &standard, &[(0.0, 100, X), (0.0, 5, F)], State::Open),
    ];
    for (what, config, steps, expected) in cases {
        let (breaker, seen) = breaker(config);
        let mut now = 0;
        for (seconds, times, verdict) in *steps {
            now = (seconds * 1e9) as u64;
            for _ in 0..*times {
                attempt(&breaker, now, *verdict);
            }
        }
        assert_eq!(breaker.snapshot(now).state, *expected, "{what}");
        assert_eq!(seen.gauge(), *expected, "{what}");
    }
}

/// Row 141: the opening is observed once, with what led to it.
#[test]
fn the_opening_tells_its_cause() {
    let (breaker, seen) = breaker(&BreakerConfig::default());
    attempt(&breaker, 0, Verdict::Success);
    for _ in 0..5 {
        attempt(&breaker, 0, Verdict::Failure(ErrorType::Timeout));
    }
    let [Transition { from: State::Closed, to: State::Open, cause: Cause::Failures(ErrorType::Timeout, counts) }] =
        seen.all()[..]
    else {
        panic!("{:?}", seen.all());
    };
    assert_eq!((counts.recent_failures, counts.failed, counts.total), (5, 5, 6));
}

/// Row 142: while open everything is refused with the rest of the time.
#[test]
fn open_refuses_with_the_rest_of_the_time() {
    let (breaker, _) = opened(&BreakerConfig::default(), 100 * SECOND);
    for (now, retry_after_nanos, header) in [
        (100 * SECOND, 30 * SECOND, 30),
        (100 * SECOND + 1, 30 * SECOND - 1, 30),
        (129 * SECOND, SECOND, 1),
        (130 * SECOND - 1, 1, 1),
        (99 * SECOND, 30 * SECOND, 30), // another thread's older reading
    ] {
        assert_eq!(breaker.admit(now).unwrap_err(), Rejected { retry_after_nanos });
        assert_eq!(retry_after_seconds(retry_after_nanos), header);
        assert_eq!(breaker.snapshot(now).state, State::Open);
    }
    assert!(breaker.admit(130 * SECOND).expect("the time is up").is_probe());
}

/// Row 142: a gauge that is read without traffic must not stay open for ever.
#[test]
fn time_alone_makes_it_half_open() {
    let (breaker, seen) = opened(&BreakerConfig::default(), 0);
    breaker.advance(30 * SECOND - 1);
    assert_eq!((breaker.snapshot(30 * SECOND - 1).state, seen.gauge()), (State::Open, State::Open));
    assert_eq!(breaker.snapshot(30 * SECOND - 1).open_remaining_nanos, 1);
    // Looking shows it, but only `advance` (or traffic) makes the transition, and makes it once.
    assert_eq!((breaker.snapshot(30 * SECOND).state, seen.gauge()), (State::HalfOpen, State::Open));
    breaker.advance(30 * SECOND);
    breaker.advance(31 * SECOND);
    assert_eq!(seen.states(), [State::Open, State::HalfOpen]);
    assert_eq!(breaker.snapshot(31 * SECOND).open_remaining_nanos, 0);
}

#[test]
fn peek_tells_what_admit_would_answer_and_changes_nothing() {
    let (breaker, seen) = breaker(&BreakerConfig::default());
    assert_eq!(breaker.peek(0), Admission::Pass);
    for _ in 0..5 {
        fail(&breaker, 0);
    }
    assert_eq!(breaker.peek(SECOND), Admission::Refuse { retry_after_nanos: 29 * SECOND });
    for _ in 0..10 {
        assert_eq!(breaker.peek(30 * SECOND), Admission::Probe);
    }
    assert_eq!(seen.states(), [State::Open]);
    let probe = breaker.admit(30 * SECOND).expect("peeking took no place");
    assert_eq!(breaker.peek(30 * SECOND), Admission::Refuse { retry_after_nanos: SECOND });
    assert_eq!(breaker.peek(30 * SECOND + LEASE), Admission::Probe);
    assert!(breaker.admit(30 * SECOND).is_err());
    drop(probe);
}

/// Row 144: an upstream that flaps with the period of `open_for`, at a request a second for ten minutes.
#[test]
fn a_flapping_upstream_is_probed_and_never_wedges() {
    let (breaker, seen) = breaker(&BreakerConfig::default());
    let mut reached = 0;
    for second in 0..600 {
        let now = second * SECOND;
        let is_up = (second / 30) % 2 == 1;
        if let Ok(permit) = breaker.admit(now) {
            reached += 1;
            permit.report(now, if is_up { Verdict::Success } else { Verdict::Failure(ErrorType::NetworkError) });
        }
    }
    // It opens in the first down time and from then on the probes decide: each up time closes it, each down time that
    // brings half of a fresh window down opens it.
    let states = seen.states();
    assert_eq!(states[..3], [State::Open, State::HalfOpen, State::Closed]);
    assert!(states.len() > 20, "{states:?}");
    assert!((100..500).contains(&reached), "{reached} attempts reached the upstream");
    // And when it is well for good, it closes and stays closed.
    for second in 600..700 {
        if let Ok(permit) = breaker.admit(second * SECOND) {
            permit.success(second * SECOND);
        }
    }
    assert_eq!(breaker.snapshot(700 * SECOND).state, State::Closed);
}

/// Row 144: how each way of failing is judged.
#[test]
fn outcomes_are_judged_as_documented() {
    for (fault, verdict) in [
        (Fault::Resolve, Verdict::Failure(ErrorType::NetworkError)),
        (Fault::Connect, Verdict::Failure(ErrorType::NetworkError)), // also a failed TLS handshake
        (Fault::ConnectTimeout, Verdict::Failure(ErrorType::Timeout)),
        (Fault::FirstByteTimeout, Verdict::Failure(ErrorType::Timeout)),
        (Fault::TotalTimeout, Verdict::Failure(ErrorType::Timeout)), // also a slow body
        (Fault::Closed, Verdict::Failure(ErrorType::NetworkError)),
        (Fault::BodyCut, Verdict::Failure(ErrorType::NetworkError)), // a reset after the head
        (Fault::ClientGone, Verdict::Neutral),
        (Fault::RequestBodyBroken, Verdict::Neutral),
    ] {
        assert_eq!(Verdict::of_fault(fault), verdict, "{fault:?}");
    }
    for (status, verdict) in [
        (101, Verdict::Success),
        (200, Verdict::Success),
        (304, Verdict::Success),
        (399, Verdict::Success),
        (400, Verdict::Answered),
        (404, Verdict::Answered),
        (429, Verdict::Answered),
        (499, Verdict::Answered),
        (500, Verdict::Failure(ErrorType::ApiError)),
        (503, Verdict::Failure(ErrorType::ApiError)),
        (599, Verdict::Failure(ErrorType::ApiError)),
    ] {
        assert_eq!(Verdict::of_status(status), verdict, "{status}");
    }
}

/// Row 145: breakers share nothing.
#[test]
fn one_upstream_does_not_open_the_breaker_of_another() {
    let (bad, _) = opened(&BreakerConfig::default(), 0);
    let (good, seen) = breaker(&BreakerConfig::default());
    assert!(bad.admit(0).is_err());
    attempt(&good, 0, Verdict::Success);
    assert_eq!(seen.states(), []);
}

#[test]
fn what_happened_before_it_closed_again_is_forgotten() {
    let (breaker, seen) = opened(&BreakerConfig::default(), 0);
    attempt(&breaker, 30 * SECOND, Verdict::Success);
    assert_eq!(breaker.snapshot(30 * SECOND).counts.total, 0);
    for _ in 0..4 {
        fail(&breaker, 31 * SECOND);
    }
    assert_eq!(seen.gauge(), State::Closed);
    fail(&breaker, 31 * SECOND);
    assert_eq!(seen.states(), [State::Open, State::HalfOpen, State::Closed, State::Open]);
}

/// Metrics of attempts: every report once with its time, also a late one; every refusal once; nothing of what is dropped.
#[test]
fn attempts_and_refusals_are_told_as_they_happen() {
    /// A report, or none for a refusal.
    type Word = Option<(Verdict, u64)>;
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<Word>>>);
    impl Observer for Told {
        fn transition(&self, _: &Transition) {}
        fn reported(&self, verdict: Verdict, took_nanos: u64) {
            self.0.lock().unwrap().push(Some((verdict, took_nanos)));
        }
        fn rejected(&self) {
            self.0.lock().unwrap().push(None);
        }
    }
    let told = Told::default();
    let config = BreakerConfig { failures: 1, ..BreakerConfig::default() };
    let breaker = Arc::new(Breaker::new(rules(&config), told.clone()));
    let late = breaker.admit_owned(SECOND).expect("closed");
    breaker.admit(SECOND).expect("closed").success(3 * SECOND);
    drop(breaker.admit(SECOND));
    fail(&breaker, 3 * SECOND);
    assert!(breaker.admit(4 * SECOND).is_err());
    late.report(5 * SECOND, Verdict::Answered);
    let probe = breaker.admit_owned(33 * SECOND).expect("a probe");
    assert!(breaker.admit(33 * SECOND).is_err());
    probe.success(34 * SECOND);
    breaker.admit(34 * SECOND).expect("closed").success(0); // a clock that went backwards
    let failure = Verdict::Failure(ErrorType::ApiError);
    assert_eq!(
        *told.0.lock().unwrap(),
        [
            Some((Verdict::Success, 2 * SECOND)),
            Some((failure, 0)),
            None,
            Some((Verdict::Answered, 4 * SECOND)),
            None,
            Some((Verdict::Success, SECOND)),
            Some((Verdict::Success, 0)),
        ]
    );
}

/// A clock that goes backwards must not reopen what is half-open, lengthen a wait or bring back a window.
#[test]
fn a_clock_that_goes_backwards_changes_nothing_by_itself() {
    let (breaker, seen) = opened(&BreakerConfig::default(), 100 * SECOND);
    breaker.advance(130 * SECOND);
    assert_eq!(breaker.snapshot(10 * SECOND).state, State::HalfOpen);
    breaker.admit(10 * SECOND).expect("a probe").success(5 * SECOND);
    assert_eq!(seen.gauge(), State::Closed);
    for _ in 0..5 {
        fail(&breaker, 0);
    }
    assert_eq!(breaker.admit(0).unwrap_err().retry_after_nanos, 30 * SECOND);
    assert!(breaker.admit(160 * SECOND).expect("open for 30 s from the latest time seen").is_probe());
}

/// An observer that panics must not leave half a transition or a lock that nobody can take.
#[test]
fn a_panicking_observer_leaves_a_whole_breaker() {
    struct Panics;
    impl Observer for Panics {
        fn transition(&self, _: &Transition) {
            panic!("on purpose");
        }
    }
    let breaker = Breaker::new(rules(&BreakerConfig { failures: 1, ..BreakerConfig::default() }), Panics);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fail(&breaker, 0)));
    assert!(panicked.is_err());
    assert_eq!(breaker.admit(SECOND).unwrap_err().retry_after_nanos, 29 * SECOND);
    assert_eq!(breaker.snapshot(30 * SECOND).state, State::HalfOpen);
}
