//! What the operator writes about how many requests an upstream has at once.
//!
//! Invariant: what is left out has the default that the doc comment states.

use std::time::Duration as StdDuration;

use portcullis_core::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests an upstream has at once, over all workers, and how others wait. What is neither at the upstream nor
/// in the queue gets 503. Streams that go on for hours hold their places: give them an upstream of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConcurrencyConfig {
    /// Requests at once, from the first attempt to the last byte of the answer. Default: 1024. Bounds: 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub most: Option<u32>,
    /// Requests that wait for a place. 0 for none. Default: 512. Bounds: 0 to 65536.
    #[schemars(range(min = 0, max = 65536))]
    pub queue: Option<u32>,
    /// How long one waits at most. Default: 1s. Bounds: 10ms to 1m.
    pub queue_timeout: Option<Duration>,
}

/// The settings with nothing left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// `most`.
    pub most: u32,
    /// `queue`.
    pub queue: u32,
    /// `queue_timeout`.
    pub timeout: StdDuration,
}

impl ConcurrencyConfig {
    /// All settings.
    #[must_use]
    pub fn filled(&self) -> Bounds {
        Bounds {
            most: self.most.unwrap_or(1024),
            queue: self.queue.unwrap_or(512),
            timeout: self.queue_timeout.map_or(StdDuration::from_secs(1), |timeout| *timeout),
        }
    }

    /// Each field that is out of bounds, and what would be right.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(&'static str, &'static str)> {
        let Bounds { most, queue, timeout } = self.filled();
        let timeouts = StdDuration::from_millis(10)..=StdDuration::from_secs(60);
        [
            ("most", "must be between 1 and 1000000", (1..=1_000_000).contains(&most)),
            ("queue", "must be between 0 and 65536", queue <= 65_536),
            ("queue_timeout", "must be between 10ms and 1m", timeouts.contains(&timeout)),
        ]
        .into_iter()
        .filter_map(|(field, message, is_right)| (!is_right).then_some((field, message)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_has_bounds() {
        assert!(ConcurrencyConfig::default().mistakes().is_empty());
        let wrong = ConcurrencyConfig {
            most: Some(0),
            queue: Some(65_537),
            queue_timeout: Some(StdDuration::from_millis(9).into()),
        };
        let fields: Vec<_> = wrong.mistakes().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["most", "queue", "queue_timeout"]);
    }
}
