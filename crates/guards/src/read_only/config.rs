//! What the operator writes about read-only routes, and the checked form.
//!
//! Invariant: compiled [`Rules`] of `auto` have checked bounds; other modes count nothing.

use std::time;

use portcullis_core::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::breaker;
use crate::config::Mistake;

/// How long a probe that never reports keeps others waiting.
const PROBE_LEASE: time::Duration = time::Duration::from_secs(60);

/// Whether a route takes writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `never`: it takes writes. `always`: it refuses them. `auto`: it refuses them while they fail. Default: never.
    /// `portcullis read-only` overrides it by hand.
    pub mode: Option<Mode>,
    /// In `auto`: failed writes within the window from which writes are refused, if at least half of all failed.
    /// Default: 5. Bounds: 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: Option<u32>,
    /// In `auto`: how far back writes count. Default: 60s. Bounds: 1s to 1h.
    pub window: Option<Duration>,
    /// In `auto`: how long writes are refused before one is let through to find out. Default: 30s. Bounds: 1s to 1h.
    pub hold: Option<Duration>,
}

/// Whether a route takes writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It takes them.
    #[default]
    Never,
    /// It refuses them.
    Always,
    /// It refuses them while they fail.
    Auto,
}

/// The checked form.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) mode: Mode,
    /// In `auto`.
    pub(super) writes: Option<breaker::Rules>,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config {
            mode: Some(Mode::Never),
            failures: Some(5),
            window: Some(Duration::from_secs(60)),
            hold: Some(Duration::from_secs(30)),
        }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            mode: self.mode.or(base.mode),
            failures: self.failures.or(base.failures),
            window: self.window.or(base.window),
            hold: self.hold.or(base.hold),
        }
    }

    /// Checks the bounds; `at` is where this stands.
    ///
    /// # Errors
    /// Every value that is out of bounds.
    pub(super) fn compile(&self, at: &str) -> Result<Rules, Vec<Mistake>> {
        let own = self.over(&Config::defaults());
        let defaults = breaker::Config::default();
        let writes = breaker::Config {
            failures: own.failures.unwrap_or(defaults.failures),
            window: own.window.unwrap_or(defaults.window),
            open_for: own.hold.unwrap_or(defaults.open_for),
            ..defaults
        };
        let writes = writes.compile(PROBE_LEASE).map_err(|wrong| {
            // The breaker's name for it is another one.
            let named = |field| if field == "open_for" { "hold" } else { field };
            wrong
                .into_iter()
                .map(|(field, message)| Mistake::new(format!("{at}.{}", named(field)), message))
                .collect::<Vec<_>>()
        })?;
        let mode = own.mode.unwrap_or_default();
        Ok(Rules { mode, writes: writes.filter(|_| mode == Mode::Auto) })
    }
}
