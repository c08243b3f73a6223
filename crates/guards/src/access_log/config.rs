//! What the operator writes about the access log, and the checked form.
//!
//! Invariant: every config can be run; there is nothing in it that can be wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The log of requests and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether a line is written for each request. Metrics count either way. Default: true.
    pub enabled: Option<bool>,
    /// How a line is written. Default: `json`.
    pub format: Option<Format>,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object, for programs.
    Json,
    /// Words in a fixed order, for people.
    Text,
}

/// The checked form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) enabled: bool,
    pub(super) format: Format,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config { enabled: Some(true), format: Some(Format::Json) }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config { enabled: self.enabled.or(base.enabled), format: self.format.or(base.format) }
    }

    /// The checked form; nothing that can be written is wrong.
    #[must_use]
    pub fn compile(&self) -> Rules {
        Rules { enabled: self.enabled.unwrap_or(true), format: self.format.unwrap_or(Format::Json) }
    }
}
