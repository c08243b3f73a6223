//! What a service's layers stand on, made in one line: metrics, counters, breakers, log, clock, and who the peer is.
//!
//! Make one [`Standing`] a process and give it to every layer, so that they count in one registry and share breakers.
//!
//! Invariant: who the peer is comes from the server, never from the request. Where the server says nothing, all clients
//! are counted as one: limits then refuse too much rather than nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Extensions;
use portcullis_core::clock::{Clock, rfc3339};
use portcullis_core::metric::Registry;
use portcullis_core::units::ByteSize;
use portcullis_guards::access_log::LogSink;
use portcullis_guards::request_path::Ground;
use portcullis_store::counters::{KeyHasher, SeedError};
use portcullis_store::memory::counters::{MemoryCounters, TableError};

use crate::clock::SystemClock;
use crate::stdout::Lines;

/// Room for counters unless [`Builder::counters`] says otherwise: a million clients.
const COUNTERS: ByteSize = ByteSize::from_mib(16);

/// The other end of a connection, as the server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub is_secure: bool,
}

impl Peer {
    /// Whoever it is, where the server does not say.
    pub const UNKNOWN: Peer = Peer::plain(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0));

    /// On a connection without TLS.
    #[must_use]
    pub const fn plain(address: SocketAddr) -> Peer {
        Peer { address, is_secure: false }
    }

    /// On a TLS connection.
    #[must_use]
    pub const fn tls(address: SocketAddr) -> Peer {
        Peer { address, is_secure: true }
    }
}

type PeerFrom = dyn Fn(&Extensions) -> Option<Peer> + Send + Sync;

/// What layers stand on. Clones share everything.
#[derive(Clone)]
pub struct Standing {
    ground: Ground,
    clock: Arc<dyn Clock>,
    peer_from: Arc<PeerFrom>,
    has_warned: Arc<AtomicBool>,
}

/// Makes a [`Standing`].
pub struct Builder {
    prefix: String,
    counters: ByteSize,
    log: Option<Arc<dyn LogSink>>,
    clock: Option<Arc<dyn Clock>>,
    peer_from: Arc<PeerFrom>,
}

/// Why there is nothing to stand on.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// The table of counters could not be made.
    #[error("making the table of rate-limit counters failed")]
    Counters(#[from] TableError),
    /// There is no randomness for the keys of the counters.
    #[error("drawing the seed of the counters' keys failed")]
    Seed(#[from] SeedError),
    /// The thread that writes the log could not be started.
    #[error("starting the thread that writes the log failed")]
    Log(#[from] io::Error),
}

impl Standing {
    /// Metrics that begin with `portcullis_`, 16 MiB of counters, the log on standard output, the system's clock, and
    /// the peer from the [`Peer`] in the request's extensions.
    ///
    /// # Errors
    /// See [`StandingError`].
    pub fn new() -> Result<Standing, StandingError> {
        Standing::builder().build()
    }

    /// The same, with parts of your own.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            prefix: "portcullis".to_owned(),
            counters: COUNTERS,
            log: None,
            clock: None,
            peer_from: Arc::new(|extensions| extensions.get::<Peer>().copied()),
        }
    }

    /// What guards are built on.
    #[must_use]
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// All metrics as text (OpenMetrics 1.0), for a page that only the monitoring can reach. Its media type is
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.ground.breakers.refresh(self.clock.now().monotonic_nanos);
        self.ground.metrics.render()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The peer of the connection that a request came on.
    pub(crate) fn peer(&self, extensions: &Extensions) -> Peer {
        (self.peer_from)(extensions).unwrap_or_else(|| {
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                let advice = "the server does not say who the peer is: all clients are counted as one";
                self.event("warn", "peer_unknown", &[("advice", advice)]);
            }
            Peer::UNKNOWN
        })
    }

    /// Writes one line that is not about a request's outcome. `event` is a fixed word.
    pub(crate) fn event(&self, level: &str, event: &str, fields: &[(&str, &str)]) {
        let time = rfc3339(self.clock.now().unix_millis);
        let time = String::from_utf8_lossy(&time);
        let head = [("time", &*time), ("level", level), ("msg", event)];
        let object: serde_json::Map<_, _> =
            head.iter().chain(fields).map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        self.ground.log.line(serde_json::Value::Object(object).to_string().as_bytes());
    }
}

impl Builder {
    /// What metric names start with: letters, digits and underscores. Default: `portcullis`.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Builder {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Memory for rate limits. Default: 16 MiB, room for a million clients. At least 64 KiB.
    #[must_use]
    pub fn counters(mut self, memory: ByteSize) -> Builder {
        self.counters = memory;
        self
    }

    /// Gets each log line, without its end, in place of standard output. Called on the way of every request: must not
    /// block.
    #[must_use]
    pub fn log(mut self, line: impl Fn(&[u8]) + Send + Sync + 'static) -> Builder {
        self.log = Some(Arc::new(Closure(line)));
        self
    }

    /// A clock of your own, for tests. Deadlines are waited for by tokio's timer, which this does not move.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Builder {
        self.clock = Some(clock);
        self
    }

    /// How the peer is found in a request's extensions, for servers that do not put a [`Peer`] there. With axum:
    /// `extensions.get::<ConnectInfo<SocketAddr>>().map(|info| Peer::plain(info.0))`.
    ///
    /// Where it finds nothing the peer is [`Peer::UNKNOWN`] for everybody, no proxy is trusted, and the log says so once.
    /// It must not look at anything that a client can choose.
    #[must_use]
    pub fn peer_from(mut self, find: impl Fn(&Extensions) -> Option<Peer> + Send + Sync + 'static) -> Builder {
        self.peer_from = Arc::new(find);
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// See [`StandingError`].
    pub fn build(self) -> Result<Standing, StandingError> {
        let metrics = Arc::new(Registry::new(&self.prefix));
        let log = match self.log {
            Some(log) => log,
            None => Arc::new(Lines::start(io::stdout())?),
        };
        let counters = Arc::new(MemoryCounters::new(self.counters.as_usize())?);
        let ground = Ground::new(metrics, counters, KeyHasher::random()?, log);
        Ok(Standing {
            ground,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::start())),
            peer_from: self.peer_from,
            has_warned: Arc::default(),
        })
    }
}

/// A log sink that is a function.
struct Closure<F>(F);

impl<F: Fn(&[u8]) + Send + Sync> LogSink for Closure<F> {
    fn line(&self, line: &[u8]) {
        (self.0)(line);
    }
}
