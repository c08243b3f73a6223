//! Division by a number that is known long before: one multiplication and one correction in place of a 64-bit divide.
//!
//! A quota divides on every request by an interval fixed at start; a hardware divide of nanoseconds is the dearest
//! instruction of the whole decision.
//!
//! Invariant: `Divisor::divide` equals integer division for every input below 2^63.

/// A divisor with its reciprocal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divisor {
    value: u64,
    /// floor(2^64 / value), or 2^64 - 1 for the value 1.
    reciprocal: u64,
}

impl Divisor {
    /// `value` 0 is taken as 1: compiled quotas refuse a zero span before they come here.
    pub(super) fn new(value: u64) -> Self {
        let value = value.max(1);
        let reciprocal = u64::try_from((1u128 << 64) / u128::from(value)).unwrap_or(u64::MAX);
        Self { value, reciprocal }
    }

    #[inline]
    pub(super) fn value(self) -> u64 {
        self.value
    }

    /// floor(`dividend` / value) for a dividend below 2^63.
    ///
    /// With r = floor(2^64 / v) the estimate x * r / 2^64 is short of x / v by less than x / 2^64 < 1, so its floor is
    /// the quotient or one below it.
    #[inline]
    pub(super) fn divide(self, dividend: u64) -> u64 {
        debug_assert!(dividend < 1 << 63, "{dividend} is beyond the proof");
        let estimate = ((u128::from(dividend) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = dividend - estimate * self.value;
        estimate + u64::from(rest >= self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::Divisor;
    use proptest::prelude::*;

    #[test]
    fn edges_divide_as_integers_do() {
        let edges = [0, 1, 2, 3, 99, 100, 1 << 20, (1 << 32) - 1, 1 << 32, (1 << 58) - 1, 1 << 58, (1 << 63) - 1];
        for value in edges.into_iter().filter(|&v| v > 0) {
            for dividend in edges {
                assert_eq!(Divisor::new(value).divide(dividend), dividend / value, "{dividend} / {value}");
            }
        }
    }

    proptest! {
        #[test]
        fn divides_as_integers_do(value in 1u64..1 << 60, shift in 0u32..60, dividend in 0u64..1 << 63) {
            let value = (value >> shift).max(1);
            prop_assert_eq!(Divisor::new(value).divide(dividend), dividend / value);
            let multiple = (dividend / value) * value;
            prop_assert_eq!(Divisor::new(value).divide(multiple), multiple / value);
        }
    }
}
