//! Asks whether the user may do what the route stands for: roles, permissions, entries on the resource that the path names.
//!
//! # What it does
//! On routes with `permissions` it takes the identity's tenant, user and roles and asks the policy in memory: has the user at
//! least one of `roles`, and every one of `permissions`, on `resource` where one is written? Roles that the credential carries
//! count like roles that are granted here, unless `permissions.carried_roles: ignore`; an entry that denies, and a user that
//! is deactivated here, beat both. Decisions are remembered; a change of a role, grant, group, entry or deactivation makes
//! exactly those void that it could alter, before the change is acknowledged.
//!
//! # Refuses when
//! `ERR_FORBIDDEN`, 403: the user may not, or the path makes no id of a resource. `ERR_TENANT_MISMATCH`, 403: path or header
//! name another tenant than the identity's. `ERR_STORE_UNAVAILABLE`, 503 with `Retry-After`: nobody knows what the store
//! holds. Who showed no identity hears 401 from `identity`; were a request to come here without one, it would hear it here.
//!
//! # Remembers
//! All records (at most 256 MiB), and at most 100,000 decisions (at most 13 MB), each at most `permissions.age` old.
//!
//! # If a dependency fails
//! The store is not asked by requests; records are in memory. Only when a change failed in the store and the store can then
//! not be read either, nobody knows what holds: `on_outage.store: closed` (the default) refuses with 503, `read_only` gives
//! remembered decisions until they are too old.
//!
//! # Cost
//! Nothing on routes that ask for no permissions. A remembered check: one hash over the question, one look-up, three loads
//! (some 100 ns); one that is computed takes a reference to the tenant's records and some look-ups by name (a few us).
//!
//! Invariant: a request passes only with a yes from the policy about the identity's own tenant; every doubt is a no.

mod config;
mod decide;
pub mod metrics;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_core::identity::Identity;
use portcullis_core::refusal::{Code, Refusal};
use portcullis_store::permissions::{Asked, Policy, Question};

pub use config::{Carried, Config, OfRoute, StoreOutage};

use self::config::{General, Rules};
use self::decide::{Decision, decide};
use self::metrics::Counts;
use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute, Touch};
use crate::guard::{Fact, Guard, Verdict};
use crate::request_path::Ground;
use crate::trail::Rule;

/// What a client is told to wait while nobody knows what the store holds.
const DOUBT_NANOS: u64 = 5_000_000_000;

/// The guard.
pub struct Permissions {
    general: General,
    routes: PerRoute<Option<Rules>>,
    policy: Arc<Policy>,
    counts: Counts,
}

/// Builds the guard from the general `permissions` and those of the routes.
///
/// # Errors
/// Every mistake in all of them.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<Permissions, Vec<Mistake>> {
    let issuers: Vec<&str> =
        config.identity.jwt.iter().flat_map(|jwt| &jwt.issuers).map(|issuer| issuer.issuer.as_str()).collect();
    let is_asked = config.routes.iter().any(|route| route.permissions.is_some());
    let mut mistakes = Vec::new();
    let general = config.permissions.compile(&issuers, !ground.sources.is_empty(), is_asked);
    let general = general.map_err(|found| mistakes.extend(found)).ok();
    let routes = config.routes.iter().enumerate().map(|(index, route)| {
        let own = route.permissions.as_ref()?;
        own.compile(config, route, index).map_err(|found| mistakes.extend(found)).ok()
    });
    let routes = PerRoute::new(None, routes.collect());
    let (Some(general), true) = (general, mistakes.is_empty()) else { return Err(mistakes) };
    Ok(Permissions { general, routes, policy: Arc::clone(&ground.permissions), counts: Counts::new(&ground.metrics) })
}

impl Guard for Permissions {
    fn name(&self) -> &'static str {
        "permissions"
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::Route, Fact::Identity]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let Some(rules) = self.routes.of(exchange) else { return Verdict::Skip };
        let identity = exchange.identity.clone();
        match named_tenants(rules, exchange, identity.as_deref()) {
            Decision::Ask => {}
            Decision::NoIdentity => return refuse(exchange, Code::Unauthenticated, "no_identity"),
            Decision::OtherTenant => return refuse(exchange, Code::TenantMismatch, "tenant"),
        }
        let Some(identity) = identity else { return refuse(exchange, Code::Unauthenticated, "no_identity") };
        let resource = match &rules.resource {
            None => None,
            Some(template) => match template.fill(exchange) {
                Some(id) => Some(id),
                None => return refuse(exchange, Code::Forbidden, "resource"),
            },
        };
        let other_name = self.general.plain.other_name(&identity);
        let question = Question {
            tenant: identity.tenant().unwrap_or_default(),
            user: other_name.as_deref().unwrap_or(identity.user()),
            carried: if self.general.carried_count { identity.roles() } else { &[] },
            roles: &rules.roles,
            permissions: &rules.permissions,
            resource: resource.as_deref(),
        };
        let Some(asked) = self.ask(exchange, rules, &question) else {
            if exchange.touch == Touch::Take {
                self.counts.count_unavailable();
            }
            exchange.by_rule(Rule::Fixed("in_doubt"));
            return Verdict::Refuse(Refusal::new(Code::StoreUnavailable).retry_after(DOUBT_NANOS));
        };
        exchange.by_rule(Rule::Fixed(asked.why.name()));
        if asked.why.is_allowed() { Verdict::Pass } else { Verdict::Refuse(Refusal::new(Code::Forbidden)) }
    }
}

impl Permissions {
    /// Asks the policy. A dry run asks anew, remembers and counts nothing, and tells what decided.
    fn ask(&self, exchange: &mut Exchange, rules: &Rules, question: &Question<'_, String>) -> Option<Asked> {
        if exchange.touch == Touch::Peek && self.policy.is_sure() {
            let answer = self.policy.explain(question);
            exchange.explain(|_| answer.by);
            return Some(Asked { why: answer.why, is_remembered: false });
        }
        let now = exchange.now.monotonic_nanos;
        let asked = self.policy.check(question, now, self.general.age_nanos, rules.takes_remembered_in_doubt)?;
        if exchange.touch == Touch::Take {
            self.counts.count(asked.why, asked.is_remembered);
        }
        Some(asked)
    }
}

/// Holds the tenants that path and header name against the identity's.
fn named_tenants(rules: &Rules, exchange: &Exchange, identity: Option<&Identity>) -> Decision {
    let tenant = identity.map(|identity| identity.tenant().unwrap_or_default());
    let of_path = rules.tenant.as_ref().map(|template| template.fill(exchange));
    let of_path = of_path.iter().map(|id| id.as_ref().map(|id| id.as_str()));
    let of_header = rules.tenant_header.iter().flat_map(|name| exchange.headers.get_all(name));
    decide(tenant, of_path.chain(of_header.map(|line| line.to_str().ok())))
}

fn refuse(exchange: &mut Exchange, code: Code, rule: &'static str) -> Verdict {
    exchange.by_rule(Rule::Fixed(rule));
    Verdict::Refuse(Refusal::new(code))
}
