//! One upstream in its compiled form: where it is, how long it may take, how often it is asked.
//!
//! Made from config; an upstream whose config did not change keeps its identity over a reload, and with it its
//! connections and its retry budget.
//!
//! Invariant: `id` is never used for two different configs in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::retry::{Budget, Retry};
use crate::config::upstream::UpstreamConfig;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One upstream.
pub struct Upstream {
    /// Names its pool on every core.
    pub id: u64,
    /// Its name in the config.
    pub name: Arc<str>,
    /// Host name or address to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// What `Host` says when the client's is not kept.
    pub own_host: Option<HeaderValue>,
    /// Fields that replace the client's.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Time for a new connection.
    pub connect: Duration,
    /// Time from the sent request to the response head.
    pub first_byte: Duration,
    /// Time for everything, retries included, if it is shorter than the route's.
    pub total: Option<Duration>,
    /// Whether and when it is asked again.
    pub retry: Retry,
    /// Most connections on one core.
    pub connections: usize,
    /// How long a connection may rest.
    pub idle: Duration,
    config: UpstreamConfig,
}

impl Upstream {
    /// Compiles a config that has been checked.
    #[must_use]
    pub fn compile(
        name: &str,
        config: &UpstreamConfig,
        host: String,
        port: u16,
        fields: Vec<(HeaderName, HeaderValue)>,
    ) -> Upstream {
        let filled = config.filled();
        let own_host = filled.own_host.then(|| HeaderValue::from_str(&authority(&host, port)).ok()).flatten();
        Upstream {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: Arc::from(name),
            own_host,
            fields,
            host,
            port,
            connect: filled.connect,
            first_byte: filled.first_byte,
            total: filled.total,
            retry: Retry {
                attempts: filled.attempts,
                first_backoff: filled.backoff,
                budget: Budget::new(filled.budget),
            },
            connections: filled.connections,
            idle: filled.idle,
            config: config.clone(),
        }
    }

    /// Whether `config` is the one this was compiled from.
    #[must_use]
    pub fn is_made_from(&self, config: &UpstreamConfig) -> bool {
        self.config == *config
    }
}

fn authority(host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == 80 { host } else { format!("{host}:{port}") }
}
