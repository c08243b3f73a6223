//! How the breaker tells of its transitions and of attempts, so that metrics and logs follow the machine itself.
//!
//! `state.rs` calls the [`Observer`] from the one place where the state changes, permits from the one where they report.
//!
//! Invariant: a gauge that is set and a counter that is raised here can never differ from the machine.

use portcullis_core::fault::ErrorType;

use super::decide::{Counts, State, Verdict};

/// One change of state, as an [`Observer`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state that was left.
    pub from: State,
    /// The state that was entered.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Closed to open: too many failures; the last one was of this kind.
    Failures(ErrorType, Counts),
    /// Open to half-open: the open time is up.
    TimeUp,
    /// Half-open to open: a probe failed this way.
    ProbeFailed(ErrorType),
    /// Half-open to closed: enough probes succeeded.
    ProbesSucceeded,
}

/// Hears of every transition, in order, each exactly once, at the moment it happens.
pub trait Observer: Send + Sync {
    /// Called while the breaker is locked: it must be quick (set a gauge, add to a counter, queue a log line) and must
    /// not call the breaker.
    fn transition(&self, transition: &Transition);

    /// An attempt reported `verdict`, `took_nanos` after it was admitted; also when the verdict came too late to count.
    /// Called without the lock, on the way of every request. Attempts that never report are not heard of.
    fn reported(&self, _verdict: Verdict, _took_nanos: u64) {}

    /// A request was refused. Called on the way of every refusal.
    fn rejected(&self) {}
}

/// Observes nothing.
impl Observer for () {
    fn transition(&self, _: &Transition) {}
}
