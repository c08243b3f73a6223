//! The way of a request: one list, outside first. Config turns guards on, off and tunes them; it never re-orders them.
//!
//! Requests go down the list, responses come back up, and `finish` always runs. The gateway ends it with the proxy, the
//! tower layer with the inner service. It stands here, and not in the gateway, so that both run the same list.
//!
//! Invariant: the list exists once; `explain`, the reference page and the console print [`Path::names`].

use std::sync::Arc;

use portcullis_core::metric::Registry;
use portcullis_store::counters::{Counters, KeyHasher};
use portcullis_store::permissions::Policy;

use crate::access_log::LogSink;
use crate::breaker::Breakers;
use crate::config::{Mistake, PathConfig, all_or_mistakes};
use crate::guard::{Fact, Guard};
use crate::identity::{Source, Tokens};
use crate::ip_block::Bans;
use crate::overload::{Connections, Pressure};
use crate::path::{Path, PathBuilder};
use crate::read_only::Switches;
use crate::{
    access_log, breaker, client_address, identity, ip_block, limits, login_watch, overload, permissions, rate_limit,
    read_only, request_id, route, security_headers, stale_if_error,
};

/// What guards stand on: the parts that outlive a reload.
#[derive(Clone)]
pub struct Ground {
    /// All metrics of the process.
    pub metrics: Arc<Registry>,
    /// Where rate limits are counted.
    pub counters: Arc<dyn Counters>,
    /// Hides who is counted. It outlives a reload, because under a new seed every client would start afresh.
    pub keys: KeyHasher,
    /// Where access log lines go.
    pub log: Arc<dyn LogSink>,
    /// The breakers of all upstreams, kept by name.
    pub breakers: Arc<Breakers>,
    /// Who has how many connections.
    pub connections: Arc<Connections>,
    /// Which routes were made read-only by hand, and how their writes fare.
    pub read_only: Arc<Switches>,
    /// How short memory and descriptors are.
    pub pressure: Arc<Pressure>,
    /// Who is banned.
    pub bans: Arc<Bans>,
    /// Issuers of tokens with their keys, and tokens that were verified.
    pub tokens: Arc<Tokens>,
    /// Where identities come from besides tokens. Set before the first path is built.
    pub sources: Vec<Arc<dyn Source>>,
    /// Who may do what.
    pub permissions: Arc<Policy>,
    /// Answers that are kept for when an upstream fails.
    pub shelf: Arc<stale_if_error::Shelf>,
}

impl Ground {
    /// A ground on which nothing has happened yet.
    #[must_use]
    pub fn new(metrics: Arc<Registry>, counters: Arc<dyn Counters>, keys: KeyHasher, log: Arc<dyn LogSink>) -> Ground {
        let pressure = Arc::new(Pressure::new(&metrics));
        Ground {
            permissions: Arc::new(Policy::new(keys.derived("permissions"))),
            counters,
            keys,
            log,
            breakers: Arc::new(Breakers::new(Arc::clone(&metrics))),
            connections: Arc::new(Connections::new(&metrics, Arc::clone(&pressure))),
            read_only: Arc::new(Switches::new(Arc::clone(&metrics))),
            pressure,
            bans: Arc::new(Bans::new(&metrics)),
            tokens: Arc::default(),
            sources: Vec::new(),
            shelf: Arc::new(stale_if_error::Shelf::new(&metrics)),
            metrics,
        }
    }
}

/// Builds the request path from its config.
///
/// # Errors
/// Every mistake that any guard finds in its config, all at once.
pub fn request_path(config: &PathConfig, ground: &Ground) -> Result<Path, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let guards = all_or_mistakes!(mistakes;
        request_id::build(config, ground),
        access_log::build(config, ground), // sees every outcome, refusals and hang-ups included
        security_headers::build(config, ground), // outside the rest, so that refusals carry them too
        client_address::build(config, ground), // gives ClientAddress
        ip_block::build(config, ground), // needs ClientAddress; before anything that costs more
        overload::build(config, ground), // the global rate, and pressure; connections are counted by the listener
        route::build(config, ground), // gives Route: which upstream, which rules
        read_only::build(config, ground), // needs Route; writes only
        limits::build(config, ground), // sets deadline and body bounds for everything below
        rate_limit::build(config, ground), // by address, header, API key, route
        login_watch::build(config, ground), // needs ClientAddress and Route; sees the answers of the service
        identity::build(config, ground), // needs Route, gives Identity: token, session or API key
        rate_limit::build_by_identity(config, ground), // by user, tenant, plan, claim
        permissions::build(config, ground), // needs Identity and Route
        stale_if_error::build(config, ground), // needs Route; stands in for what fails below
        breaker::build(config, ground), // needs Route; asked again by the proxy before every retry
    );
    guards.build().map_err(|broken| vec![Mistake::new("", broken.to_string())])
}

