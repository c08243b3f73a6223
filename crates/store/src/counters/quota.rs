//! Quotas: what the operator wrote, checked once, and the small form that every decision uses.
//!
//! A token bucket of `burst` units that refills at `limit / period` is kept as GCRA (ITU-T I.371, annex A): `interval`
//! nanoseconds per unit, `tolerance = burst * interval`. A fixed window counts up to `limit` in windows that start at
//! multiples of the period; it lets through up to twice the limit in a period that straddles two windows.
//!
//! Invariant: a compiled quota cannot overflow in any later sum, and never allows more than was written.

use super::division::Divisor;

/// The longest period, and the longest time from empty to full: 2^58 nanoseconds, a little over nine years.
pub const SPAN_MAX_NANOS: u64 = 1 << 58;

/// How far a clock may seem to step back before it counts as a real step: one second.
///
/// Threads read the clock, are put off the processor and use the reading later. Within this slack a late reading
/// changes nothing, so that threads which disagree about `now` cannot win units by taking turns.
pub const CLOCK_SLACK_NANOS: u64 = 1_000_000_000;

/// Instants are read as this one at most, which leaves room for a tolerance beyond any instant.
pub(super) const HORIZON_NANOS: u64 = 1 << 59;

/// A unit costs at least this long, so that rounding it up to whole nanoseconds slows a bucket by at most 1 %.
const INTERVAL_MIN_NANOS: u64 = 100;

/// Fixed windows share one word between the count (24 bits) and the window's end in steps of 2^20 nanoseconds.
const WINDOW_LIMIT_MAX: u64 = (1 << 24) - 1;
const WINDOW_PERIOD_MIN_NANOS: u64 = 10_000_000;

/// How units come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Steadily, `limit` units per period, up to `burst`.
    TokenBucket,
    /// All at once, when the next window starts.
    FixedWindow,
}

/// A quota as written: `limit` units per period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How units come back.
    pub algorithm: Algorithm,
    /// Units per period. 0 closes the quota: every request that costs something is refused for good.
    pub limit: u64,
    /// Length of the period in nanoseconds, up to [`SPAN_MAX_NANOS`].
    pub period_nanos: u64,
    /// Most units a rested token bucket holds; 0 closes it. Fixed windows do not read it.
    pub burst: u64,
}

/// Why a quota cannot be kept as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// The period is 0.
    #[error("a quota of {limit} units needs a period longer than 0")]
    ZeroPeriod {
        /// The limit as written.
        limit: u64,
    },
    /// The period, or the time an empty bucket takes to fill, is above [`SPAN_MAX_NANOS`].
    #[error("a quota of {limit} units in {period_nanos} ns with burst {burst} needs more than nine years to refill")]
    TooSlow {
        /// The limit as written.
        limit: u64,
        /// The period as written.
        period_nanos: u64,
        /// The burst as written.
        burst: u64,
    },
    /// A token bucket of more than ten million units a second.
    #[error("a token bucket of {limit} units in {period_nanos} ns is above 10 million a second; count in larger units")]
    TooFast {
        /// The limit as written.
        limit: u64,
        /// The period as written.
        period_nanos: u64,
    },
    /// A fixed window of more than 16,777,215 units.
    #[error("a fixed window counts up to 16777215, not {limit}; count in larger units or use a token bucket")]
    WindowTooLarge {
        /// The limit as written.
        limit: u64,
    },
    /// A fixed window shorter than 10 ms.
    #[error("a fixed window lasts at least 10 ms, not {period_nanos} ns; use a token bucket")]
    WindowTooShort {
        /// The period as written.
        period_nanos: u64,
    },
}

/// A quota ready for decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompiledQuota {
    pub(super) algorithm: Algorithm,
    /// Most units at once; 0 when closed.
    pub(super) capacity: u64,
    /// Token bucket: nanoseconds per unit. Fixed window: the period.
    pub(super) span: Divisor,
    /// Token bucket: nanoseconds from empty to full. Fixed window: 0.
    pub(super) tolerance_nanos: u64,
    class: u16,
}

