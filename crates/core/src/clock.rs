//! Time as the rest of the house sees it: a value that is read once a request and passed in.
//!
//! Only the binary's clock (and the pretend clock of the tests) makes a [`Now`]; guards, stores and deciders receive it.
//!
//! Invariant: nothing in this room reads a clock; nothing below the gateway does either.

use std::time::Duration;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the process started, never going backwards. For durations, windows, leases and deadlines.
    pub monotonic_nanos: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z. For what people and other machines read; may step.
    pub unix_millis: u64,
}

impl Now {
    /// The monotonic instant `later` from now, saturating (584 years after start).
    #[must_use]
    pub fn after(&self, later: Duration) -> u64 {
        self.monotonic_nanos.saturating_add(nanos(later))
    }
}

/// Where a [`Now`] comes from. The gateway has the real one, the testkit a pretend one.
pub trait Clock: Send + Sync {
    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// A duration in whole nanoseconds, saturating at `u64::MAX`.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole seconds, rounded up, at least 1: what `Retry-After` carries (RFC 9110, section 10.2.3).
#[must_use]
pub fn retry_after_seconds(wait_nanos: u64) -> u64 {
    wait_nanos.div_ceil(1_000_000_000).max(1)
}

/// Writes `unix_millis` as RFC 3339 in UTC with milliseconds (`2026-01-01T10:00:00.000Z`), always 24 bytes.
///
/// Years past 9999 are shown as 9999: a wrong clock must not break the format.
#[must_use]
pub fn rfc3339(unix_millis: u64) -> [u8; 24] {
    let seconds = (unix_millis / 1000).min(253_402_300_799);
    let millis = unix_millis % 1000;
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let of_day = seconds % 86_400;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], of_day / 3600);
    put(&mut text[14..16], of_day / 60 % 60);
    put(&mut text[17..19], of_day % 60);
    put(&mut text[20..23], millis);
    text
}

fn put(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since 1970-01-01 to (year, month, day) in the proleptic Gregorian calendar, counting years from 1 March
/// so that the leap day is the last of its year.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_millis: u64) -> String {
        String::from_utf8(rfc3339(unix_millis).to_vec()).unwrap()
    }

    #[test]
    fn known_instants_are_written_as_rfc3339() {
        for (unix_millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_767_261_600_000, "2026-01-01T10:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(text(unix_millis), expected);
        }
    }

    #[test]
    fn a_clock_from_the_far_future_keeps_the_format() {
        assert_eq!(text(u64::MAX).len(), 24);
        assert!(text(u64::MAX).starts_with("9999-12-31T23:59:59."));
    }

    #[test]
    fn retry_after_rounds_up_and_is_at_least_one() {
        assert_eq!(retry_after_seconds(0), 1);
        assert_eq!(retry_after_seconds(1_000_000_000), 1);
        assert_eq!(retry_after_seconds(1_000_000_001), 2);
        assert_eq!(retry_after_seconds(u64::MAX), 18_446_744_074);
    }
}
