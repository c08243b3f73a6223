//! Rate limits: how often someone may ask, told to clients before they meet the limit.
//!
//! # What it does
//! A route has a list of policies: its own, or else the general one, or else 100 requests a second for an address with
//! bursts of 200. Each policy counts apart whom its `by` tells apart. A request takes its cost from every policy, or,
//! when one refuses, from none. Every answer of a limited route tells where the client stands: `RateLimit-Policy` with
//! `q`, what may come at once, and `w`, the seconds in which all of it is back; `RateLimit` with `r`, what is left, and
//! `t`, the seconds until all is back; and `X-RateLimit-Limit`, `-Remaining` and `-Reset` of the policy that is nearest
//! to refusing. After a refusal `t` is the time until the same request passes, and a policy that did not refuse leaves
//! `t` out where it would be later than `Retry-After`. Fields of the upstream are added to and never loosened.
//!
//! # Refuses when
//! A policy has less left than the request costs: 429 `ERR_RATE_LIMITED` with `Retry-After`, the longest wait of all
//! policies that refuse. A policy in shadow mode refuses nobody and shows in no answer. It counts `would_refuse`, notes
//! itself in the trail, and is asked only about requests that the enforced policies let pass.
//!
//! It stands on the path twice: policies that count by `user`, `tenant`, `plan` or a claim are asked behind `identity`, as
//! `rate_limit_by_identity`, all others before anything that costs more. A request that the second refuses has taken from
//! the first.
//!
//! # Remembers
//! One counter for each policy and subject, in the store's table of fixed size. Keys are hashes under a secret seed:
//! no address, header or API key is kept. A reload keeps all counters of policies that keep their name.
//!
//! # If a dependency fails
//! It has none: counters are in memory.
//!
//! # Cost
//! For each policy one hash and one short look into a table (two looks where a route has several policies). No
//! allocation on the way down; on the way up the values of the fields.
//!
//! Invariant: a request that the counters refuse never passes, and no answer of shadow mode reaches a client.

mod config;
mod decide;
mod fields;
pub mod metrics;
mod policy;
mod state;
mod subject;

use std::fmt::Write as _;
use std::sync::Arc;

use http::header::RETRY_AFTER;
use portcullis_core::clock::retry_after_seconds;
use portcullis_core::refusal::{Code, Refusal};
use portcullis_store::counters::Counters;

pub use config::{Algorithm, Config, Mode};
pub use decide::Quotation;

use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute, Touch};
use crate::guard::{Fact, Guard, ResponseHead, Verdict};
use crate::request_path::Ground;
use crate::trail::Rule;
use config::Stage;
pub(crate) use config::claims;
use decide::{Answer, Decision, decide, quote, rises_near_limit};
use policy::{Policy, Rules};
use state::Asking;
use subject::Subject;

const NAME: &str = "rate_limit";
const BY_IDENTITY: &str = "rate_limit_by_identity";

/// The guard.
pub struct RateLimit {
    rules: PerRoute<Arc<Rules>>,
    counters: Arc<dyn Counters>,
    needs: &'static [Fact],
    stage: Stage,
}

/// Builds the guard from the general policies and those of every route.
///
/// # Errors
/// Every mistake in any policy, with its place.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<RateLimit, Vec<Mistake>> {
    build_stage(config, ground, Stage::First)
}

/// Builds the same guard once more, with the policies that count by who is asking, for behind `identity`.
///
/// # Errors
/// As [`build`].
pub fn build_by_identity(config: &PathConfig, ground: &Ground) -> Result<RateLimit, Vec<Mistake>> {
    // What is wrong was told by the first.
    build_stage(config, ground, Stage::ByIdentity).map_err(|_| Vec::new())
}

fn build_stage(config: &PathConfig, ground: &Ground, stage: Stage) -> Result<RateLimit, Vec<Mistake>> {
    let compiled = config::compile(config, &crate::identity::kinds(config, ground))?;
    let here = || compiled.definitions.iter().filter(|definition| definition.stage == stage);
    let uses = |wanted: Subject| here().any(|definition| definition.subjects.contains(&wanted));
    let needs: &[Fact] = match (uses(Subject::Address), uses(Subject::Route)) {
        // Also where nothing is counted: it stands behind whoever gives it.
        _ if stage == Stage::ByIdentity => &[Fact::ClientAddress, Fact::Route, Fact::Identity],
        (true, true) => &[Fact::ClientAddress, Fact::Route],
        (true, false) => &[Fact::ClientAddress],
        (false, true) => &[Fact::Route],
        (false, false) => &[],
    };
    let rules = policy::prepare(&compiled, stage, &ground.keys, &ground.metrics);
    Ok(RateLimit { rules, counters: Arc::clone(&ground.counters), needs, stage })
}

