//! Permits: what an admitted attempt holds, and how its outcome comes back to the breaker.
//!
//! `state.rs` gives them; whoever makes the attempt reports through them, or drops them.
//!
//! Invariant: a permit reports at most once, and a probe's place never outlives its permit.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::sync::Arc;

use portcullis_core::fault::ErrorType;

use super::decide::Verdict;
use super::state::Breaker;

/// A permit that shares its breaker, for attempts that outlive the caller.
pub type OwnedPermit = Permit<Arc<Breaker>>;

/// Leave for one attempt. Reports once, by value; dropped without a report it counts as neutral, so an attempt that is
/// cancelled or panics gives its place back.
#[must_use = "a permit that is dropped tells the breaker that nothing was learnt"]
pub struct Permit<B: Deref<Target = Breaker>> {
    breaker: B,
    ticket: Ticket,
}

/// What the breaker knows a permit by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// State and generation at admission. Means nothing beside a lease.
    pub(super) head: u64,
    /// When it was admitted.
    pub(super) since: u64,
    /// The probe's lease; none when closed, and none once reported.
    pub(super) lease: Option<NonZeroU64>,
}

impl<B: Deref<Target = Breaker>> Permit<B> {
    pub(super) fn new(breaker: B, ticket: Ticket) -> Permit<B> {
        Permit { breaker, ticket }
    }

    /// Reports what became of the attempt, at `now`.
    #[inline]
    pub fn report(mut self, now: u64, verdict: Verdict) {
        match self.ticket.lease.take() {
            None => self.breaker.settle(self.ticket.head, verdict, now),
            Some(lease) => self.breaker.settle_probe(lease, verdict, now),
        }
        self.breaker.observer().reported(verdict, now.saturating_sub(self.ticket.since));
    }

    /// Reports [`Verdict::Success`].
    #[inline]
    pub fn success(self, now: u64) {
        self.report(now, Verdict::Success);
    }

    /// Reports [`Verdict::Failure`].
    pub fn failure(self, now: u64, kind: ErrorType) {
        self.report(now, Verdict::Failure(kind));
    }

    /// Reports that nothing was learnt: what dropping the permit does, said aloud.
    pub fn neutral(self) {}

    /// Whether this attempt is a probe of a half-open breaker. A probe should not be retried.
    pub fn is_probe(&self) -> bool {
        self.ticket.lease.is_some()
    }
}

impl<B: Deref<Target = Breaker>> Drop for Permit<B> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lease) = self.ticket.lease.take() {
            self.breaker.release(lease);
        }
    }
}

impl<B: Deref<Target = Breaker>> fmt::Debug for Permit<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Permit").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
