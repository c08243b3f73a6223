//! What the operator writes about request ids and traces, and the checked form.
//!
//! Invariant: every config can be run; there is nothing in it that can be wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where request ids come from, and what happens to traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What happens to a request without a W3C `traceparent`. A valid one is always passed on, a broken one always
    /// removed. Default: `pass`.
    pub traceparent: Option<Traceparent>,
}

/// What happens to a request without a W3C `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Traceparent {
    /// It goes on without.
    Pass,
    /// A trace is started here, marked as sampled, so that upstreams which follow the caller's choice record it.
    Start,
}

/// The checked form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) traceparent: Traceparent,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config { traceparent: Some(Traceparent::Pass) }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config { traceparent: self.traceparent.or(base.traceparent) }
    }

    /// The checked form; nothing that can be written is wrong.
    #[must_use]
    pub fn compile(&self) -> Rules {
        Rules { traceparent: self.traceparent.unwrap_or(Traceparent::Pass) }
    }
}