impl Quota {
    /// Checks the quota and computes what every decision needs. Rates are rounded down, by at most 1 %, and by less
    /// than one part in a million below a thousand units a second.
    ///
    /// # Errors
    /// A quota that cannot be kept as written; see [`QuotaError`].
    pub fn compile(&self) -> Result<CompiledQuota, QuotaError> {
        let Self { algorithm, limit, period_nanos, burst } = *self;
        if period_nanos == 0 {
            return Err(QuotaError::ZeroPeriod { limit });
        }
        let too_slow = QuotaError::TooSlow { limit, period_nanos, burst };
        if period_nanos > SPAN_MAX_NANOS {
            return Err(too_slow);
        }
        match algorithm {
            Algorithm::TokenBucket => {
                if limit > period_nanos / INTERVAL_MIN_NANOS {
                    return Err(QuotaError::TooFast { limit, period_nanos });
                }
                // A bucket that never refills must not lend its first burst either.
                let capacity = if limit == 0 { 0 } else { burst };
                let interval = period_nanos.div_ceil(limit.max(1));
                let full = capacity.checked_mul(interval).filter(|&full| full <= SPAN_MAX_NANOS);
                full.ok_or(too_slow)?;
                Ok(CompiledQuota::token_bucket(capacity, interval))
            }
            Algorithm::FixedWindow => {
                if limit > WINDOW_LIMIT_MAX {
                    return Err(QuotaError::WindowTooLarge { limit });
                }
                if period_nanos < WINDOW_PERIOD_MIN_NANOS {
                    return Err(QuotaError::WindowTooShort { period_nanos });
                }
                Ok(CompiledQuota::fixed_window(limit, period_nanos))
            }
        }
    }
}

impl CompiledQuota {
    /// How units come back.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The most units a rested key can take at once; 0 when the quota is closed.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Nanoseconds per unit of a token bucket, or the period of a fixed window.
    pub fn span_nanos(&self) -> u64 {
        self.span.value()
    }

    /// The same quota `times` as generous in rate and burst, cut where a quota could not be written larger.
    pub(crate) fn widened(&self, times: u64) -> Self {
        let capacity = self.capacity.saturating_mul(times);
        match self.algorithm {
            Algorithm::TokenBucket => {
                let interval = (self.span.value() / times).max(1);
                Self::token_bucket(capacity.min(SPAN_MAX_NANOS / interval), interval)
            }
            Algorithm::FixedWindow => Self::fixed_window(capacity.min(WINDOW_LIMIT_MAX), self.span.value()),
        }
    }

    /// Tells states of unlike quotas apart and says, within 0.4 %, what share of its quota a state has used.
    pub(crate) fn class(&self) -> u16 {
        self.class
    }

    fn token_bucket(capacity: u64, interval: u64) -> Self {
        let tolerance_nanos = capacity * interval;
        Self {
            algorithm: Algorithm::TokenBucket,
            capacity,
            span: Divisor::new(interval),
            tolerance_nanos,
            class: class_of(Algorithm::TokenBucket, tolerance_nanos),
        }
    }

    fn fixed_window(capacity: u64, period_nanos: u64) -> Self {
        Self {
            algorithm: Algorithm::FixedWindow,
            capacity,
            span: Divisor::new(period_nanos),
            tolerance_nanos: 0,
            class: class_of(Algorithm::FixedWindow, capacity),
        }
    }
}

const CLASS_WINDOW: u16 = 1 << 15;
const CLASS_DIGITS: u32 = 9;

/// One bit for the algorithm, six for a shift and nine for the leading digits of `full`, rounded up.
fn class_of(algorithm: Algorithm, full: u64) -> u16 {
    let mut shift = (u64::BITS - full.leading_zeros()).saturating_sub(CLASS_DIGITS);
    let mut digits = full.div_ceil(1 << shift);
    if digits >> CLASS_DIGITS != 0 {
        digits >>= 1;
        shift += 1;
    }
    let kind = match algorithm {
        Algorithm::TokenBucket => 0,
        Algorithm::FixedWindow => CLASS_WINDOW,
    };
    // Six bits of shift: `full` is at most 2^58, so the shift is at most 50.
    kind | (shift as u16) << CLASS_DIGITS | digits as u16
}

