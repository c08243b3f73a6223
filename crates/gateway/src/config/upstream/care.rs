//! How targets are looked after: health checks, ejection of those that fail, names that are looked up again.
//!
//! Invariant: what is left out has the default that the doc comment states; the `rules` functions are the only places
//! that know them.

use std::time::Duration as StdDuration;

use portcullis_core::clock::nanos;
use portcullis_core::units::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::proxy::targets::health::Thresholds;
use crate::proxy::targets::outlier;

/// Asking each target regularly whether it is well. Asked once by the process, not by each worker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckConfig {
    /// What is asked for, by GET on a connection of its own.
    #[schemars(extend("examples" = ["/healthz"]))]
    pub path: String,
    /// `Host` of the question. Default: the target's own.
    #[serde(default)]
    pub host: Option<String>,
    /// Time between two questions. Default: 10s. Bounds: 100ms to 1h.
    #[serde(default)]
    pub interval: Option<Duration>,
    /// Time for one answer, connecting included. Default: 2s. Bounds: 10ms to 1m.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// Good answers in a row after which a failing target is used again. Default: 2. Bounds: 1 to 100.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub healthy: Option<u32>,
    /// Bad answers in a row after which a target is not used. The first answer of all decides alone. Default: 3. Bounds: 1 to 100.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy: Option<u32>,
    /// Statuses that are good answers. Default: any from 200 to 399. Bounds: at most 32.
    #[serde(default)]
    #[schemars(extend("examples" = [[200]]))]
    pub status: Vec<u16>,
}

/// Leaving targets alone that fail again and again. Has an effect only where there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutlierConfig {
    /// Failures in a row (5xx, no connection, no answer) after which a target is left alone; 0 turns it off. Fewer than
    /// the circuit breaker's, so that one bad target does not open the breaker of all. Default: 3. Bounds: 0 to 1000.
    #[schemars(range(max = 1000))]
    pub failures: Option<u32>,
    /// For how long, the first time; it doubles each further time. Default: 10s. Bounds: 100ms to 1h.
    pub ejection: Option<Duration>,
    /// The longest it grows to. A target that was well for this long starts anew. Default: 5m. Bounds: 100ms to 24h.
    pub longest: Option<Duration>,
    /// The share of targets that may be left alone at once. One always may be where there are several, and one always
    /// stays. Default: 50. Bounds: 0 to 100.
    #[schemars(range(max = 100))]
    pub most_percent: Option<u32>,
}

/// Looking names up again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// How often a name is looked up again, with the operating system's resolver. Default: 10s. Bounds: 1s to 1h.
    pub refresh: Option<Duration>,
    /// How long the last known addresses are used while look-ups fail. Default: 10m. Bounds: 0s to 24h.
    pub keep: Option<Duration>,
}

/// What is asked, in its compiled form.
#[derive(Clone, Debug)]
pub struct HealthRules {
    /// Path and query.
    pub path: http::uri::PathAndQuery,
    /// `Host`, if not the target's.
    pub host: Option<http::HeaderValue>,
    /// Time between two.
    pub interval: StdDuration,
    /// Time for one.
    pub timeout: StdDuration,
    /// How many count.
    pub thresholds: Thresholds,
    status: Vec<u16>,
}

impl HealthRules {
    /// Whether `status` is a good answer.
    #[must_use]
    pub fn is_good(&self, status: u16) -> bool {
        if self.status.is_empty() { (200..400).contains(&status) } else { self.status.contains(&status) }
    }
}

/// When names are looked up, in compiled form.
#[derive(Clone, Copy, Debug)]
pub struct DnsRules {
    /// Time between two look-ups.
    pub refresh: StdDuration,
    /// How long failing ones leave the last answer standing.
    pub keep: StdDuration,
}

type Wrong = Vec<(String, String)>;

/// Notes `key` when `value` is outside its bounds.
fn bounded<T: PartialOrd + std::fmt::Debug>(
    wrong: &mut Wrong,
    key: &str,
    value: T,
    least: T,
    most: T,
    text: &str,
) -> T {
    if value < least || value > most {
        wrong.push((key.to_owned(), format!("must be {text}")));
    }
    value
}

fn time(given: Option<Duration>, default_ms: u64) -> StdDuration {
    given.map_or(StdDuration::from_millis(default_ms), |given| *given)
}

const fn ms(ms: u64) -> StdDuration {
    StdDuration::from_millis(ms)
}

