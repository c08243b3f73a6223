//! The breaker against a plain reference model, over random histories: same answers, same states, same transitions.
//!
//! The model keeps every outcome for ever and counts them anew each time; it has no rings, generations or atomics.

use std::sync::Arc;

use portcullis_core::fault::ErrorType;
use proptest::prelude::*;

use super::super::config::{BreakerConfig, Rules};
use super::super::decide::{Admission, State, Verdict};
use super::super::permit::OwnedPermit;
use super::super::state::Breaker;
use super::{SECOND, Seen};

/// What can happen.
#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    Ask,
    /// One of the permits that are out reports.
    Report(prop::sample::Index, Verdict),
    /// One of the permits that are out is dropped.
    Drop(prop::sample::Index),
    /// One of the permits that are out is never heard of again.
    Lose(prop::sample::Index),
    /// As a scrape does.
    Advance,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        3 => Just(Verdict::Success),
        3 => Just(Verdict::Failure(ErrorType::ApiError)),
        1 => Just(Verdict::Answered),
        1 => Just(Verdict::Neutral),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..SECOND / 2).prop_map(Event::Wait),
        1 => (0..5 * SECOND).prop_map(Event::Wait),
        6 => Just(Event::Ask),
        6 => (any::<prop::sample::Index>(), verdict()).prop_map(|(which, verdict)| Event::Report(which, verdict)),
        1 => any::<prop::sample::Index>().prop_map(Event::Drop),
        1 => any::<prop::sample::Index>().prop_map(Event::Lose),
        1 => Just(Event::Advance),
    ]
}

prop_compose! {
    fn rules()(
        failures in 1..5_u32,
        window in 1000..4000_u64,
        ratio in prop::sample::select(vec![0.0, 0.1, 0.3, 0.5, 1.0]),
        minimum in prop::option::of(1..10_u32),
        open_for in 1000..3000_u64,
        probes in 1..4_u32,
        lease_millis in 500..5000_u64,
    ) -> Rules {
        let json = format!(r#"{{"window":"{window}ms","open_for":"{open_for}ms"}}"#);
        let times: BreakerConfig = serde_json::from_str(&json).unwrap();
        let config = BreakerConfig { failures, ratio, minimum, probes, ..times };
        config.compile(std::time::Duration::from_millis(lease_millis)).unwrap().unwrap()
    }
}

/// The model's permit: admitted in which stay (a stay is the time between two transitions), and as which probe.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Paper {
    stay: usize,
    probe_until: Option<u64>,
}

/// The model.
struct Reference {
    rules: Rules,
    states: Vec<State>,
    open_since: u64,
    /// When, and whether it failed; of the present stay.
    outcomes: Vec<(u64, bool)>,
    /// The ends of the leases of probes that are out, of the present stay.
    out: Vec<u64>,
    succeeded: u32,
}

impl Reference {
    fn state(&self) -> State {
        *self.states.last().unwrap_or(&State::Closed)
    }

    fn enter(&mut self, state: State) {
        self.states.push(state);
        self.out.clear();
        self.succeeded = 0;
        if state == State::Closed {
            self.outcomes.clear();
        }
    }

    fn advance(&mut self, now: u64) {
        if self.state() == State::Open && now - self.open_since >= self.rules.open_for_nanos {
            self.enter(State::HalfOpen);
        }
    }

    /// A permit, or how long to wait.
    fn ask(&mut self, now: u64) -> Result<Paper, u64> {
        self.advance(now);
        let stay = self.states.len();
        match self.state() {
            State::Closed => Ok(Paper { stay, probe_until: None }),
            State::Open => Err(self.open_since + self.rules.open_for_nanos - now),
            State::HalfOpen => {
                self.out.retain(|until| *until > now);
                if self.out.len() as u32 + self.succeeded >= self.rules.probes {
                    return Err(SECOND);
                }
                let until = now + self.rules.probe_lease_nanos;
                self.out.push(until);
                Ok(Paper { stay, probe_until: Some(until) })
            }
        }
    }

    /// The number of outcomes that the share is taken over: those in the last 16 buckets.
    fn in_buckets(&self, now: u64, only_failures: bool) -> usize {
        let number = |time: u64| self.rules.buckets.number(time);
        let counts = |time: u64| number(now) - number(time) < 16;
        self.outcomes.iter().filter(|(time, failed)| counts(*time) && (*failed || !only_failures)).count()
    }

    /// Failures younger than the window.
    fn recent(&self, now: u64) -> u64 {
        let is_recent = |time: u64| now - time < self.rules.window_nanos;
        self.outcomes.iter().filter(|(time, failed)| *failed && is_recent(*time)).count() as u64
    }

    fn report(&mut self, paper: Paper, verdict: Verdict, now: u64) {
        if paper.stay != self.states.len() {
            return;
        }
        if let Some(until) = paper.probe_until {
            let Some(place) = self.out.iter().position(|out| *out == until) else { return };
            self.out.remove(place);
            match verdict {
                _ if until <= now => {}
                Verdict::Neutral => {}
                Verdict::Failure(_) => {
                    self.open_since = now;
                    self.enter(State::Open);
                }
                Verdict::Success | Verdict::Answered => {
                    self.succeeded += 1;
                    if self.succeeded == self.rules.probes {
                        self.enter(State::Closed);
                    }
                }
            }
            return;
        }
        match verdict {
            Verdict::Success => self.outcomes.push((now, false)),
            Verdict::Failure(_) => {
                self.outcomes.push((now, true));
                let (failed, total) = (self.in_buckets(now, true), self.in_buckets(now, false));
                if self.recent(now) >= u64::from(self.rules.failures)
                    && total >= self.rules.minimum as usize
                    && failed as f64 >= f64::from(self.rules.ratio_millionths) / 1e6 * total as f64 - 1e-9
                {
                    self.open_since = now;
                    self.enter(State::Open);
                }
            }
            Verdict::Answered | Verdict::Neutral => {}
        }
    }
}

