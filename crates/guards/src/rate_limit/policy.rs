//! Policies as they run: checked, with everything prepared that does not depend on the request.
//!
//! Made by `build` from the definitions of `config.rs`; the same policy on many routes is the same object.
//!
//! Invariant: policies in shadow mode appear in nothing that a client can see.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;
use portcullis_core::metric::Registry;
use portcullis_store::counters::{CompiledQuota, Key, KeyHasher, PolicyKey};

use super::config::{Compiled, Definition, Stage};
use super::decide::near_from;
use super::fields;
use super::metrics::Counts;
use super::subject::{Octets, Parts, Subject};
use crate::exchange::{Exchange, PerRoute};

/// One policy.
pub(super) struct Policy {
    pub(super) name: Arc<str>,
    pub(super) subjects: Box<[Subject]>,
    keys: PolicyKey,
    pub(super) quota: CompiledQuota,
    pub(super) window_seconds: u64,
    cost: u32,
    /// From how many used units on the quota is nearly used up.
    pub(super) near_from: u64,
    pub(super) counts: Counts,
    /// Its item of the `RateLimit` field up to the number that is left.
    pub(super) item: Box<[u8]>,
    /// `X-RateLimit-Limit`.
    pub(super) limit: HeaderValue,
}

impl Policy {
    fn new(definition: &Definition, keys: &KeyHasher, metrics: &Registry) -> Policy {
        let capacity = definition.quota.capacity();
        Policy {
            name: Arc::from(definition.name.as_str()),
            subjects: definition.subjects.clone().into_boxed_slice(),
            keys: keys.policy(&definition.name),
            quota: definition.quota,
            window_seconds: definition.window_seconds,
            cost: definition.cost,
            near_from: near_from(capacity),
            counts: Counts::new(metrics, &definition.name),
            item: fields::item(&definition.name),
            limit: fields::number(capacity),
        }
    }

    /// The counter that this request is counted in.
    #[inline]
    pub(super) fn key(&self, exchange: &Exchange) -> Key {
        let octets = Octets::of(exchange);
        if let [Subject::Address] = *self.subjects {
            return self.keys.key(&[octets.as_slice()]);
        }
        let mut parts = Parts::new();
        for subject in &self.subjects {
            subject.read(exchange, &octets, &mut parts);
        }
        self.keys.key(&parts)
    }

    /// What this request takes.
    #[inline]
    pub(super) fn cost_of(&self, exchange: &Exchange) -> u64 {
        let of_route = exchange.route.as_ref().map_or(1, |route| route.cost);
        u64::from(self.cost) * u64::from(of_route)
    }
}

/// The policies of one route.
#[derive(Default)]
pub(super) struct Rules {
    /// Those that refuse, in the order written.
    pub(super) enforced: Box<[Arc<Policy>]>,
    /// Those in shadow mode.
    pub(super) shadow: Box<[Arc<Policy>]>,
    /// `RateLimit-Policy`; none when nothing is enforced.
    pub(super) field: Option<HeaderValue>,
}

impl Rules {
    fn new(places: &[usize], policies: &[Option<(Arc<Policy>, bool)>]) -> Rules {
        let of_kind = |wanted: bool| -> Box<[Arc<Policy>]> {
            let chosen = places.iter().filter_map(|&place| policies[place].as_ref());
            chosen.filter(|(_, is_shadow)| *is_shadow == wanted).map(|(policy, _)| Arc::clone(policy)).collect()
        };
        let enforced = of_kind(false);
        let field = fields::policies(&enforced);
        Rules { enforced, shadow: of_kind(true), field }
    }
}

/// Everything that runs at one stage, from everything that was checked. Routes with the same list share one set of rules.
pub(super) fn prepare(compiled: &Compiled, stage: Stage, keys: &KeyHasher, metrics: &Registry) -> PerRoute<Arc<Rules>> {
    let policies: Vec<Option<(Arc<Policy>, bool)>> = compiled
        .definitions
        .iter()
        .map(|definition| {
            let is_asked = definition.stage == stage;
            is_asked.then(|| (Arc::new(Policy::new(definition, keys, metrics)), definition.is_shadow))
        })
        .collect();
    let mut shared: HashMap<&[usize], Arc<Rules>> = HashMap::new();
    let mut rules = |places| {
        let made = shared.entry(places).or_insert_with(|| Arc::new(Rules::new(places, &policies)));
        Arc::clone(made)
    };
    let general = rules(compiled.general.as_slice());
    PerRoute::new(general, compiled.routes.iter().map(|places| rules(places.as_slice())).collect())
}
