//! Oracles for the counters' checks, and the dice that make schedules.
//!
//! The bucket is a leaky one that is filled by costs and drained by time (a meter, where backends keep a time stamp),
//! and beside it an exact account of what was written, in whole units times the period, without any rounding.
//!
//! Invariant: for clocks that run forward only.

use crate::counters::Nanos;

/// A token bucket as a meter.
pub(super) struct LeakyBucket {
    limit: u64,
    period: u64,
    burst: u64,
    interval: u64,
    /// Nanoseconds' worth of units in the bucket, at the rounded rate a backend keeps.
    level: u64,
    /// The same at the rate as written, in units times the period.
    exact_level: u128,
    now: Nanos,
}

impl LeakyBucket {
    pub(super) fn new(limit: u64, period: u64, burst: u64, now: Nanos) -> Self {
        Self { limit, period, burst, interval: period.div_ceil(limit), level: 0, exact_level: 0, now }
    }

    pub(super) fn take(&mut self, cost: u64, now: Nanos) -> bool {
        let elapsed = now - self.now;
        self.now = now;
        self.level = self.level.saturating_sub(elapsed);
        self.exact_level = self.exact_level.saturating_sub(u128::from(elapsed) * u128::from(self.limit));
        let is_allowed = cost == 0 || self.level + cost * self.interval <= self.burst * self.interval;
        if is_allowed {
            self.level += cost * self.interval;
            self.exact_level += u128::from(cost) * u128::from(self.period);
        }
        is_allowed
    }

    /// Whether no span of time, whichever, was given more than the burst and the rate times its length.
    pub(super) fn is_within_what_was_written(&self) -> bool {
        self.exact_level <= u128::from(self.burst) * u128::from(self.period)
    }
}

/// A fixed window that keeps every admission.
pub(super) struct WindowCount {
    limit: u64,
    period: u64,
    admitted: Vec<(Nanos, u64)>,
}

impl WindowCount {
    pub(super) fn new(limit: u64, period: u64) -> Self {
        Self { limit, period, admitted: Vec::new() }
    }

    pub(super) fn take(&mut self, cost: u64, now: Nanos) -> bool {
        let window = now / self.period;
        let used = self.sum(|at| at / self.period == window);
        let is_allowed = cost == 0 || used + cost <= self.limit;
        if is_allowed {
            self.admitted.push((now, cost));
        }
        is_allowed
    }

    /// Whether the period that ends now got at most twice the limit.
    pub(super) fn is_within_twice_the_limit(&self, now: Nanos) -> bool {
        self.sum(|at| at + self.period > now) <= 2 * self.limit
    }

    fn sum(&self, counts: impl Fn(Nanos) -> bool) -> u64 {
        self.admitted.iter().filter(|(at, _)| counts(*at)).map(|(_, cost)| cost).sum()
    }
}

/// Repeatable random numbers: SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`, which is above 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}
