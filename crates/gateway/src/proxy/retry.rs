//! Whether and when an upstream is asked again: attempts, jittered exponential backoff, and a budget.
//!
//! Only the proxy asks. What may be repeated at all is decided by the fault and the request (`attempt`); this file keeps
//! retries from becoming a storm: of all requests at most `budget` (a share) are retries, plus a small reserve.
//!
//! Invariant: the budget never goes below zero and never above [`MOST_SAVED`] retries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Backoff never grows above this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Budget is counted in thousandths of a retry.
const ONE_RETRY: u64 = 1000;

/// At most this many retries can be saved up in quiet times; a fresh upstream starts with them.
pub const MOST_SAVED: u64 = 10;

/// The rule of one upstream.
pub struct Retry {
    /// Attempts in all, the first included. 1 means never again.
    pub attempts: u32,
    /// The first backoff; it doubles with each further attempt.
    pub first_backoff: Duration,
    /// What keeps retries from multiplying an outage.
    pub budget: Budget,
}

impl Retry {
    /// How long to wait after `attempts_made` attempts. `chance` in 0..1 spreads the waits over the upper half, so that
    /// clients that failed together do not come back together.
    #[must_use]
    pub fn backoff(&self, attempts_made: u32, chance: f64) -> Duration {
        let doublings = attempts_made.saturating_sub(1).min(16);
        let full = self.first_backoff.saturating_mul(1 << doublings).min(LONGEST_BACKOFF);
        full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// Retries as a share of requests (Finagle's retry budget).
pub struct Budget {
    saved: AtomicU64,
    deposit: u64,
}

impl Budget {
    /// `share` of requests may be retries, 0.0 to 1.0.
    #[must_use]
    pub fn new(share: f64) -> Budget {
        let deposit = (share.clamp(0.0, 1.0) * ONE_RETRY as f64) as u64;
        Budget { saved: AtomicU64::new(MOST_SAVED * ONE_RETRY), deposit }
    }

    /// A request has come.
    pub fn deposit(&self) {
        // Full most of the time: then this is one load of a line that nobody writes.
        if self.saved.load(Ordering::Relaxed) < MOST_SAVED * ONE_RETRY {
            let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
                Some((saved + self.deposit).min(MOST_SAVED * ONE_RETRY))
            });
        }
    }

    /// Takes one retry, if there is one.
    pub fn withdraw(&self) -> bool {
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(ONE_RETRY)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Retry {
        Retry { attempts: 3, first_backoff: Duration::from_millis(100), budget: Budget::new(0.2) }
    }

    #[test]
    fn backoff_doubles_and_stays_within_its_half_and_its_cap() {
        for (made, full_ms) in [(1, 100), (2, 200), (3, 400), (6, 3200), (7, 5000), (40, 5000), (u32::MAX, 5000)] {
            assert_eq!(retry().backoff(made, 1.0), Duration::from_millis(full_ms));
            assert_eq!(retry().backoff(made, 0.0), Duration::from_millis(full_ms) / 2);
        }
    }

    #[test]
    fn a_dead_upstream_gets_at_most_the_budgets_share_of_extra_requests() {
        let budget = Budget::new(0.2);
        let mut retries = 0;
        for _ in 0..10_000 {
            budget.deposit();
            while budget.withdraw() {
                retries += 1;
            }
        }
        assert!(retries <= 2000 + MOST_SAVED, "{retries} retries of 10000 requests");
        assert!(retries >= 1990, "{retries} retries: the budget is not used");
    }

    #[test]
    fn quiet_times_save_only_so_much() {
        let budget = Budget::new(1.0);
        for _ in 0..1000 {
            budget.deposit();
        }
        let mut retries = 0;
        while budget.withdraw() {
            retries += 1;
        }
        assert_eq!(retries, MOST_SAVED);
    }
}
