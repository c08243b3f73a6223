//! What the operator writes about answers that are kept, and the checked form.
//!
//! Invariant: a route that says `stale` has an upstream that keeps; what is compiled is within its bounds.

use std::collections::BTreeSet;
use std::time::Duration as StdDuration;

use http::HeaderName;

use portcullis_core::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Mistake, PathConfig, RouteConfig};
use crate::permissions::StoreOutage;

const MEMORY_MIN: u64 = 1024 * 1024;
const MEMORY_MAX: u64 = 16 * 1024 * 1024 * 1024;
const ANSWER_MIN: u64 = 1024;
/// So that no single answer can push out all others.
const ANSWERS_MIN: u64 = 8;
const TIME_MIN: StdDuration = StdDuration::from_secs(1);
const TIME_MAX: StdDuration = StdDuration::from_secs(7 * 24 * 3600);

/// Memory for answers that are kept for when an upstream fails. Which upstreams: `upstreams.NAME.stale_if_error`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// For all of them together. Default: 64MiB. Bounds: 1MiB to 16GiB.
    pub memory: Option<ByteSize>,
    /// For one; longer ones are not kept. Default: 1MiB. Bounds: 1KiB to an eighth of `memory`.
    pub answer: Option<ByteSize>,
}

/// What happens on a route when something it depends on fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutageConfig {
    /// When the upstream fails. `stale`: the last good answer, where one was kept. `closed`: the failure. Default: `stale` where
    /// the upstream has `stale_if_error`, `closed` elsewhere.
    pub upstream: Option<Outage>,
    /// When nobody knows what the store holds, on routes that ask for permissions. `closed`: 503. `read_only`: decisions
    /// that are remembered hold until they are too old, everything else is refused with 503. Default: `closed`.
    pub store: Option<StoreOutage>,
}

/// What happens when the upstream fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// The last good answer, where one was kept.
    Stale,
    /// The failure.
    Closed,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) memory: u64,
    pub(super) answer: usize,
}

/// How long answers are served after they went stale: without routes, and on each route.
pub(super) struct Times {
    pub(super) fallback: Option<StdDuration>,
    pub(super) routes: Vec<Option<StdDuration>>,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config { memory: Some(ByteSize::from_mib(64)), answer: Some(ByteSize::from_mib(1)) }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config { memory: self.memory.or(base.memory), answer: self.answer.or(base.answer) }
    }
}

/// The checked form of everything that concerns this guard.
///
/// # Errors
/// Every mistake.
pub(super) fn compile(config: &PathConfig) -> Result<(Bounds, Times), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let own = config.stale_if_error.over(&Config::defaults());
    let size = |size: Option<ByteSize>| size.map_or(0, |size| size.as_usize() as u64);
    let (memory, answer) = (size(own.memory), size(own.answer));
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&memory) {
        mistakes.push(Mistake::new("stale_if_error.memory", "out of bounds: 1MiB to 16GiB"));
    }
    if answer < ANSWER_MIN || answer > memory / ANSWERS_MIN {
        mistakes.push(Mistake::new("stale_if_error.answer", "out of bounds: 1KiB to an eighth of `memory`"));
    }
    for (name, time) in &config.stale {
        if !(TIME_MIN..=TIME_MAX).contains(&**time) {
            mistakes.push(Mistake::new(format!("upstreams.{name}.stale_if_error"), "out of bounds: 1s to 7d"));
        }
    }
    let only = match config.upstreams.as_slice() {
        [only] => Some(only.as_str()),
        _ => None,
    };
    let time = |upstream: Option<&str>| upstream.and_then(|name| config.stale.get(name)).map(|time| **time);
    let routes = config.routes.iter().enumerate();
    let routes = routes.map(|(index, route)| {
        let time = time(route.upstream.as_deref().or(only));
        match outage(route) {
            Some(Outage::Closed) => None,
            Some(Outage::Stale) if time.is_none() => {
                let at = format!("routes[{index}].on_outage.upstream");
                mistakes.push(Mistake::new(
                    at,
                    "`stale` needs an upstream with `stale_if_error`, such as `stale_if_error: 5m`",
                ));
                None
            }
            Some(Outage::Stale) | None => time,
        }
    });
    let times = Times { routes: routes.collect(), fallback: time(only) };
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok((Bounds { memory, answer: usize::try_from(answer).unwrap_or(usize::MAX) }, times))
}

/// The fields by which routes are told apart.
pub(super) fn chosen_by(config: &PathConfig) -> Box<[HeaderName]> {
    let names = config.routes.iter().flat_map(|route| route.matches.headers.iter().flatten());
    // What is no name is the route guard's to tell.
    let names: BTreeSet<String> = names.map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect()
}

fn outage(route: &RouteConfig) -> Option<Outage> {
    route.on_outage.as_ref().and_then(|outage| outage.upstream)
}
