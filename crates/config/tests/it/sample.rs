//! A small config type with every kind of key that the gateway's config has.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_config::{FixedEnvironment, Loaded, Source, load};
use portcullis_core::{
    secret::Secret,
    units::{ByteSize, Cidr, Duration, Rate},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything in one place.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Version of this format.
    #[schemars(range(min = 1, max = 1))]
    pub(crate) version: u8,
    /// Which defaults to begin with.
    pub(crate) preset: Preset,
    #[serde(flatten)]
    pub(crate) guards: Guards,
    /// Who answers requests, by name.
    #[schemars(extend("examples" = [{ "app": { "url": "http://127.0.0.1:3000" } }]))]
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    /// Which requests go where.
    pub(crate) routes: Vec<Route>,
    /// Where things are kept.
    pub(crate) store: Option<Store>,
    /// Free text for people.
    pub(crate) note: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: 1,
            preset: Preset::default(),
            guards: Guards::default(),
            upstreams: BTreeMap::new(),
            routes: Vec::new(),
            store: None,
            note: None,
        }
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Preset {
    /// Strict.
    #[default]
    Production,
    /// Talkative.
    Development,
}

/// What the guards do. Each of them has a key of its own.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Guards {
    /// Bounds of a request.
    pub(crate) limits: Limits,
    /// Peers whose `Forwarded` headers count.
    pub(crate) trusted_proxies: Vec<Cidr>,
    /// Whether to hide | the version.
    pub(crate) hide_version: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// The largest body.
    pub(crate) body_bytes: ByteSize,
    /// How long a request may take.
    pub(crate) total: Duration,
    /// Share of requests that is sampled.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) sample: f64,
    /// How many workers.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) workers: u32,
    /// Wait before the first answer.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) offset: i8,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: ByteSize::from_mib(1),
            total: Duration::from_secs(30),
            sample: 0.5,
            workers: 2,
            first_byte: None,
            offset: 0,
        }
    }
}

/// A service behind the gateway: its URL, or more about it.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Upstream {
    Url(String),
    Full(Target),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Where it listens.
    #[schemars(extend("examples" = ["http://127.0.0.1:3000"]))]
    pub(crate) url: String,
    /// Its share of the requests.
    #[serde(default = "one")]
    pub(crate) weight: u16,
    /// Password for it.
    #[serde(default)]
    pub(crate) password: Option<Secret>,
}

fn one() -> u16 {
    1
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// Its name in metrics.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) name: String,
    /// The paths it takes.
    #[serde(default)]
    pub(crate) paths: BTreeSet<String>,
    /// Its limits.
    #[serde(default)]
    #[schemars(length(max = 2))]
    pub(crate) rate_limit: Vec<RateLimit>,
    /// What happens when a dependency is down.
    #[serde(default)]
    pub(crate) on_outage: Option<Outage>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimit {
    pub(crate) limit: Rate,
    /// Who is counted.
    #[serde(default)]
    #[schemars(extend("examples" = [["user"]]))]
    pub(crate) by: Vec<By>,
    /// How to count.
    #[serde(default)]
    pub(crate) algorithm: Option<Algorithm>,
}

/// `user`, `tenant` or `header:NAME`: a type that judges its text by itself.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("examples" = ["user", "tenant"]))]
pub(crate) struct By(String);

impl TryFrom<String> for By {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "user" || text == "tenant" || text.starts_with("header:") {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not user, tenant or header:NAME"))
        }
    }
}

impl From<By> for String {
    fn from(by: By) -> Self {
        by.0
    }
}

impl Clone for By {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Algorithm {
    /// Fills up steadily.
    TokenBucket {
        /// How many at once.
        #[serde(default)]
        burst: u32,
    },
    /// Counts in two windows.
    SlidingWindow {
        /// Parts of the window.
        parts: u8,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outage {
    Open,
    Closed,
    /// Stale answers for a while.
    Stale(Duration),
    Serve {
        /// What is sent.
        status: u16,
    },
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// Where it is.
    pub(crate) url: String,
    /// Who may read it.
    pub(crate) key: Secret,
}

pub(crate) fn read(text: &str) -> Result<Loaded<Config>, String> {
    read_in(text, &FixedEnvironment::new())
}

/// Reads `c.yaml`; mistakes as they are printed, one a line.
pub(crate) fn read_in(text: &str, environment: &FixedEnvironment) -> Result<Loaded<Config>, String> {
    load::<Config>(&Source::new("c.yaml", text), environment)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The mistakes of a text that must have some.
#[track_caller]
pub(crate) fn mistakes(text: &str) -> String {
    mistakes_in(text, &FixedEnvironment::new())
}

#[track_caller]
pub(crate) fn mistakes_in(text: &str, environment: &FixedEnvironment) -> String {
    match read_in(text, environment) {
        Ok(loaded) => panic!("read without mistakes: {:?}", loaded.value),
        Err(mistakes) => mistakes,
    }
}