/// The algorithm of a class, and what a full use comes to: nanoseconds of a bucket, units of a window.
pub(super) fn read_class(class: u16) -> (Algorithm, u64) {
    let shift = (class & !CLASS_WINDOW) >> CLASS_DIGITS;
    let full = u64::from(class & ((1 << CLASS_DIGITS) - 1)) << shift;
    if class & CLASS_WINDOW == 0 { (Algorithm::TokenBucket, full) } else { (Algorithm::FixedWindow, full) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(limit: u64, period_nanos: u64, burst: u64) -> Quota {
        Quota { algorithm: Algorithm::TokenBucket, limit, period_nanos, burst }
    }

    fn window(limit: u64, period_nanos: u64) -> Quota {
        Quota { algorithm: Algorithm::FixedWindow, limit, period_nanos, burst: 0 }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let huge = 1 << 63;
        let refused = |quota: Quota| quota.compile().unwrap_err();
        assert_eq!(refused(bucket(1, 0, 1)), QuotaError::ZeroPeriod { limit: 1 });
        assert_eq!(refused(window(1, 0)), QuotaError::ZeroPeriod { limit: 1 });
        assert!(matches!(refused(bucket(1, huge, 1)), QuotaError::TooSlow { .. }));
        assert!(matches!(refused(bucket(1, SECOND, huge)), QuotaError::TooSlow { .. }));
        assert!(matches!(refused(bucket(1, SPAN_MAX_NANOS, 2)), QuotaError::TooSlow { .. }));
        assert!(matches!(refused(bucket(huge, SECOND, 1)), QuotaError::TooFast { .. }));
        assert!(matches!(refused(bucket(10_000_001, SECOND, 1)), QuotaError::TooFast { .. }));
        assert!(matches!(refused(window(1 << 24, SECOND)), QuotaError::WindowTooLarge { .. }));
        assert!(matches!(refused(window(1, 9_999_999)), QuotaError::WindowTooShort { .. }));
    }

    #[test]
    fn the_largest_quotas_compile() {
        let compiled = bucket(10_000_000, SECOND, SPAN_MAX_NANOS / 100).compile().unwrap();
        assert_eq!((compiled.span_nanos(), compiled.tolerance_nanos), (100, SPAN_MAX_NANOS / 100 * 100));
        assert_eq!(window(WINDOW_LIMIT_MAX, SPAN_MAX_NANOS).compile().unwrap().capacity(), WINDOW_LIMIT_MAX);
    }

    #[test]
    fn rates_are_rounded_down_never_up() {
        let compiled = bucket(3, SECOND, 1).compile().unwrap();
        assert_eq!(compiled.span_nanos(), 333_333_334);
    }

    #[test]
    fn widening_keeps_every_bound() {
        let largest = bucket(10_000_000, SECOND, SPAN_MAX_NANOS / 100).compile().unwrap().widened(1024);
        assert_eq!((largest.span_nanos(), largest.capacity()), (1, SPAN_MAX_NANOS));
        let usual = bucket(200, 10 * SECOND, 50).compile().unwrap().widened(1024);
        assert_eq!((usual.span_nanos(), usual.capacity()), (50_000_000 / 1024, 50 * 1024));
        assert_eq!(window(100_000, SECOND).compile().unwrap().widened(1024).capacity(), WINDOW_LIMIT_MAX);
    }

    proptest! {
        #[test]
        fn a_class_tells_fullness_within_a_part_in_256(full in 0u64..=SPAN_MAX_NANOS, shift in 0u32..58) {
            let full = full >> shift;
            for algorithm in [Algorithm::TokenBucket, Algorithm::FixedWindow] {
                let (read, rounded) = read_class(class_of(algorithm, full));
                prop_assert_eq!(read, algorithm);
                prop_assert!(rounded >= full && rounded - full <= full / 256, "{} for {}", rounded, full);
            }
        }
    }
}
