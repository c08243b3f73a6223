//! How one header field is treated, as the operator writes it: a value, `{ when_absent: VALUE }`, `keep` or `off`.
//!
//! Invariant: what is written reads back as the same treatment.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// How one header field is treated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Treatment {
    /// It has this value, whatever the upstream says.
    Set(String),
    /// It has this value where the upstream says nothing.
    WhenAbsent(String),
    /// It is as the upstream says.
    Keep,
    /// It is removed.
    Off,
}

const WHEN_ABSENT: &str = "when_absent";

impl Serialize for Treatment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Treatment::Set(value) => serializer.serialize_str(value),
            Treatment::Keep => serializer.serialize_str("keep"),
            Treatment::Off => serializer.serialize_str("off"),
            Treatment::WhenAbsent(value) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(WHEN_ABSENT, value)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Treatment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Treatment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value for the header field, `{ when_absent: VALUE }`, `keep` or `off`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Treatment, E> {
                Ok(match text {
                    "off" => Treatment::Off,
                    "keep" => Treatment::Keep,
                    value => Treatment::Set(value.to_owned()),
                })
            }

            /// YAML 1.1 readers take `off` for a truth value.
            fn visit_bool<E: Error>(self, is_on: bool) -> Result<Treatment, E> {
                if is_on { Err(E::custom("`true` is no value for a header field")) } else { Ok(Treatment::Off) }
            }

            /// `X-XSS-Protection: 0` is naturally written as a number.
            fn visit_u64<E: Error>(self, number: u64) -> Result<Treatment, E> {
                Ok(Treatment::Set(number.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Treatment, A::Error> {
                let Some(key) = map.next_key::<String>()? else {
                    return Err(A::Error::custom("`{}` says nothing: write `{ when_absent: VALUE }`"));
                };
                if key != WHEN_ABSENT {
                    return Err(A::Error::unknown_field(&key, &[WHEN_ABSENT]));
                }
                let value = map.next_value::<String>()?;
                match map.next_key::<String>()? {
                    None => Ok(Treatment::WhenAbsent(value)),
                    Some(key) => Err(A::Error::unknown_field(&key, &[WHEN_ABSENT])),
                }
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl JsonSchema for Treatment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Treatment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a value (set on every answer), `{ when_absent: VALUE }`, `keep` or `off`",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "integer", "minimum": 0 },
                { "const": false },
                {
                    "type": "object",
                    "properties": { "when_absent": { "type": "string", "minLength": 1 } },
                    "required": ["when_absent"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
