//! The whole config file: what the guards are told (`PathConfig`), and around it listeners, upstreams, life and telemetry.
//!
//! `upstream` is one upstream's part; `check` what no single key can know (presets, names). Reading the text, with
//! positions and all mistakes at once, is the config crate's work.
//!
//! Invariant: a config that passed [`crate::running::Running::compile`] can be run; nothing is found wrong later.

mod accounts;
pub mod admin;
mod check;
pub mod concurrency;
mod control;
pub mod listen;
mod store;
pub mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration as StdDuration;

use portcullis_accounts::config::{AccountsConfig, SessionsConfig};
use portcullis_core::units::Duration;
use portcullis_guards::config::{Mistake, PathConfig};
use portcullis_guards::{access_log, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::admin::AdminConfig;
pub use self::control::ControlConfig;
use self::listen::ListenConfig;
pub use self::store::{StoreConfig, StorePlace};
use self::upstream::UpstreamConfig;

/// How careful the gateway is with its own config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Refuses weak settings.
    #[default]
    Production,
    /// Takes them with a warning.
    Development,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// For people.
    Text,
}

/// The config file.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// The version of this format. Always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// `production` refuses weak settings, `development` takes them.
    pub preset: Preset,
    /// Threads that serve requests, each with its own listener and connections. Default: one a core. Bounds: 1 to 256.
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<usize>,
    /// Where clients connect. A change of addresses needs a restart; certificates and the rest follow a reload.
    #[schemars(length(min = 1, max = 64))]
    pub listen: Vec<ListenConfig>,
    /// Connections of clients.
    pub connections: ConnectionsConfig,
    /// Health and metrics, on a listener of their own. A change needs a restart.
    pub telemetry: TelemetryConfig,
    /// The socket over which commands on this machine talk to the running gateway. A change needs a restart.
    pub control: ControlConfig,
    /// The API for programs and people who manage the gateway, on a listener of its own.
    pub admin: AdminConfig,
    /// What is remembered beyond the process: bans, permissions, accounts and sessions. A change needs a restart.
    pub store: StoreConfig,
    /// Accounts of the gateway's own, and where people log in. Default: none. A change needs a restart.
    pub accounts: Option<AccountsConfig>,
    /// Sessions of people who have logged in. A change needs a restart.
    pub sessions: SessionsConfig,
    /// How the process ends.
    pub shutdown: ShutdownConfig,
    /// Logs on standard output.
    pub log: LogConfig,
    /// Memory for rate limits: more keys than fit share a bucket. A change needs a restart.
    pub counters: CountersConfig,
    /// The services behind the gateway, by name.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// What the guards are told.
    #[serde(flatten)]
    pub path: PathConfig,
    /// Where relative paths begin: the folder of the config file. Filled by whoever read it; empty without a file.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Connections of clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionsConfig {
    /// How long a connection may rest between two requests. Default: 60s. Bounds: 1s to 1h.
    pub idle: Duration,
    /// Most connections at once, for each worker; more wait in the kernel's queue. Default: 10000. Bounds: 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub most: usize,
    /// How long a WebSocket (or whatever a connection was switched to) may be silent in both directions. Default: 10m.
    /// Bounds: 1s to 24h.
    pub tunnel_idle: Duration,
}

/// Health and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Where they are served, read-only. Keep it private.
    pub address: SocketAddr,
    /// What metric names start with: letters, digits and underscores.
    pub prefix: String,
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long it still accepts connections after it has said that it is not ready. Default: 5s.
    pub drain_delay: Duration,
    /// How long all of it may take; what is not done then is cut. Default: 30s. Bounds: at least drain_delay.
    pub total: Duration,
}

/// Logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines look, those of the access log included. The command line's `--log-format` wins.
    pub format: LogFormat,
}

/// Memory for rate limits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CountersConfig {
    /// Bytes for the table; a key takes 16. Default: 64MiB. Bounds: 64KiB to 16GiB. It is taken as keys come, up to
    /// 2 MiB at a time where the kernel uses huge pages.
    pub memory: portcullis_core::units::ByteSize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            version: 1,
            preset: Preset::default(),
            workers: None,
            listen: vec![ListenConfig::plain(SocketAddr::from(([0, 0, 0, 0], 8080)))],
            connections: ConnectionsConfig::default(),
            telemetry: TelemetryConfig::default(),
            control: ControlConfig::default(),
            admin: AdminConfig::default(),
            store: StoreConfig::default(),
            accounts: None,
            sessions: SessionsConfig::default(),
            shutdown: ShutdownConfig::default(),
            log: LogConfig::default(),
            counters: CountersConfig::default(),
            upstreams: BTreeMap::new(),
            path: PathConfig::default(),
            folder: PathBuf::new(),
        }
    }
}