impl Guard for RateLimit {
    fn name(&self) -> &'static str {
        match self.stage {
            Stage::First => NAME,
            Stage::ByIdentity => BY_IDENTITY,
        }
    }

    fn needs(&self) -> &'static [Fact] {
        self.needs
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let rules = self.rules.of(exchange);
        if rules.enforced.is_empty() && rules.shadow.is_empty() {
            return Verdict::Skip;
        }
        let asking = Asking { counters: &*self.counters, exchange };
        let answers = asking.all_or_none(&rules.enforced);
        let decision = decide(&answers);
        let rehearsed = match decision {
            Decision::Pass => asking.each(&rules.shadow),
            Decision::Refuse { .. } => state::Answers::new(),
        };
        exchange.quotations[self.stage as usize] = quote(&answers, decision);
        exchange.explain(|_| {
            let enforced = rules.enforced.iter().zip(&answers);
            explanation(enforced.chain(rules.shadow.iter().zip(&rehearsed)))
        });
        if exchange.touch == Touch::Take {
            count(rules, &answers, &rehearsed, decision);
        }
        for (policy, answer) in rules.shadow.iter().zip(&rehearsed) {
            if !answer.outcome.allowed {
                exchange.would_refuse(self.name(), Code::RateLimited, Rule::Named(Arc::clone(&policy.name)));
            }
        }
        match decision {
            Decision::Pass => Verdict::Pass,
            Decision::Refuse { by, wait_nanos } => {
                exchange.by_rule(Rule::Named(Arc::clone(&rules.enforced[by].name)));
                Verdict::Refuse(Refusal::rate_limited(wait_nanos))
            }
        }
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        let rules = self.rules.of(exchange);
        // Where the other stage refused, nothing here may be told to be later than its `Retry-After`.
        let is_other = |guard| guard != self.name() && (guard == NAME || guard == BY_IDENTITY);
        if exchange.trail.refused().is_some_and(|(step, _)| is_other(step.guard)) {
            let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            decide::tell_no_later(&mut exchange.quotations[self.stage as usize], seconds.unwrap_or(1));
        }
        fields::write(rules, &exchange.quotations[self.stage as usize], exchange.now.unix_millis, &mut head.headers);
    }
}

/// Adds a real request to the counters of its policies.
fn count(rules: &Rules, answers: &[Answer], rehearsed: &[Answer], decision: Decision) {
    for (policy, answer) in rules.enforced.iter().zip(answers) {
        if !answer.outcome.allowed {
            policy.counts.refused.inc();
        } else if decision == Decision::Pass {
            policy.counts.allowed.inc();
            note_near_limit(policy, answer);
        }
    }
    for (policy, answer) in rules.shadow.iter().zip(rehearsed) {
        if answer.outcome.allowed {
            policy.counts.allowed.inc();
            note_near_limit(policy, answer);
        } else {
            policy.counts.would_refuse.inc();
        }
    }
}

fn note_near_limit(policy: &Policy, answer: &Answer) {
    if rises_near_limit(answer, policy.near_from) {
        policy.counts.near_limit.inc();
    }
}

/// One line for people about each policy.
fn explanation<'a>(said: impl Iterator<Item = (&'a Arc<Policy>, &'a Answer)>) -> String {
    let mut text = String::new();
    for (policy, Answer { outcome, cost, .. }) in said {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let by: Vec<String> = policy.subjects.iter().map(ToString::to_string).collect();
        let _ = write!(text, "{} by {}: ", policy.name, by.join(" and "));
        let seconds =
            retry_after_seconds(if outcome.allowed { outcome.reset_after_nanos } else { outcome.retry_after_nanos });
        let _ = if outcome.allowed {
            write!(text, "takes {cost}, leaves {} of {}, all back in {seconds} s", outcome.remaining, outcome.limit)
        } else {
            write!(text, "takes {cost} and has {} of {}, again in {seconds} s", outcome.remaining, outcome.limit)
        };
    }
    text
}

#[cfg(test)]
mod tests;
