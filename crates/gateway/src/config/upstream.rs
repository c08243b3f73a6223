//! What the operator writes about one upstream.
//!
//! `place` says where it is, `care` how its targets are looked after, `tls` how it proves who it is.
//!
//! Invariant: what is left out has the default that the doc comment states; `filled` is the only place that knows them.

pub mod care;
pub mod place;
pub mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration as StdDuration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use portcullis_core::secret::Secret;
use portcullis_core::units::Duration;
use portcullis_guards::breaker;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::care::{DnsConfig, HealthCheckConfig, OutlierConfig};
use self::place::{Balance, Protocol, TargetConfig};
use self::tls::TlsConfig;
use super::concurrency::ConcurrencyConfig;

/// Header fields in their compiled form.
pub type Fields = Vec<(HeaderName, HeaderValue)>;

/// Most `request_headers` of one upstream.
const MOST_FIELDS: usize = 32;

/// One upstream.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Where it is: `http://HOST[:PORT]` or `https://HOST[:PORT]`, without a path. Either this or `targets`.
    pub url: String,
    /// The places where it is, if there are several. Bounds: at most 256, all http or all https.
    pub targets: Vec<TargetConfig>,
    /// How a target is chosen. Default: round_robin.
    pub balance: Option<Balance>,
    /// What is spoken with it. Default: http1.
    pub protocol: Option<Protocol>,
    /// How https is spoken with it.
    pub tls: Option<TlsConfig>,
    /// Asking each target whether it is well. Default: nobody asks.
    pub health_check: Option<HealthCheckConfig>,
    /// Leaving targets alone that fail again and again.
    pub outlier_ejection: OutlierConfig,
    /// Looking names up again.
    pub dns: DnsConfig,
    /// What `Host` it sees. Default: the client's.
    pub host: Option<HostChoice>,
    /// Fields that every request to it carries, for example a key that only the gateway knows. They replace the client's.
    /// Bounds: at most 32. Example: `Authorization: "Bearer ${file:/run/secrets/app}"`.
    pub request_headers: BTreeMap<String, Secret>,
    /// How long it may take.
    pub timeout: TimeoutConfig,
    /// Whether it is asked again.
    pub retry: RetryConfig,
    /// When it is left alone.
    pub circuit_breaker: breaker::Config,
    /// Connections that are kept open to it.
    pub keep_alive: KeepAliveConfig,
    /// How many requests it has at once, and how others wait.
    pub concurrency: ConcurrencyConfig,
    /// When it fails, its last good answer to the same GET is served, if that went stale no longer ago than this. Only what a shared
    /// cache may keep (`Cache-Control: public`, `max-age`, ...). Default: never. Bounds: 1s to 7d.
    pub stale_if_error: Option<Duration>,
}

/// Which `Host` the upstream sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostChoice {
    /// The one the client sent.
    #[default]
    Client,
    /// The one in the target's url.
    Upstream,
}

/// How long an upstream may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutConfig {
    /// For a new connection. Default: 2s.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the first of the answer. Default: 15s.
    pub first_byte: Option<Duration>,
    /// For everything, retries included. Default: the route's `limits.total`, which holds in any case.
    pub total: Option<Duration>,
}

/// Whether an upstream is asked again. Only what is safe to repeat is repeated: see the documentation of the proxy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Attempts in all, the first included. Default: 3. Bounds: 1 to 10.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: Option<u32>,
    /// Wait before the second attempt; it doubles with each further one and is jittered. Default: 100ms.
    pub backoff: Option<Duration>,
    /// The share of requests that may be retries, so that retries cannot multiply an outage. Default: 0.2. Bounds: 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub budget: Option<f64>,
}

/// Connections that are kept open to an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepAliveConfig {
    /// How long one may rest. Default: 30s.
    pub idle: Option<Duration>,
    /// Most connections to all of its targets, for each worker; more requests at once get 503. Default: 1024. Bounds: 1 to 65536.
    #[schemars(range(min = 1, max = 65536))]
    pub connections: Option<usize>,
    /// Most requests at once on one HTTP/2 connection; another one is opened beyond. Default: 100. Bounds: 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub streams: Option<usize>,
}

/// An upstream's settings with nothing left out.
pub struct Filled {
    /// `host: upstream`.
    pub own_host: bool,
    /// `timeout.connect`.
    pub connect: StdDuration,
    /// `timeout.first_byte`.
    pub first_byte: StdDuration,
    /// `timeout.total`.
    pub total: Option<StdDuration>,
    /// `retry.attempts`.
    pub attempts: u32,
    /// `retry.backoff`.
    pub backoff: StdDuration,
    /// `retry.budget`.
    pub budget: f64,
    /// `keep_alive.connections`.
    pub connections: usize,
    /// `keep_alive.streams`.
    pub streams: usize,
    /// `keep_alive.idle`.
    pub idle: StdDuration,
}

impl UpstreamConfig {
    /// All settings.
    #[must_use]
    pub fn filled(&self) -> Filled {
        let or = |given: Option<Duration>, default_ms: u64| {
            given.map_or(StdDuration::from_millis(default_ms), |given| *given)
        };
        Filled {
            own_host: self.host == Some(HostChoice::Upstream),
            connect: or(self.timeout.connect, 2_000),
            first_byte: or(self.timeout.first_byte, 15_000),
            total: self.timeout.total.map(|total| *total),
            attempts: self.retry.attempts.unwrap_or(3),
            backoff: or(self.retry.backoff, 100),
            budget: self.retry.budget.unwrap_or(0.2),
            connections: self.keep_alive.connections.unwrap_or(1024),
            streams: self.keep_alive.streams.unwrap_or(100),
            idle: or(self.keep_alive.idle, 30_000),
        }
    }

    /// The files it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.tls.iter().flat_map(TlsConfig::files)
    }

    /// `request_headers` as they are sent.
    ///
    /// # Errors
    /// Each name with what is wrong with it or its value. The value itself is never told.
    pub fn fields(&self) -> Result<Fields, Vec<(String, String)>> {
        let mut fields = Vec::new();
        let mut wrong = Vec::new();
        if self.request_headers.len() > MOST_FIELDS {
            wrong.push((String::new(), format!("at most {MOST_FIELDS} fields")));
        }
        for (text, value) in &self.request_headers {
            let mut refuse = |what: &str| wrong.push((text.clone(), what.to_owned()));
            match (text.parse::<HeaderName>(), HeaderValue::from_str(value.expose())) {
                (Ok(CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING), _) => {
                    refuse("frames the message, which is the gateway's own")
                }
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    fields.push((name, value));
                }
                (Err(_), _) => refuse("is not a valid field name"),
                (_, Err(_)) => refuse("has a value that cannot stand in a header field"),
            }
        }
        if wrong.is_empty() { Ok(fields) } else { Err(wrong) }
    }
}