impl Default for ConnectionsConfig {
    fn default() -> ConnectionsConfig {
        ConnectionsConfig {
            idle: StdDuration::from_secs(60).into(),
            most: 10_000,
            tunnel_idle: StdDuration::from_secs(600).into(),
        }
    }
}

impl Default for TelemetryConfig {
    fn default() -> TelemetryConfig {
        TelemetryConfig { address: SocketAddr::from(([127, 0, 0, 1], 9701)), prefix: "portcullis".to_owned() }
    }
}

impl Default for ShutdownConfig {
    fn default() -> ShutdownConfig {
        ShutdownConfig { drain_delay: StdDuration::from_secs(5).into(), total: StdDuration::from_secs(30).into() }
    }
}

impl Default for CountersConfig {
    fn default() -> CountersConfig {
        CountersConfig { memory: portcullis_core::units::ByteSize::from_mib(64) }
    }
}

/// Bounds that hold for a connection, before a request is matched to a route.
#[derive(Clone, Copy, Debug)]
pub struct ListenerBounds {
    /// Most bytes of a request head.
    pub header_bytes: usize,
    /// Most header fields.
    pub header_count: usize,
    /// Time from the first byte of a head to its last.
    pub header_timeout: StdDuration,
    /// Time between two requests.
    pub idle: StdDuration,
    /// Time that a switched connection may be silent.
    pub tunnel_idle: StdDuration,
    /// Most connections at once on one core.
    pub most_connections: usize,
    /// Time for everything else, until a route's own bound is known.
    pub total: StdDuration,
}

impl Config {
    /// The config of `run --upstream URL`: one upstream, everything else as it comes.
    #[must_use]
    pub fn in_front_of(url: &str) -> Config {
        let upstream = UpstreamConfig { url: url.to_owned(), ..UpstreamConfig::default() };
        Config { upstreams: BTreeMap::from([("app".to_owned(), upstream)]), ..Config::default() }
    }

    /// What the guards are told, with what they must know of the upstreams.
    #[must_use]
    pub fn path_config(&self) -> PathConfig {
        let mut path = self.path.clone();
        path.folder = self.folder.clone();
        path.upstreams = self.upstreams.keys().cloned().collect();
        self.add_account_routes(&mut path);
        path.access_log.format.get_or_insert(match self.log.format {
            LogFormat::Json => access_log::Format::Json,
            LogFormat::Text => access_log::Format::Text,
        });
        path.breakers =
            self.upstreams.iter().map(|(name, upstream)| (name.clone(), upstream.circuit_breaker.clone())).collect();
        path.stale = self
            .upstreams
            .iter()
            .filter_map(|(name, upstream)| Some((name.clone(), upstream.stale_if_error?)))
            .collect();
        path
    }

    /// The listener's bounds.
    pub fn listener_bounds(&self, mistakes: &mut Vec<Mistake>) -> ListenerBounds {
        let bounds = limits::Listener::compile(&self.path.limits).unwrap_or_else(|found| {
            mistakes.extend(found);
            limits::Listener::default()
        });
        ListenerBounds {
            header_bytes: bounds.header_bytes,
            header_count: bounds.header_count,
            header_timeout: bounds.header_timeout,
            idle: *self.connections.idle,
            tunnel_idle: *self.connections.tunnel_idle,
            most_connections: self.connections.most,
            total: bounds.header_timeout.max(StdDuration::from_secs(30)),
        }
    }

    /// Every file that the config names, where it stands. A change to one of them is a change of the config.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let listeners = self.listen.iter().flat_map(ListenConfig::files);
        let upstreams = self.upstreams.values().flat_map(UpstreamConfig::files).cloned();
        let lists = self.path.ip_block.files().cloned();
        let keys = self.path.identity.jwt.iter().flat_map(portcullis_guards::identity::jwt::Config::files).cloned();
        listeners.chain(upstreams).chain(lists).chain(keys).map(|path| self.folder.join(path)).collect()
    }

    /// With every default written out, for showing what runs.
    #[must_use]
    pub fn filled(self) -> Config {
        Config { path: self.path.filled(), ..self }
    }

    /// Settings that take effect only at start, for telling whether a reload can apply `other`.
    #[must_use]
    pub fn what_needs_restart(&self, other: &Config) -> Vec<&'static str> {
        [
            (
                "listen",
                !self.listen.iter().map(|listen| listen.address).eq(other.listen.iter().map(|listen| listen.address)),
            ),
            ("workers", self.workers != other.workers),
            ("telemetry", self.telemetry != other.telemetry),
            ("control", self.control != other.control),
            ("admin.address", self.admin.address != other.admin.address || self.admin.is_on() != other.admin.is_on()),
            ("store", self.store != other.store),
            ("accounts", self.accounts != other.accounts),
            ("sessions", self.sessions != other.sessions),
            ("counters", self.counters != other.counters),
            ("log", self.log != other.log),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}
