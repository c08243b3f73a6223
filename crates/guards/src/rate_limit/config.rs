//! What the operator writes about rate limits, and the rules it becomes.
//!
//! `rate_limit` is a list of policies, in general and per route; a route's list replaces the general one. Policies are
//! told apart by name: the same name in two places is the same policy with the same counters, and must say the same.
//!
//! Invariant: every [`Definition`] was checked; no request costs more than its policy ever holds.

use std::collections::BTreeMap;

use portcullis_core::identity::CredentialKind;
use portcullis_core::units::{Duration, Rate};
use portcullis_store::counters::{Algorithm as Kind, CompiledQuota, Quota};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::subject::{self, Subject};
use crate::config::{Mistake, PathConfig};
use crate::exchange::MAX_POLICIES;

/// The longest name of a policy, in characters.
pub(super) const NAME_MAX: usize = 64;
/// The most words that `by` may list.
pub(super) const SUBJECTS_MAX: usize = 4;
/// The largest burst, as large as the largest count of a [`Rate`].
const BURST_MAX: u64 = Rate::MAX_COUNT;
/// The highest cost of a policy or a route.
const COST_MAX: u32 = 1_000_000;

/// One rate limit. Several may hold for a route (at most 8); a request must pass all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Its name, in response fields, metrics, logs and `explain`. Must be given. The same name in two places means one
    /// limit whose use is counted together; both places must then say the same. 1 to 64 letters, digits, `-`, `_` and
    /// `.`, the first a letter or digit.
    pub name: Option<String>,
    /// Who is counted apart: a list of `address`, `header:NAME`, `api_key`, `route`, `user`, `tenant`, `plan` and
    /// `claim:NAME`. Default: `[address]`. At most 4.
    ///
    /// `address` is the client's own address, for IPv6 its network (`client_address`). `header:NAME` is the value of a
    /// request header. `api_key` is the `X-API-Key` header or the `Authorization: Bearer` text. Nothing has checked
    /// either, unless the gateway has API keys of its own: who may invent values gets a fresh limit with each, so let a limit by `address` stand beside it.
    /// Requests without the value share one limit, and so do those that send it more than once. `route` is the matched
    /// route, however its path was written.
    ///
    /// `user`, `tenant`, `plan` and `claim:NAME` are what `identity` has checked, each within its issuer; policies with one
    /// of them are asked after `identity`, all others before. Requests of nobody, and those whose credential does not say
    /// it, share one limit.
    pub by: Option<Vec<String>>,
    /// How many requests in which time, as `COUNT/DURATION`: `200/10s`. Must be given.
    pub limit: Option<Rate>,
    /// How many may come at once after a rest; they come back at the rate of `limit`. Default: the count of `limit`.
    /// Bounds: 1 to 1000000000. Not with `fixed_window`.
    pub burst: Option<u64>,
    /// `token_bucket` gives requests back steadily. `fixed_window` gives all back when the next window begins, so up to
    /// twice the limit can pass around that moment. Default: `token_bucket`.
    pub algorithm: Option<Algorithm>,
    /// What one request takes; multiplied by the `cost` of its route. Default: 1. Bounds: 1 to 1000000, and together no
    /// more than the burst.
    pub cost: Option<u32>,
    /// Count and report what would be refused, but refuse nothing and tell clients nothing. Default: false.
    pub shadow: Option<bool>,
    /// `exact` counts every request before it passes. Default: `exact`. (`leased` needs shared counters, which are not
    /// available yet.)
    pub mode: Option<Mode>,
}

/// How requests come back to a client that used them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Steadily.
    TokenBucket,
    /// All at once when the next window begins.
    FixedWindow,
}

/// How exactly instances count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every request is counted before it passes.
    Exact,
    /// An instance takes parts of the quota in advance. Needs shared counters.
    Leased,
}

