//! A span of time as people write it: `500ms`, `30s`, `10m`, `1h30m`, `7d`.
//!
//! Config and admin API hold these texts; code hands the inner [`std::time::Duration`] on through `Deref`.
//!
//! Invariant: a text never reads as more than [`Duration::MAX`], and a number without a unit never reads at all.

use std::{fmt, ops::Deref, str::FromStr, time};

use super::{leading_integer, text_unit};

pub(super) const FORMAT: &str = "duration";

/// Units from the longest to the shortest, with their length in nanoseconds.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A span of time, written as whole numbers with units, longest unit first: `30s`, `1h30m`.
///
/// Units are `d`, `h`, `m`, `s`, `ms`, `us` and `ns`. What is read from text is at most [`Duration::MAX`] (3650 days);
/// what comes from a [`std::time::Duration`] is taken as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

impl Duration {
    /// The longest span that a text may name: 3650 days.
    pub const MAX: Self = Self(time::Duration::from_secs(3650 * 86_400));
    /// No time at all.
    pub const ZERO: Self = Self(time::Duration::ZERO);

    /// A span of whole milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(time::Duration::from_millis(milliseconds))
    }

    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// The standard library's value.
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl Deref for Duration {
    type Target = time::Duration;
    fn deref(&self) -> &time::Duration {
        &self.0
    }
}

impl From<time::Duration> for Duration {
    fn from(span: time::Duration) -> Self {
        Self(span)
    }
}

impl From<Duration> for time::Duration {
    fn from(span: Duration) -> Self {
        span.0
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_nanos();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in UNITS {
            let count = left / length;
            left %= length;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is not a [`Duration`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing is written.
    #[error("an empty text is not a duration: write for example `30s`")]
    Empty,
    /// A number stands alone.
    #[error("`{0}` has no unit: write `{0}s` for seconds or `{0}ms` for milliseconds")]
    NoUnit(String),
    /// A fraction or a sign: only whole numbers count.
    #[error("`{0}` is not a duration: write whole numbers with a unit, for example `1500ms` or `1h30m`")]
    NotANumber(String),
    /// Letters that name no unit.
    #[error("`{unit}` in `{text}` is not a unit of time: use ms, s, m, h or d")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The letters that were read as a unit.
        unit: String,
    },
    /// Units repeat, or a longer one follows a shorter one.
    #[error("`{0}` mixes up its units: write each once, the longest first, for example `1h30m`")]
    Order(String),
    /// More than [`Duration::MAX`].
    #[error("`{0}` is too long: at most 3650d")]
    TooLong(String),
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text.is_empty() {
            return Err(DurationError::Empty);
        }
        let mut nanoseconds = 0u128;
        let mut units = UNITS.iter();
        let mut rest = text;
        while !rest.is_empty() {
            if !rest.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(DurationError::NotANumber(text.to_owned()));
            }
            let (count, after) = leading_integer(rest).ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
            let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            if unit.is_empty() {
                return Err(if text.bytes().all(|b| b.is_ascii_digit()) {
                    DurationError::NoUnit(text.to_owned())
                } else {
                    DurationError::NotANumber(text.to_owned())
                });
            }
            if !UNITS.iter().any(|(name, _)| *name == unit) {
                return Err(DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() });
            }
            // The iterator only moves on: a unit that is behind it was already used or is longer than the last one.
            let Some((_, length)) = units.find(|(name, _)| *name == unit) else {
                return Err(DurationError::Order(text.to_owned()));
            };
            nanoseconds += u128::from(count) * length;
            rest = after;
        }
        if nanoseconds > Self::MAX.0.as_nanos() {
            return Err(DurationError::TooLong(text.to_owned()));
        }
        let seconds = u64::try_from(nanoseconds / 1_000_000_000).expect("bounded by 3650 days above");
        let rest = u32::try_from(nanoseconds % 1_000_000_000).expect("a remainder below 10^9");
        Ok(Self(time::Duration::new(seconds, rest)))
    }
}

text_unit!(
    Duration,
    "Duration",
    FORMAT,
    r"^([0-9]+(d|h|ms|m|s|us|ns))+$",
    "a duration such as `500ms`, `30s`, `1h30m` or `7d`, at most 3650d",
    ["500ms", "30s", "1h30m"],
    |number: String| DurationError::NoUnit(number).to_string()
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_read_as_their_length() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("0s", 0),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!("250us".parse::<Duration>().map(|d| d.as_micros()), Ok(250));
    }

    #[test]
    fn wrong_texts_say_what_is_wrong() {
        let unit = |text: &str, unit: &str| DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() };
        for (text, error) in [
            ("", DurationError::Empty),
            ("30", DurationError::NoUnit("30".into())),
            ("1.5h", DurationError::NotANumber("1.5h".into())),
            ("-1s", DurationError::NotANumber("-1s".into())),
            ("+1s", DurationError::NotANumber("+1s".into())),
            ("1h30", DurationError::NotANumber("1h30".into())),
            ("s", DurationError::NotANumber("s".into())),
            ("30 s", DurationError::NotANumber("30 s".into())),
            ("30sec", unit("30sec", "sec")),
            ("30S", unit("30S", "S")),
            ("30m1h", DurationError::Order("30m1h".into())),
            ("1h1h", DurationError::Order("1h1h".into())),
            ("3651d", DurationError::TooLong("3651d".into())),
            ("3650d1ns", DurationError::TooLong("3650d1ns".into())),
            ("18446744073709551615d", DurationError::TooLong("18446744073709551615d".into())),
            ("18446744073709551616s", DurationError::TooLong("18446744073709551616s".into())),
        ] {
            assert_eq!(text.parse::<Duration>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back(nanoseconds in 0u64..=315_360_000_000_000_000) {
            let span = Duration::from(time::Duration::from_nanos(nanoseconds));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_panics_and_none_exceeds_the_bound(text in "\\PC{0,12}|[0-9dhms]{0,24}") {
            if let Ok(span) = text.parse::<Duration>() {
                prop_assert!(span <= Duration::MAX);
            }
        }
    }
}
