//! So many per span of time: `200/10s`, `100/m`.
//!
//! The rate limiter's config holds these; how a rate is enforced (bucket or window) is the guard's business.
//!
//! Invariant: count and span are both at least one (one request, one nanosecond), so that a division never meets a zero.

use std::{fmt, num::NonZeroU64, str::FromStr};

use super::{Duration, DurationError, text_unit};

pub(super) const FORMAT: &str = "rate";

/// So many in a span of time, written `COUNT/DURATION`: `200/10s`, or `100/m` for `100/1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU64,
    per: Duration,
}

impl Rate {
    /// The highest count a rate may have: 10^9, so that count times nanoseconds of ten years fits in `u128` arithmetic
    /// and one unit of count stays far above rounding.
    pub const MAX_COUNT: u64 = 1_000_000_000;

    /// `count` in each span of `per`; `None` where either is zero or above its bound.
    pub fn new(count: u64, per: Duration) -> Option<Self> {
        let count = NonZeroU64::new(count).filter(|count| count.get() <= Self::MAX_COUNT)?;
        (!per.is_zero() && per <= Duration::MAX).then_some(Self { count, per })
    }

    /// How many, from 1 to [`Rate::MAX_COUNT`].
    pub const fn count(self) -> u64 {
        self.count.get()
    }

    /// In which span, above zero and at most [`Duration::MAX`].
    pub const fn per(self) -> Duration {
        self.per
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per)
    }
}

/// Why a text is not a [`Rate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not of the form `COUNT/DURATION`.
    #[error("`{0}` is not a rate: write COUNT/DURATION, for example `200/10s` or `100/m`")]
    Shape(String),
    /// The count is zero, or above [`Rate::MAX_COUNT`].
    #[error("`{0}` counts outside 1 to 1000000000")]
    Count(String),
    /// The span is no duration.
    #[error("`{text}` is not a rate")]
    Per {
        /// The whole text.
        text: String,
        /// What is wrong with the span.
        #[source]
        source: DurationError,
    },
    /// The span is zero.
    #[error("`{0}` has an empty span: write at least `1ms`")]
    Zero(String),
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let shape = || RateError::Shape(text.to_owned());
        let (count, per) = text.split_once('/').ok_or_else(shape)?;
        if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) || per.is_empty() {
            return Err(shape());
        }
        // `100/m`: a lone unit means one of it.
        let span = if per.bytes().all(|b| b.is_ascii_alphabetic()) { format!("1{per}").parse() } else { per.parse() };
        let per: Duration = span.map_err(|source| RateError::Per { text: text.to_owned(), source })?;
        if per.is_zero() {
            return Err(RateError::Zero(text.to_owned()));
        }
        let count = count.parse().ok().and_then(|count| Self::new(count, per));
        count.ok_or_else(|| RateError::Count(text.to_owned()))
    }
}

text_unit!(
    Rate,
    "Rate",
    FORMAT,
    r"^[0-9]+/([0-9]+(d|h|ms|m|s|us|ns))+$|^[0-9]+/(d|h|ms|m|s|us|ns)$",
    "a rate COUNT/DURATION such as `200/10s`, or `100/m` for a hundred a minute",
    ["200/10s", "100/m"],
    |number: String| RateError::Shape(number).to_string()
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(count: u64, seconds: u64) -> Rate {
        Rate::new(count, Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn texts_read_as_count_and_span() {
        for (text, expected, written) in [
            ("200/10s", rate(200, 10), "200/10s"),
            ("100/m", rate(100, 60), "100/1m"),
            ("1/1h30m", rate(1, 5_400), "1/1h30m"),
            ("1000000000/d", rate(Rate::MAX_COUNT, 86_400), "1000000000/1d"),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(expected.to_string(), written);
        }
    }

    #[test]
    fn wrong_texts_say_what_is_wrong() {
        let per = |text: &str, source| RateError::Per { text: text.to_owned(), source };
        for (text, error) in [
            ("", RateError::Shape("".into())),
            ("200", RateError::Shape("200".into())),
            ("/10s", RateError::Shape("/10s".into())),
            ("5/", RateError::Shape("5/".into())),
            ("-5/s", RateError::Shape("-5/s".into())),
            ("+5/s", RateError::Shape("+5/s".into())),
            ("0/s", RateError::Count("0/s".into())),
            ("1000000001/s", RateError::Count("1000000001/s".into())),
            ("99999999999999999999/s", RateError::Count("99999999999999999999/s".into())),
            ("5/0s", RateError::Zero("5/0s".into())),
            ("5/10", per("5/10", DurationError::NoUnit("10".into()))),
            ("5/sec", per("5/sec", DurationError::UnknownUnit { text: "1sec".into(), unit: "sec".into() })),
            ("5/3651d", per("5/3651d", DurationError::TooLong("3651d".into()))),
        ] {
            assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_rate_with_a_zero_cannot_be_made() {
        assert_eq!(Rate::new(0, Duration::from_secs(1)), None);
        assert_eq!(Rate::new(1, Duration::ZERO), None);
    }

    proptest! {
        #[test]
        fn display_reads_back(count in 1u64..=Rate::MAX_COUNT, nanoseconds in 1u64..=315_360_000_000_000_000) {
            let rate = Rate::new(count, std::time::Duration::from_nanos(nanoseconds).into()).unwrap();
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}|[0-9]{0,4}/[0-9dhms]{0,8}") {
            let _ = text.parse::<Rate>();
        }
    }
}