proptest! {
    #[test]
    fn the_breaker_does_what_the_model_does(
        rules in rules(),
        begin in 0..100 * SECOND,
        history in prop::collection::vec(event(), 1..120),
    ) {
        let seen = Seen::default();
        let breaker = Arc::new(Breaker::new(rules.clone(), seen.clone()));
        let mut model = Reference { rules, states: vec![], open_since: 0, outcomes: vec![], out: vec![], succeeded: 0 };
        let mut permits: Vec<(OwnedPermit, Paper)> = Vec::new();
        let mut now = begin;
        for event in history {
            let picked = match &event {
                Event::Report(which, _) | Event::Drop(which) | Event::Lose(which) if !permits.is_empty() => {
                    Some(permits.swap_remove(which.index(permits.len())))
                }
                _ => None,
            };
            match (event, picked) {
                (Event::Wait(nanos), _) => now += nanos,
                (Event::Ask, _) => {
                    let peeked = breaker.peek(now);
                    match (breaker.admit_owned(now), model.ask(now)) {
                        (Ok(permit), Ok(paper)) => {
                            prop_assert_eq!(permit.is_probe(), paper.probe_until.is_some());
                            prop_assert_eq!(peeked, if permit.is_probe() { Admission::Probe } else { Admission::Pass });
                            permits.push((permit, paper));
                        }
                        (Err(rejected), Err(retry_after_nanos)) => {
                            prop_assert_eq!(rejected.retry_after_nanos, retry_after_nanos);
                            prop_assert_eq!(peeked, Admission::Refuse { retry_after_nanos });
                        }
                        (ours, models) => prop_assert!(false, "{:?} where the model says {:?}", ours, models),
                    }
                }
                (Event::Report(_, verdict), Some((permit, paper))) => {
                    permit.report(now, verdict);
                    model.report(paper, verdict, now);
                }
                (Event::Drop(_), Some((permit, paper))) => {
                    drop(permit);
                    model.report(paper, Verdict::Neutral, now);
                }
                (Event::Lose(_), Some((permit, _))) => std::mem::forget(permit),
                (Event::Advance, _) => {
                    breaker.advance(now);
                    model.advance(now);
                    // What a scrape reads: the gauge that transitions set is the machine's state, by now.
                    prop_assert_eq!(seen.gauge(), breaker.snapshot(now).state);
                }
                (Event::Report(..) | Event::Drop(..) | Event::Lose(..), None) => {}
            }
            prop_assert_eq!(&seen.states(), &model.states);
            let snapshot = breaker.snapshot(now);
            if model.state() == State::Closed {
                prop_assert_eq!(snapshot.counts.failed, model.in_buckets(now, true) as u64);
                prop_assert_eq!(snapshot.counts.total, model.in_buckets(now, false) as u64);
                prop_assert_eq!(snapshot.counts.recent_failures, model.recent(now).min(u64::from(model.rules.failures)));
                // And what the buckets hold lies between the window and 16/15 of it.
                let window = model.rules.window_nanos;
                let younger = |age: u64| model.outcomes.iter().filter(|(time, _)| now - time < age).count() as u64;
                prop_assert!(younger(window) <= snapshot.counts.total);
                prop_assert!(snapshot.counts.total <= younger(window + window / 15 + 32));
            }
            let is_due = model.state() == State::Open && now - model.open_since >= model.rules.open_for_nanos;
            prop_assert_eq!(snapshot.state, if is_due { State::HalfOpen } else { model.state() });
            prop_assert!(snapshot.probes_out + snapshot.probes_succeeded <= model.rules.probes);
        }
    }

    /// Whatever happened, with clocks that jump back and forth and permits still out: once the open time and the leases are
    /// over, probes are let out, and their successes close it.
    #[test]
    fn nothing_wedges_it(
        rules in rules(),
        history in prop::collection::vec((0..20 * SECOND, event()), 1..120),
    ) {
        let seen = Seen::default();
        let breaker = Arc::new(Breaker::new(rules.clone(), seen.clone()));
        let mut permits: Vec<OwnedPermit> = Vec::new();
        for (now, event) in history {
            match event {
                Event::Ask => match breaker.admit_owned(now) {
                    Ok(permit) => permits.push(permit),
                    Err(rejected) => prop_assert!((1..=rules.open_for_nanos).contains(&rejected.retry_after_nanos)),
                },
                Event::Report(which, verdict) if !permits.is_empty() => {
                    permits.swap_remove(which.index(permits.len())).report(now, verdict);
                }
                Event::Drop(which) if !permits.is_empty() => drop(permits.swap_remove(which.index(permits.len()))),
                Event::Lose(which) if !permits.is_empty() => {
                    std::mem::forget(permits.swap_remove(which.index(permits.len())));
                }
                _ => breaker.advance(now),
            }
            let snapshot = breaker.snapshot(now);
            prop_assert!(snapshot.probes_out + snapshot.probes_succeeded <= rules.probes);
            seen.states();
        }
        let now = 20 * SECOND + rules.open_for_nanos + rules.probe_lease_nanos;
        for _ in 0..rules.probes {
            match breaker.admit(now) {
                Ok(permit) => permit.success(now),
                Err(rejected) => prop_assert!(false, "wedged: {:?}, {:?}", rejected, breaker.snapshot(now)),
            }
        }
        prop_assert_eq!(breaker.snapshot(now).state, State::Closed);
        prop_assert_eq!(seen.gauge(), State::Closed);
    }
}