/// The facts that guards give, in the order of the list.
const FACTS: [Fact; 6] =
    [Fact::RequestId, Fact::ClientAddress, Fact::Route, Fact::Bounds, Fact::Identity, Fact::Breaker];

/// The shortest path that ends in `guard`: above it stand, in the order of the list, those that give what it needs and
/// nobody else. For one guard as a tower layer.
///
/// # Errors
/// Every mistake that a guard which is needed finds in its config.
pub fn path_to(guard: impl Guard + 'static, config: &PathConfig, ground: &Ground) -> Result<Path, Vec<Mistake>> {
    let mut guards: Vec<Box<dyn Guard>> = vec![Box::new(guard)];
    // Innermost first, so that what a giver needs itself is given by one that is still to come.
    for fact in FACTS.into_iter().rev() {
        let is_needed = guards.iter().any(|guard| guard.needs().contains(&fact));
        let is_given = guards.iter().any(|guard| guard.gives().contains(&fact));
        if is_needed && !is_given {
            guards.push(giver(fact, config, ground)?);
        }
    }
    let path = guards.into_iter().rev().fold(Path::builder(), PathBuilder::add_boxed);
    path.build().map_err(|broken| vec![Mistake::new("", broken.to_string())])
}

/// The guard that gives `fact`.
fn giver(fact: Fact, config: &PathConfig, ground: &Ground) -> Result<Box<dyn Guard>, Vec<Mistake>> {
    Ok(match fact {
        Fact::RequestId => Box::new(request_id::build(config, ground)?),
        Fact::ClientAddress => Box::new(client_address::build(config, ground)?),
        Fact::Route => Box::new(route::build(config, ground)?),
        Fact::Bounds => Box::new(limits::build(config, ground)?),
        Fact::Identity => Box::new(identity::build(config, ground)?),
        Fact::Breaker => Box::new(breaker::build(config, ground)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Verdict;
    use crate::rehearsal;

    /// Needs whatever it is told to.
    struct Needy(&'static [Fact]);

    impl Guard for Needy {
        fn name(&self) -> &'static str {
            "needy"
        }

        fn needs(&self) -> &'static [Fact] {
            self.0
        }

        fn request(&self, _exchange: &mut crate::exchange::Exchange) -> Verdict {
            Verdict::Pass
        }
    }

    fn names(needs: &'static [Fact]) -> Vec<&'static str> {
        let (ground, _) = rehearsal::ground();
        path_to(Needy(needs), &PathConfig::default(), &ground).expect("the default config is valid").names().collect()
    }

    #[test]
    fn one_guard_gets_those_above_it_that_give_what_it_needs_and_nobody_else() {
        assert_eq!(names(&[]), ["needy"]);
        assert_eq!(names(&[Fact::ClientAddress]), ["client_address", "needy"]);
        // Route is nobody's need here but that of those who are needed.
        assert_eq!(names(&[Fact::Bounds]), ["route", "limits", "needy"]);
        assert_eq!(names(&[Fact::Breaker, Fact::RequestId]), ["request_id", "route", "breaker", "needy"]);
    }

    #[test]
    fn everything_that_is_needed_is_given_in_the_order_of_the_list() {
        let (ground, _) = rehearsal::ground();
        let whole = request_path(&PathConfig::default(), &ground).expect("the default config is valid");
        let given = names(&FACTS);
        let of_the_list: Vec<_> = whole.names().filter(|name| given.contains(name)).chain(["needy"]).collect();
        assert_eq!(given, of_the_list);
        assert_eq!(given.len(), FACTS.len() + 1);
    }
}
