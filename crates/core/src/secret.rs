//! A text that cannot be printed: passwords, keys and tokens that an operator gives.
//!
//! Config structs hold it from the moment they are read; [`Secret::expose`] is the one way to the text, so that every use
//! can be found by its name. Comparison takes the same time wherever two texts of one length differ.
//!
//! Invariant: no `Debug`, `Display` or `Serialize` output holds any part of the text, and its memory is wiped on drop.

use std::{borrow::Cow, fmt};

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What is shown in place of a secret.
pub const MASK: &str = "[secret]";

/// The schema `format` of a secret.
pub const FORMAT: &str = "secret";

/// A text that prints as [`MASK`], compares in constant time, and is wiped from memory on drop.
///
/// The length is no secret: texts of different length compare at once, and `clone` makes a second copy that is wiped too.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`. Copies of it that the caller still holds are not wiped.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Never log it, never put it into an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // Printed config that is fed back must not turn the mask into everybody's password.
        if *text == MASK {
            return Err(serde::de::Error::custom(
                "`[secret]` is what stands for a secret in printed config, not a secret",
            ));
        }
        Ok(Self(text))
    }
}

impl schemars::JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": FORMAT,
            "description": "a secret; best taken from the environment (`${NAME}`) or a file (`${file:/run/secrets/name}`)",
            "examples": ["${file:/run/secrets/name}"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_the_text() {
        let secret = Secret::new("hunter2");
        let holder = [Some(secret.clone())];
        for printed in [
            format!("{secret}"),
            format!("{secret:?} {secret:#?} {secret:>20}"),
            format!("{holder:?}"),
            serde_json::to_string(&secret).unwrap(),
        ] {
            assert!(printed.contains(MASK) && !printed.contains("hunter"), "{printed}");
        }
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn comparison_looks_at_the_whole_text() {
        let secret = Secret::from("hunter2");
        assert_eq!(secret, Secret::from("hunter2"));
        for other in ["hunter3", "Hunter2", "hunter", "hunter22", ""] {
            assert_ne!(secret, Secret::from(other), "{other}");
        }
    }

    #[test]
    fn the_mask_is_refused_as_a_secret_and_anything_else_reads() {
        assert_eq!(serde_json::from_str::<Secret>("\"s\"").unwrap(), Secret::from("s"));
        assert!(serde_json::from_str::<Secret>("\"[secret]\"").is_err());
        assert!(serde_json::from_str::<Secret>("5").is_err());
    }
}