impl HealthCheckConfig {
    /// Everything checked and filled.
    ///
    /// # Errors
    /// Each key with what is wrong with it.
    pub fn rules(&self) -> Result<HealthRules, Wrong> {
        let mut wrong = Vec::new();
        let interval =
            bounded(&mut wrong, "interval", time(self.interval, 10_000), ms(100), ms(3_600_000), "100ms to 1h");
        let timeout = bounded(&mut wrong, "timeout", time(self.timeout, 2_000), ms(10), ms(60_000), "10ms to 1m");
        let healthy = bounded(&mut wrong, "healthy", self.healthy.unwrap_or(2), 1, 100, "1 to 100");
        let unhealthy = bounded(&mut wrong, "unhealthy", self.unhealthy.unwrap_or(3), 1, 100, "1 to 100");
        let path = self.path.parse::<http::uri::PathAndQuery>().ok().filter(|_| self.path.starts_with('/'));
        if path.is_none() {
            wrong.push(("path".to_owned(), format!("`{}` must be a path that starts with /", self.path)));
        }
        let host = self.host.as_deref().map(http::HeaderValue::from_str);
        if matches!(host, Some(Err(_))) {
            wrong.push(("host".to_owned(), "cannot stand in a Host field".to_owned()));
        }
        if self.status.len() > 32 || self.status.iter().any(|status| !(100..600).contains(status)) {
            wrong.push(("status".to_owned(), "must be at most 32 statuses of 100 to 599".to_owned()));
        }
        let status = self.status.clone();
        match path {
            Some(path) if wrong.is_empty() => {
                let thresholds = Thresholds { healthy, unhealthy };
                Ok(HealthRules { path, host: host.and_then(Result::ok), interval, timeout, thresholds, status })
            }
            _ => Err(wrong),
        }
    }
}

impl OutlierConfig {
    /// Everything checked and filled.
    ///
    /// # Errors
    /// Each key with what is wrong with it.
    pub fn rules(&self) -> Result<outlier::Rules, Wrong> {
        let mut wrong = Vec::new();
        let failures = bounded(&mut wrong, "failures", self.failures.unwrap_or(3), 0, 1000, "0 to 1000");
        let ejection =
            bounded(&mut wrong, "ejection", time(self.ejection, 10_000), ms(100), ms(3_600_000), "100ms to 1h");
        let longest =
            bounded(&mut wrong, "longest", time(self.longest, 300_000), ms(100), ms(86_400_000), "100ms to 24h");
        let most_percent = bounded(&mut wrong, "most_percent", self.most_percent.unwrap_or(50), 0, 100, "0 to 100");
        if longest < ejection {
            wrong.push(("longest".to_owned(), "must be at least ejection".to_owned()));
        }
        let rules =
            outlier::Rules { failures, ejection_nanos: nanos(ejection), longest_nanos: nanos(longest), most_percent };
        if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
    }
}

impl DnsConfig {
    /// Everything checked and filled.
    ///
    /// # Errors
    /// Each key with what is wrong with it.
    pub fn rules(&self) -> Result<DnsRules, Wrong> {
        let mut wrong = Vec::new();
        let refresh = bounded(&mut wrong, "refresh", time(self.refresh, 10_000), ms(1000), ms(3_600_000), "1s to 1h");
        let keep = bounded(&mut wrong, "keep", time(self.keep, 600_000), ms(0), ms(86_400_000), "0s to 24h");
        if wrong.is_empty() { Ok(DnsRules { refresh, keep }) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_told_by_its_key() {
        let check: HealthCheckConfig = serde_json::from_value(serde_json::json!({
            "path": "healthz", "interval": "1ms", "timeout": "2h", "healthy": 0, "unhealthy": 101, "status": [99], "host": "a\nb"
        }))
        .unwrap();
        let wrong = check.rules().expect_err("everything is wrong");
        let mut keys: Vec<&str> = wrong.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["healthy", "host", "interval", "path", "status", "timeout", "unhealthy"]);
        let outlier: OutlierConfig = serde_json::from_value(
            serde_json::json!({ "failures": 1001, "ejection": "1h", "longest": "1s", "most_percent": 101 }),
        )
        .unwrap();
        assert_eq!(outlier.rules().expect_err("three mistakes").len(), 3);
        let dns: DnsConfig = serde_json::from_value(serde_json::json!({ "refresh": "10ms", "keep": "25h" })).unwrap();
        assert_eq!(dns.rules().expect_err("two mistakes").len(), 2);
    }

    #[test]
    fn without_a_list_2xx_and_3xx_are_good_and_with_one_only_what_it_names() {
        let rules = |status: &[u16]| {
            let config: HealthCheckConfig =
                serde_json::from_value(serde_json::json!({ "path": "/", "status": status })).unwrap();
            config.rules().unwrap()
        };
        for (list, status, is_good) in [
            (&[][..], 200, true),
            (&[], 399, true),
            (&[], 400, false),
            (&[], 199, false),
            (&[503], 503, true),
            (&[503], 200, false),
        ] {
            assert_eq!(rules(list).is_good(status), is_good, "{list:?} {status}");
        }
    }
}
