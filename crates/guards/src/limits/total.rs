//! How long a request may take: a duration, or `off` for streams that go on.
//!
//! Invariant: `off` is always written out; no number means "no limit".

use std::borrow::Cow;
use std::fmt;

use portcullis_core::units::Duration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const OFF: &str = "off";

/// The whole time of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Total {
    /// It may go on for ever: event streams, long polling, large downloads.
    Off,
    /// It is cut off after this.
    After(Duration),
}

impl Serialize for Total {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Total::Off => serializer.serialize_str(OFF),
            Total::After(duration) => duration.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Total {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Total, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Total;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as `30s`, or `off`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Total, E> {
                if text == OFF { Ok(Total::Off) } else { text.parse().map(Total::After).map_err(E::custom) }
            }

            // YAML 1.1 reads a bare `off` as false.
            fn visit_bool<E: Error>(self, is_on: bool) -> Result<Total, E> {
                if is_on {
                    Err(E::custom("`on` is not a duration: write one such as `30s`, or `off`"))
                } else {
                    Ok(Total::Off)
                }
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Total, E> {
                Err(E::custom(format!("`{number}` has no unit: write `{number}s` for seconds, or `off`")))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Total, E> {
                Err(E::custom(format!("`{number}` is not a duration: write one such as `30s`, or `off`")))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Total {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Total".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a duration such as `30s`, or `off`",
            "anyOf": [generator.subschema_for::<Duration>(), { "enum": [OFF, false] }],
        })
    }
}