impl Config {
    /// The policy that holds where nothing is configured: 100 requests a second for an address, bursts of 200.
    #[must_use]
    pub fn defaults() -> Config {
        Config {
            name: Some("default".to_owned()),
            by: Some(vec!["address".to_owned()]),
            limit: Rate::new(100, Duration::from_secs(1)),
            burst: Some(200),
            algorithm: Some(Algorithm::TokenBucket),
            cost: Some(1),
            shadow: Some(false),
            mode: Some(Mode::Exact),
        }
    }

    /// This policy, with what it leaves out taken from `base`.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            name: self.name.clone().or_else(|| base.name.clone()),
            by: self.by.clone().or_else(|| base.by.clone()),
            limit: self.limit.or(base.limit),
            burst: self.burst.or(base.burst),
            algorithm: self.algorithm.or(base.algorithm),
            cost: self.cost.or(base.cost),
            shadow: self.shadow.or(base.shadow),
            mode: self.mode.or(base.mode),
        }
    }
}

/// A policy that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) subjects: Vec<Subject>,
    pub(super) quota: CompiledQuota,
    /// Seconds in which an empty quota is whole again: `w` of `RateLimit-Policy`. At least 1.
    pub(super) window_seconds: u64,
    pub(super) cost: u32,
    pub(super) is_shadow: bool,
    pub(super) stage: Stage,
}

/// Where on the path a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before anything that costs more.
    First,
    /// Once it is known who is asking.
    ByIdentity,
}

/// All policies once, and which of them hold where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Compiled {
    pub(super) definitions: Vec<Definition>,
    /// Places in `definitions`, for requests without a route.
    pub(super) general: Vec<usize>,
    /// Places in `definitions`, by route.
    pub(super) routes: Vec<Vec<usize>>,
}

/// Checks all policies, in general and of every route. `kinds`: by what it can be known who is asking.
///
/// # Errors
/// Every mistake, with its place in the config.
pub(super) fn compile(config: &PathConfig, kinds: &[CredentialKind]) -> Result<Compiled, Vec<Mistake>> {
    let has_api_keys = kinds.contains(&CredentialKind::ApiKey);
    let mut compiler = Compiler { has_identity: !kinds.is_empty(), has_api_keys, ..Compiler::default() };
    let general = match &config.rate_limit {
        Some(list) => compiler.list("rate_limit", list),
        None => compiler.built_in(),
    };
    let mut routes = Vec::with_capacity(config.routes.len());
    for (index, route) in config.routes.iter().enumerate() {
        let list = match &route.rate_limit {
            Some(list) => compiler.list(&format!("routes[{index}].rate_limit"), list),
            None => general.clone(),
        };
        compiler.check_cost(&format!("routes[{index}].cost"), route.cost.unwrap_or(1), &list);
        routes.push(list);
    }
    if !compiler.mistakes.is_empty() {
        return Err(compiler.mistakes);
    }
    let definitions = compiler.found.into_iter().map(|found| found.definition).collect();
    Ok(Compiled { definitions, general, routes })
}

#[derive(Default)]
struct Compiler {
    found: Vec<Found>,
    /// Places in `found`.
    by_name: BTreeMap<String, usize>,
    has_identity: bool,
    has_api_keys: bool,
    mistakes: Vec<Mistake>,
}

struct Found {
    definition: Definition,
    /// Where it was first seen.
    path: String,
}

