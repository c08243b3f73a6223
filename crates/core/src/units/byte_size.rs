//! A number of bytes as people write it: `500B`, `32KiB`, `10MiB`, `10MB`.
//!
//! `KiB` counts in 1024, `KB` in 1000 (IEC 80000-13). Letters are taken as written, because `Mb` means bits elsewhere.
//!
//! Invariant: a number without a unit never reads as a size.

use std::{fmt, str::FromStr};

use super::{leading_integer, text_unit};

pub(super) const FORMAT: &str = "byte-size";

/// Units, binary before decimal, larger before smaller.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// A number of bytes, written as a whole number with a unit: `500B`, `32KiB`, `10MB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// A size in bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size in KiB (1024 bytes), held at `u64::MAX` bytes.
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// A size in MiB (1024 KiB), held at `u64::MAX` bytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory, held at `usize::MAX` on machines where it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl From<ByteSize> for u64 {
    fn from(size: ByteSize) -> Self {
        size.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The shortest number wins, binary on a tie: 10 MB stays `10MB` and does not become `9765625B`.
        let (unit, length) = UNITS
            .iter()
            .filter(|(_, length)| self.0 != 0 && self.0.is_multiple_of(*length))
            .max_by_key(|(unit, length)| (*length, unit.contains('i')))
            .unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / length)
    }
}

/// Why a text is not a [`ByteSize`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    /// A number stands alone.
    #[error("`{0}` has no unit: write `{0}B` for bytes, `{0}KiB` or `{0}MiB`")]
    NoUnit(String),
    /// No whole number in front.
    #[error("`{0}` is not a size: write a whole number with a unit, for example `512KiB` or `10MiB`")]
    NotANumber(String),
    /// Letters that name no unit.
    #[error("`{unit}` in `{text}` is not a unit of size: use B, KiB, MiB, GiB, TiB (1024) or KB, MB, GB, TB (1000)")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// What was read as a unit.
        unit: String,
    },
    /// More than `u64::MAX` bytes.
    #[error("`{0}` is too large: at most 18446744073709551615B")]
    TooLarge(String),
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(ByteSizeError::NotANumber(text.to_owned()));
        }
        let too_large = || ByteSizeError::TooLarge(text.to_owned());
        let (count, unit) = leading_integer(text).ok_or_else(too_large)?;
        if unit.is_empty() {
            return Err(ByteSizeError::NoUnit(text.to_owned()));
        }
        if !unit.chars().all(char::is_alphabetic) {
            return Err(ByteSizeError::NotANumber(text.to_owned()));
        }
        let (_, length) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| ByteSizeError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() })?;
        count.checked_mul(*length).map(Self).ok_or_else(too_large)
    }
}

text_unit!(
    ByteSize,
    "ByteSize",
    FORMAT,
    r"^[0-9]+([KMGT]i?)?B$",
    "a size such as `500B`, `32KiB` or `10MiB` (1024), or `10MB` (1000)",
    ["32KiB", "1MiB", "10GiB"],
    |number: String| ByteSizeError::NoUnit(number).to_string()
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_read_as_their_bytes_and_write_the_shortest_form() {
        for (text, bytes, written) in [
            ("500B", 500, "500B"),
            ("0B", 0, "0B"),
            ("0MiB", 0, "0B"),
            ("32KiB", 32 << 10, "32KiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("10GiB", 10 << 30, "10GiB"),
            ("2TiB", 2 << 40, "2TiB"),
            ("10MB", 10_000_000, "10MB"),
            ("128MB", 128_000_000, "128MB"),
            ("1000KiB", 1_024_000, "1000KiB"),
            ("18446744073709551615B", u64::MAX, "18446744073709551615B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, written), "{text}");
        }
    }

    #[test]
    fn wrong_texts_say_what_is_wrong() {
        let unit = |text: &str, unit: &str| ByteSizeError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() };
        for (text, error) in [
            ("", ByteSizeError::NotANumber("".into())),
            ("10", ByteSizeError::NoUnit("10".into())),
            ("MiB", ByteSizeError::NotANumber("MiB".into())),
            ("-1B", ByteSizeError::NotANumber("-1B".into())),
            ("1.5MiB", ByteSizeError::NotANumber("1.5MiB".into())),
            ("10 MiB", ByteSizeError::NotANumber("10 MiB".into())),
            ("10M", unit("10M", "M")),
            ("10mb", unit("10mb", "mb")),
            ("18446744073709551616B", ByteSizeError::TooLarge("18446744073709551616B".into())),
            ("16777216TiB", ByteSizeError::TooLarge("16777216TiB".into())),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_reads_back(count in any::<u64>(), unit in 0usize..UNITS.len()) {
            let size = ByteSize::from(count.saturating_mul(UNITS[unit].1));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}|[0-9]{0,22}[KMGTiB]{0,4}") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
