//! Quantities as people write them: spans of time, sizes, rates and networks.
//!
//! Config holds `"30s"`, `"10MiB"`, `"200/10s"` and `"10.0.0.0/8"`; code holds the types of this file. Each type reads and
//! writes the same text (`FromStr`, `Display`, serde), and describes itself to the published JSON Schema by `format`.
//! [`check_format`] lets the config loader try a text by the name of its format, without knowing the type.
//!
//! Invariant: a number without a unit is never accepted, and what `Display` writes, `FromStr` reads back as the same value.

mod byte_size;
mod cidr;
mod duration;
mod rate;

pub use byte_size::{ByteSize, ByteSizeError};
pub use cidr::{Cidr, CidrError};
pub use duration::{Duration, DurationError};
pub use rate::{Rate, RateError};

/// Tries `text` as the named schema `format` (`duration`, `byte-size`, `rate`, `cidr`).
///
/// Returns `None` where the format is not one of this file's, else whether the text is right, with the reason in words.
pub fn check_format(format: &str, text: &str) -> Option<Result<(), String>> {
    fn tried<T: std::str::FromStr<Err: std::error::Error>>(text: &str) -> Result<(), String> {
        text.parse::<T>().map(drop).map_err(|error| in_words(&error))
    }
    match format {
        duration::FORMAT => Some(tried::<Duration>(text)),
        byte_size::FORMAT => Some(tried::<ByteSize>(text)),
        rate::FORMAT => Some(tried::<Rate>(text)),
        cidr::FORMAT => Some(tried::<Cidr>(text)),
        _ => None,
    }
}

/// The integer that `text` begins with and what follows it; `None` where it begins with no digit or exceeds `u64`.
fn leading_integer(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// An error and its causes in one sentence, for places that carry only text.
fn in_words(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |sentence, cause| format!("{sentence}: {cause}"))
}

/// Serde, schema and text for one unit: a string that goes through `FromStr` and `Display`.
///
/// `$bare` is what a number without a unit should have been, as a function from the number's text to a sentence.
macro_rules! text_unit {
    ($type:ident, $name:literal, $format:expr, $pattern:literal, $about:literal, $examples:expr, $bare:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($about)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(|error| E::custom(super::in_words(&error)))
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        Err(E::custom($bare(number.to_string())))
                    }
                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<$type, E> {
                        Err(E::custom($bare(number.to_string())))
                    }
                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$type, E> {
                        Err(E::custom($bare(number.to_string())))
                    }
                }
                // `any`, so that a bare number reaches the visitor that names the unit to add.
                deserializer.deserialize_any(Text)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "format": $format,
                    "pattern": $pattern,
                    "description": $about,
                    "examples": $examples,
                })
            }
        }
    };
}
use text_unit;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_tried_by_its_name() {
        assert_eq!(check_format("duration", "30s"), Some(Ok(())));
        assert_eq!(check_format("byte-size", "1MiB"), Some(Ok(())));
        assert_eq!(check_format("rate", "200/10s"), Some(Ok(())));
        assert_eq!(check_format("cidr", "10.0.0.0/8"), Some(Ok(())));
        assert_eq!(check_format("uri", "anything"), None);
        let cause = "`5/10` is not a rate: `10` has no unit: write `10s` for seconds or `10ms` for milliseconds";
        assert_eq!(check_format("rate", "5/10"), Some(Err(cause.to_owned())));
        for format in ["duration", "byte-size", "rate", "cidr"] {
            let refused = check_format(format, "nonsense").expect("a format of this file");
            assert!(refused.expect_err("nonsense is no value").contains("nonsense"), "{format}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused_through_serde_with_the_unit_to_add() {
        let says = |error: serde_json::Error| error.to_string();
        assert_eq!(
            says(serde_json::from_str::<Duration>("30").unwrap_err()),
            "`30` has no unit: write `30s` for seconds or `30ms` for milliseconds at line 1 column 2"
        );
        assert!(says(serde_json::from_str::<ByteSize>("10").unwrap_err()).starts_with("`10` has no unit: write `10B`"));
        assert!(says(serde_json::from_str::<Rate>("5").unwrap_err()).starts_with("`5` is not a rate"));
        assert!(says(serde_json::from_str::<Duration>("-1.5").unwrap_err()).starts_with("`-1.5` has no unit"));
    }

    #[test]
    fn units_travel_through_serde_as_their_text() {
        for text in ["\"1h30m\"", "\"500ms\""] {
            let read: Duration = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        let read: Cidr = serde_json::from_str("\"2001:db8::/32\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"2001:db8::/32\"");
    }

    #[test]
    fn the_schema_names_the_format() {
        let schema = schemars::schema_for!(Rate).to_value();
        assert_eq!((schema["type"].as_str(), schema["format"].as_str()), (Some("string"), Some("rate")));
        for example in schema["examples"].as_array().unwrap() {
            assert_eq!(check_format("rate", example.as_str().unwrap()), Some(Ok(())));
        }
    }
}