impl Compiler {
    fn mistake(&mut self, path: String, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(path, message));
    }

    /// The place of the policy that holds where nothing is configured.
    fn built_in(&mut self) -> Vec<usize> {
        let definition = self.definition("rate_limit", &Config::defaults());
        definition.map(|definition| self.place("the built-in default", definition)).into_iter().collect()
    }

    /// The places of a list's policies in `found`. What is wrong is left out and noted.
    fn list(&mut self, path: &str, list: &[Config]) -> Vec<usize> {
        if list.len() > MAX_POLICIES {
            self.mistake(
                path.to_owned(),
                format!("{} policies: at most {MAX_POLICIES} apply to a request", list.len()),
            );
        }
        let mut places = Vec::with_capacity(list.len().min(MAX_POLICIES));
        for (index, written) in list.iter().enumerate().take(MAX_POLICIES) {
            let path = format!("{path}[{index}]");
            let Some(definition) = self.definition(&path, written) else { continue };
            let place = self.place(&path, definition);
            if places.contains(&place) {
                let name = self.found[place].definition.name.clone();
                self.mistake(format!("{path}.name"), format!("policy `{name}` stands twice in this list"));
            } else {
                places.push(place);
            }
        }
        places
    }

    /// The place of the policy of this name; a new one, or the one that is known already.
    fn place(&mut self, path: &str, definition: Definition) -> usize {
        if let Some(&place) = self.by_name.get(&definition.name) {
            let known = &self.found[place];
            if known.definition != definition {
                let (name, other) = (&definition.name, &known.path);
                let message = format!(
                    "policy `{name}` is not the same as at {other}; policies of one name share their counters, \
                     so write the same there or choose another name"
                );
                self.mistake(format!("{path}.name"), message);
            }
            return place;
        }
        self.by_name.insert(definition.name.clone(), self.found.len());
        self.found.push(Found { definition, path: path.to_owned() });
        self.found.len() - 1
    }

    /// Checks one policy; `None` when something in it is wrong.
    fn definition(&mut self, path: &str, written: &Config) -> Option<Definition> {
        let before = self.mistakes.len();
        // Name and limit have no default in a list: a login limit whose number was forgotten must not become 100/1s.
        let base = Config { name: None, limit: None, burst: None, ..Config::defaults() };
        let full = written.over(&base);
        let name = self.name(path, full.name);
        let subjects = self.subjects(path, &full.by.unwrap_or_default());
        let algorithm = full.algorithm.unwrap_or(Algorithm::TokenBucket);
        let quota = self.quota(path, full.limit, full.burst, algorithm);
        let cost = full.cost.unwrap_or(1);
        if !(1..=COST_MAX).contains(&cost) {
            self.mistake(format!("{path}.cost"), format!("{cost} is out of bounds: 1 to {COST_MAX}"));
        } else if let Some((quota, _)) = quota.filter(|(quota, _)| u64::from(cost) > quota.capacity()) {
            let capacity = quota.capacity();
            self.mistake(format!("{path}.cost"), format!("{cost} is more than the {capacity} that may come at once"));
        }
        if full.mode == Some(Mode::Leased) {
            let message =
                "`leased` needs counters that instances share (Redis), which are not available yet; use `exact`";
            self.mistake(format!("{path}.mode"), message);
        }
        let (quota, window_seconds) = quota?;
        // Where the gateway has API keys of its own, only a checked one counts.
        let waits = |subject: &Subject| subject.needs_identity() || (*subject == Subject::ApiKey && self.has_api_keys);
        let stage = if subjects.iter().any(waits) { Stage::ByIdentity } else { Stage::First };
        let is_shadow = full.shadow.unwrap_or(false);
        let definition = Definition { name: name?, subjects, quota, window_seconds, cost, is_shadow, stage };
        (self.mistakes.len() == before).then_some(definition)
    }

    fn name(&mut self, path: &str, name: Option<String>) -> Option<String> {
        let Some(name) = name else {
            self.mistake(format!("{path}.name"), "a policy needs a name");
            return None;
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        // Names that begin with `_` are taken by metrics (`_other`).
        let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
        if !begins_well || name.len() > NAME_MAX || !name.bytes().all(is_plain) {
            let message = format!(
                "{name:?} is no name: 1 to {NAME_MAX} letters, digits, `-`, `_` and `.`, the first a letter or digit"
            );
            self.mistake(format!("{path}.name"), message);
            return None;
        }
        Some(name)
    }

    fn subjects(&mut self, path: &str, words: &[String]) -> Vec<Subject> {
        if words.is_empty() || words.len() > SUBJECTS_MAX {
            let message = format!("{} words: write 1 to {SUBJECTS_MAX} of {}", words.len(), subject::KNOWN);
            self.mistake(format!("{path}.by"), message);
        }
        let mut subjects = Vec::new();
        for (index, word) in words.iter().enumerate().take(SUBJECTS_MAX) {
            match word.parse::<Subject>() {
                Ok(subject) if subjects.contains(&subject) => {
                    self.mistake(format!("{path}.by[{index}]"), format!("`{word}` stands here twice"));
                }
                Ok(subject) if subject.needs_identity() && !self.has_identity => {
                    let message = format!("`{word}` needs identity: name who issues tokens in identity.jwt.issuers");
                    self.mistake(format!("{path}.by[{index}]"), message);
                }
                Ok(subject) => subjects.push(subject),
                Err(error) => self.mistake(format!("{path}.by[{index}]"), error.to_string()),
            }
        }
        subjects
    }

    /// The quota, and the seconds in which it is whole again after it was empty.
    fn quota(
        &mut self,
        path: &str,
        limit: Option<Rate>,
        burst: Option<u64>,
        algorithm: Algorithm,
    ) -> Option<(CompiledQuota, u64)> {
        let Some(limit) = limit else {
            self.mistake(
                format!("{path}.limit"),
                "a policy needs a limit: write COUNT/DURATION, for example `200/10s`",
            );
            return None;
        };
        if algorithm == Algorithm::FixedWindow && burst.is_some() {
            self.mistake(
                format!("{path}.burst"),
                "a `fixed_window` has no burst: the count of its limit may come at once",
            );
            return None;
        }
        let burst = burst.unwrap_or(limit.count());
        if !(1..=BURST_MAX).contains(&burst) {
            self.mistake(format!("{path}.burst"), format!("{burst} is out of bounds: 1 to {BURST_MAX}"));
            return None;
        }
        let algorithm = match algorithm {
            Algorithm::TokenBucket => Kind::TokenBucket,
            Algorithm::FixedWindow => Kind::FixedWindow,
        };
        let period_nanos = portcullis_core::clock::nanos(*limit.per());
        let quota = Quota { algorithm, limit: limit.count(), period_nanos, burst };
        match quota.compile() {
            Ok(compiled) => Some((compiled, window_seconds(limit, compiled.capacity()))),
            Err(error) => {
                self.mistake(format!("{path}.limit"), error.to_string());
                None
            }
        }
    }

    /// Checks that a route's cost leaves every policy of the route something to give.
    fn check_cost(&mut self, path: &str, route_cost: u32, list: &[usize]) {
        // Its own bounds are checked by `route`, whose key it is.
        for &place in list {
            let Definition { name, quota, cost, .. } = &self.found[place].definition;
            let whole = u64::from(*cost) * u64::from(route_cost);
            if whole > quota.capacity() {
                let message = format!(
                    "a request here takes {whole} of policy `{name}`, of which only {} may come at once, so none would pass",
                    quota.capacity()
                );
                self.mistakes.push(Mistake::new(path, message));
            }
        }
    }
}

/// Whole seconds, rounded up, in which `capacity` units come back at `limit`. From the rate as written, because the
/// compiled interval is rounded up and would make 1 s of 3/1s into 2.
fn window_seconds(limit: Rate, capacity: u64) -> u64 {
    let nanos = u128::from(capacity) * limit.per().as_nanos() / u128::from(limit.count());
    u64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u64::MAX).max(1)
}

/// The claims by which policies count, so that whoever checks credentials keeps them.
pub(crate) fn claims(config: &PathConfig) -> Vec<String> {
    let lists = config.rate_limit.iter().chain(config.routes.iter().filter_map(|route| route.rate_limit.as_ref()));
    let words = lists.flatten().filter_map(|policy| policy.by.as_ref()).flatten();
    let mut claims: Vec<String> = words
        .filter_map(|word| match word.parse() {
            Ok(Subject::Claim(name)) => Some(name.into()),
            _ => None,
        })
        .collect();
    claims.sort_unstable();
    claims.dedup();
    claims
}
