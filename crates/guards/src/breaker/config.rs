//! What the operator writes about a circuit breaker, and the checked form the breaker runs on.
//!
//! Written once under an upstream (`circuit_breaker: { failures: 5, ... }`). [`BreakerConfig::compile`] checks the bounds
//! and turns durations and shares into whole numbers.
//!
//! Invariant: every [`Rules`] was checked; nothing behind it meets an empty window, a threshold of 0 or a share above 1.

use std::ops::RangeInclusive;

use portcullis_core::clock::nanos;
use portcullis_core::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decide::Buckets;

/// The circuit breaker of an upstream: stops sending it requests while it is failing, and tries again with a few probes.
///
/// It opens when, within `window`, at least `failures` attempts failed **and** at least `ratio` of all attempts did.
/// A 5xx, a timeout, and a connection that fails or breaks are failures. A 4xx and a client that hangs up are neither
/// failures nor successes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Whether the upstream has a breaker at all. Default: true.
    pub enabled: bool,
    /// Failures within the window from which it opens, exact to the nanosecond. Default: 5. Bounds: 1 to 1000.
    pub failures: u32,
    /// How far back attempts count. Default: 60s. Bounds: 1s to 1h.
    pub window: Duration,
    /// The share of attempts that must have failed too, so that a few failures do not cut off a busy upstream that is
    /// nearly always well. 0 counts failures only. Taken over the window and at most 1/15 of it more, because successes
    /// are counted in buckets of time. Default: 0.5. Bounds: 0 to 1.
    pub ratio: f64,
    /// Attempts (failed or not) within the window below which it stays closed. Default: the same as `failures`.
    /// Bounds: 1 to 1000000.
    pub minimum: Option<u32>,
    /// How long every request is refused once it is open, with the rest of the time as `Retry-After`. Default: 30s.
    /// Bounds: 1s to 1h.
    pub open_for: Duration,
    /// Requests let through as probes after that, and how many of them must succeed for it to close. A 4xx is a success
    /// here: the upstream is answering. One failure opens it again. Default: 1. Bounds: 1 to 100.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig {
            enabled: true,
            failures: 5,
            window: Duration::from_secs(60),
            ratio: 0.5,
            minimum: None,
            open_for: Duration::from_secs(30),
            probes: 1,
        }
    }
}

/// A field and what is wrong with its value.
type WrongField = (&'static str, String);

impl BreakerConfig {
    /// Checks the bounds. `None` when the breaker is not enabled (what is written beside it is checked all the same).
    ///
    /// `probe_lease` is how long a probe that never reports keeps its place. It must be longer than the upstream's
    /// `timeout.total`, after which every attempt has reported; a shorter one lets out more probes than were asked for.
    ///
    /// # Errors
    /// Every field that is out of bounds.
    pub fn compile(&self, probe_lease: std::time::Duration) -> Result<Option<Rules>, Vec<WrongField>> {
        let mut wrong = Vec::new();
        let failures = count("failures", self.failures, 1..=1000, &mut wrong);
        let window_nanos = time("window", self.window, &mut wrong);
        let ratio_millionths = share("ratio", self.ratio, &mut wrong);
        let minimum = self.minimum.map(|minimum| count("minimum", minimum, 1..=1_000_000, &mut wrong));
        let open_for_nanos = time("open_for", self.open_for, &mut wrong);
        let probes = count("probes", self.probes, 1..=100, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(self.enabled.then(|| Rules {
            failures,
            window_nanos,
            ratio_millionths,
            minimum: minimum.unwrap_or(failures),
            open_for_nanos,
            probes,
            probe_lease_nanos: nanos(probe_lease).max(1),
            buckets: Buckets::of_window(window_nanos),
        }))
    }
}

fn count(field: &'static str, value: u32, bounds: RangeInclusive<u32>, wrong: &mut Vec<WrongField>) -> u32 {
    if !bounds.contains(&value) {
        wrong.push((field, format!("{value} is out of bounds: {} to {}", bounds.start(), bounds.end())));
    }
    value
}

fn time(field: &'static str, value: Duration, wrong: &mut Vec<WrongField>) -> u64 {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(3600);
    if !(SHORTEST..=LONGEST).contains(&value) {
        wrong.push((field, format!("{value} is out of bounds: 1s to 1h")));
    }
    nanos(*value)
}

fn share(field: &'static str, value: f64, wrong: &mut Vec<WrongField>) -> u32 {
    if !(0.0..=1.0).contains(&value) {
        wrong.push((field, format!("{value} is out of bounds: 0 to 1")));
    }
    // A share within the bounds makes 0 to 1000000; any other was just refused (the cast saturates, NaN becomes 0).
    (value * 1e6).round() as u32
}

/// The checked form of [`BreakerConfig`]. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures within the window from which the breaker may open.
    pub(super) failures: u32,
    /// How far back outcomes count.
    pub(super) window_nanos: u64,
    /// The share of attempts that must have failed, in millionths.
    pub(super) ratio_millionths: u32,
    /// Attempts within the window below which the breaker stays closed.
    pub(super) minimum: u32,
    /// How long everything is refused once open.
    pub(super) open_for_nanos: u64,
    /// Probes that may be out at once when half-open, and successes it takes to close.
    pub(super) probes: u32,
    /// How long a probe keeps its place without reporting.
    pub(super) probe_lease_nanos: u64,
    /// How the window is cut.
    pub(super) buckets: Buckets,
}
