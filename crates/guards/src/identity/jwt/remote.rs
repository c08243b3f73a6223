//! Keys that an issuer publishes at an address: when they are fetched, and what holds while they cannot be.
//!
//! Nothing is fetched here. Whoever keeps the process (the gateway) asks [`Remote::begin`] what is due and tells
//! [`Remote::end`] how it ended; requests that need a key nobody knows yet wait for that, a bounded number of them. A fetch
//! is due when the keys get old, and when a token names an unknown key, but for that at most once in a cooldown, so that
//! invented names cost the issuer next to nothing.
//!
//! Invariant: at most one fetch of an issuer is on its way; who waits is woken when it ends, however it ends; keys that are
//! older than they may be are not used.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use portcullis_core::clock::{Now, nanos};

use super::config::RemoteRules;

/// Most requests of one issuer that wait for a fetch; more are told to come back.
const MOST_WAITING: usize = 1024;
/// After failures the next attempt waits for the cooldown, doubled each time up to so often.
const MOST_DOUBLINGS: u32 = 5;

/// What is known of an issuer's address.
pub(crate) struct Remote {
    pub(crate) rules: RemoteRules,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the keys that are used were fetched.
    fetched_nanos: Option<u64>,
    /// When the last attempt began that was made because of an unknown key. Others do not count: keys may change the moment
    /// after they were fetched.
    asked_nanos: Option<u64>,
    /// When the next one is due.
    next_nanos: u64,
    is_on_its_way: bool,
    /// A token named a key that is not known.
    is_wanted: bool,
    failures: u32,
    error: Option<String>,
    /// Grows with each attempt that ended, by two when it failed.
    rounds: u64,
    waiting: Vec<Waker>,
}

/// Whether a key that is not known may yet come.
pub(super) enum Hope {
    /// Wait for the fetch that is on its way or due now.
    Wait(NextRound),
    /// The issuer was asked a moment ago and has no such key.
    None,
    /// The issuer cannot be reached; the nanoseconds after which it is asked again.
    Outage(u64),
}

/// What people are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Seconds since the keys that are used were fetched; `None` before the first time.
    pub age_seconds: Option<u64>,
    /// Why the last attempt failed; `None` where it did not.
    pub error: Option<String>,
}

impl Remote {
    pub(crate) fn new(rules: RemoteRules) -> Remote {
        Remote { rules, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; were it so, every field is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the keys may be used; the nanoseconds after which to ask again where they may not.
    pub(super) fn check(&self, now: &Now) -> Result<(), u64> {
        let state = self.lock();
        match state.fetched_nanos {
            Some(fetched) if now.monotonic_nanos.saturating_sub(fetched) <= nanos(self.rules.keep) => Ok(()),
            _ => Err(state.next_nanos.saturating_sub(now.monotonic_nanos)),
        }
    }

    /// What to do about a token whose key is not known, or when no keys may be used.
    pub(super) fn hope(self: &Arc<Remote>, now: &Now) -> Hope {
        let mut state = self.lock();
        let until_next = state.next_nanos.saturating_sub(now.monotonic_nanos);
        let may_begin = self.may_begin(&state, now);
        if state.is_on_its_way || may_begin {
            if state.waiting.len() >= MOST_WAITING {
                return Hope::Outage(until_next);
            }
            // A refresh that was on its way already may bring what was true before the key was made: the one after it counts.
            // Where nothing is known yet, whatever it brings is news.
            let is_another = may_begin && state.fetched_nanos.is_some();
            state.is_wanted |= is_another || !state.is_on_its_way;
            let rounds = u64::from(state.is_on_its_way && is_another);
            return Hope::Wait(NextRound { remote: Arc::clone(self), after: state.rounds + rounds });
        }
        if state.error.is_some() { Hope::Outage(until_next) } else { Hope::None }
    }

    /// The same for who has waited already.
    pub(super) fn verdict(&self, now: &Now) -> Hope {
        let state = self.lock();
        match state.error {
            None if state.fetched_nanos.is_some() => Hope::None,
            _ => Hope::Outage(state.next_nanos.saturating_sub(now.monotonic_nanos)),
        }
    }

    fn may_begin(&self, state: &State, now: &Now) -> bool {
        let is_rested = |asked: u64| now.monotonic_nanos.saturating_sub(asked) >= nanos(self.rules.cooldown);
        // After a failure the pause is longer than the cooldown, and `next_nanos` knows it.
        state.asked_nanos.is_none_or(is_rested) && (state.failures == 0 || now.monotonic_nanos >= state.next_nanos)
    }

    /// Begins a fetch if one is due.
    pub(crate) fn begin(&self, now: &Now) -> bool {
        let mut state = self.lock();
        let is_due = now.monotonic_nanos >= state.next_nanos || (state.is_wanted && self.may_begin(&state, now));
        if state.is_on_its_way || !is_due {
            return false;
        }
        state.is_on_its_way = true;
        // The first one is due to nobody's unknown key.
        if std::mem::take(&mut state.is_wanted) && state.fetched_nanos.is_some() {
            state.asked_nanos = Some(now.monotonic_nanos);
        }
        true
    }

    /// The fetch that began has ended: with keys that are good for so many nanoseconds, or not.
    pub(crate) fn end(&self, now: &Now, result: Result<Option<u64>, String>) {
        let waiting = {
            let mut state = self.lock();
            let cooldown = nanos(self.rules.cooldown);
            match result {
                Ok(good_for) => {
                    let refresh = nanos(self.rules.refresh);
                    // Before they are over, and neither all the time nor never.
                    let good_for = good_for.map_or(refresh, |good_for| good_for / 5 * 4);
                    state.next_nanos =
                        now.monotonic_nanos.saturating_add(good_for.clamp(cooldown, refresh.max(cooldown)));
                    state.fetched_nanos = Some(now.monotonic_nanos);
                    (state.failures, state.error) = (0, None);
                }
                Err(error) => {
                    let pause = cooldown.saturating_mul(1 << state.failures.min(MOST_DOUBLINGS));
                    state.next_nanos = now.monotonic_nanos.saturating_add(pause);
                    state.failures += 1;
                    state.error = Some(error);
                    // Nobody waits through a pause.
                    state.is_wanted = false;
                    state.rounds += 1;
                }
            }
            state.is_on_its_way = false;
            state.rounds += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// What people are shown.
    pub(crate) fn seen(&self, now: &Now) -> Seen {
        let state = self.lock();
        let age = |fetched: u64| now.monotonic_nanos.saturating_sub(fetched) / 1_000_000_000;
        Seen { age_seconds: state.fetched_nanos.map(age), error: state.error.clone() }
    }
}

/// Ends when the fetch ends that was on its way, or due, when it was made.
pub(super) struct NextRound {
    remote: Arc<Remote>,
    after: u64,
}

impl Future for NextRound {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.remote.lock();
        if state.rounds > self.after {
            return Poll::Ready(());
        }
        // Who is polled again is not counted again.
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}
