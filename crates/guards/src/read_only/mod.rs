//! Refuses writes while a route is read-only: because the operator says so, or because writes keep failing.
//!
//! # What it does
//! A request whose method is not safe (RFC 9110, section 9.2.1: everything but GET, HEAD, OPTIONS and TRACE) is a write. By
//! `read_only.mode` a route takes writes (`never`, the default), refuses them (`always`), or finds out (`auto`): when within
//! the window enough writes failed by the upstream's fault, and they are at least half of all, writes are refused for a
//! while; then one is let through as a probe, and its outcome decides. A 5xx, a timeout and a broken connection are failures;
//! a 4xx is an answer; what the gateway itself refuses says nothing. `portcullis read-only on|off|auto ROUTE` overrides the
//! mode by hand until the next start. Only the method of the request line counts; fields that name another one
//! (`X-HTTP-Method-Override`) were taken away by `client_address`. What was let in before stays in.
//!
//! # Refuses when
//! `ERR_READ_ONLY`, 503 with `Retry-After`: a write on a route that is read-only. Reads go on.
//!
//! # Remembers
//! For each route what was said by hand, and in `auto` the failures and successes of the window, in fixed memory. A reload
//! keeps both; a restart forgets them.
//!
//! # If a dependency fails
//! It has none: it is what answers when the thing behind an upstream's writes fails.
//!
//! # Cost
//! A read: one comparison. A write: one load, and in `auto` what a circuit breaker costs.
//!
//! Invariant: no write passes on a route that is read-only, but for the one probe of `auto`; no read is ever refused here.

mod config;
mod decide;
pub mod metrics;
mod switches;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_core::fault::ErrorType;
use portcullis_core::metric::Counter;
use portcullis_core::refusal::{Code, Refusal};

pub use config::{Config, Mode};
pub use decide::{ByHand, Why};
pub use switches::{Standing, Switch, Switches};

use self::config::Rules;
use self::decide::{Decision, decide};
use crate::breaker::{self, Admission};
use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute, Touch};
use crate::guard::{Fact, Guard, ResponseHead, Verdict};
use crate::request_path::Ground;
use crate::route::IMPLICIT;
use crate::trail::Rule;

/// What a write is told to wait where nobody knows how long it will be.
const UNKNOWN_WAIT_NANOS: u64 = 60_000_000_000;

/// The guard.
pub struct ReadOnly {
    routes: PerRoute<Arc<Route>>,
}

/// One route as the guard sees it.
struct Route {
    switch: Arc<Switch>,
    mode: Mode,
    /// Counts what becomes of writes, in `auto`.
    writes: Option<Arc<breaker::Breaker>>,
    refused: Counter,
}

/// Builds the guard from the general `read_only` and those of the routes.
///
/// # Errors
/// Every value that is out of bounds.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<ReadOnly, Vec<Mistake>> {
    let general = config.read_only.over(&Config::defaults());
    let mut mistakes = Vec::new();
    let mut compiled = |config: &Config, at: &str| config.compile(at).map_err(|found| mistakes.extend(found)).ok();
    let fallback = compiled(&general, "read_only");
    let routes: Vec<(&str, Option<Rules>)> = config
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| match &route.read_only {
            Some(own) => (route.name.as_str(), compiled(&own.over(&general), &format!("routes[{index}].read_only"))),
            None => (route.name.as_str(), fallback.clone()),
        })
        .collect();
    let (Some(fallback), true) = (fallback, mistakes.is_empty()) else { return Err(mistakes) };
    let route = |name: &str, rules: &Rules| {
        let switch = ground.read_only.of(name);
        Arc::new(Route {
            mode: rules.mode,
            writes: switch.configure(rules.mode, rules.writes.clone()),
            switch,
            refused: ground.metrics.counter(&metrics::REFUSED, &[name]),
        })
    };
    let of_routes = routes.iter().filter_map(|(name, rules)| Some(route(name, rules.as_ref()?))).collect();
    Ok(ReadOnly { routes: PerRoute::new(route(IMPLICIT, &fallback), of_routes) })
}

impl Guard for ReadOnly {
    fn name(&self) -> &'static str {
        "read_only"
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::Route]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let route = self.routes.of(exchange);
        let now = exchange.now.monotonic_nanos;
        let (why, wait_nanos) = match decide(exchange.method.is_safe(), route.mode, route.switch.by_hand()) {
            Decision::Read => {
                exchange.explain(|_| "a read".to_owned());
                return Verdict::Skip;
            }
            Decision::Pass => {
                exchange.explain(|_| "a write, and the route takes writes".to_owned());
                return Verdict::Pass;
            }
            Decision::Refuse(why) => (why, UNKNOWN_WAIT_NANOS),
            Decision::Ask => {
                let Some(writes) = &route.writes else { return Verdict::Pass };
                let wait_nanos = match exchange.touch {
                    Touch::Take => match writes.admit_owned(now) {
                        Ok(permit) => {
                            exchange.write_permit = Some(permit);
                            return Verdict::Pass;
                        }
                        Err(rejected) => rejected.retry_after_nanos,
                    },
                    Touch::Peek => match writes.peek(now) {
                        Admission::Pass | Admission::Probe => return Verdict::Pass,
                        Admission::Refuse { retry_after_nanos } => retry_after_nanos,
                    },
                };
                (Why::Failures, wait_nanos)
            }
        };
        if exchange.touch == Touch::Take {
            route.refused.inc();
        }
        exchange.by_rule(Rule::Fixed(why.name()));
        Verdict::Refuse(Refusal::new(Code::ReadOnly).retry_after(wait_nanos))
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        let Some(permit) = exchange.write_permit.take() else { return };
        let status = head.status.as_u16();
        let verdict = match exchange.trail.refused().map(|(step, _)| step.guard) {
            None => breaker::Verdict::of_status(status),
            // The proxy speaks for the upstream only with these two; its 503 and 408 are the gateway's and the client's.
            Some("proxy") if status == 502 => breaker::Verdict::Failure(ErrorType::NetworkError),
            Some("proxy") if status == 504 => breaker::Verdict::Failure(ErrorType::Timeout),
            Some(_) => return,
        };
        permit.report(exchange.now.monotonic_nanos, verdict);
    }
}
