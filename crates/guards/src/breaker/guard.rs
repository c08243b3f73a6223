//! The breaker's place on the request path: finds the upstream's breaker, asks it, and hands on its permit.
//!
//! The proxy reports through the permit, and asks the same breaker again before each retry.
//!
//! Invariant: a request that is refused holds no permit; a dry run changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portcullis_core::refusal::Refusal;

use super::config::Rules;
use super::decide::{self, Admission, PROBING_RETRY_NANOS};
use super::state::{Breaker, Snapshot};
use crate::config::{Mistake, PathConfig};
use crate::exchange::{Body, Exchange, PerRoute, Touch};
use crate::guard::{Fact, Guard, Verdict};
use crate::limits::{self, Total};
use crate::request_path::Ground;
use crate::trail::Rule;

/// How much longer than a request may take a probe keeps its place: an attempt at the deadline must have reported.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// How long a probe keeps its place where requests may take for ever.
const LEASE_OF_ENDLESS: Duration = Duration::from_secs(60);
/// The longest that a probe keeps its place, however long requests may take.
const LEASE_MAX: Duration = Duration::from_secs(600);

/// The guard.
pub struct CircuitBreaker {
    services: PerRoute<Option<Service>>,
    /// Those that no route uses are in use too: their metrics are there before the first route is.
    _all: Vec<Service>,
}

/// An upstream and its breaker.
#[derive(Clone)]
struct Service {
    name: Arc<str>,
    breaker: Arc<Breaker>,
}

/// Builds the guard from the breakers of all upstreams, keeping those in use whose rules did not change.
///
/// # Errors
/// Every field that is out of bounds, at `upstreams.NAME.circuit_breaker`.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<CircuitBreaker, Vec<Mistake>> {
    let rules = compile(config)?;
    let services: BTreeMap<&str, Service> = rules
        .into_iter()
        .map(|(name, rules)| {
            let service = Service { name: Arc::from(name), breaker: ground.breakers.get_or_add(name, rules) };
            (name, service)
        })
        .collect();
    let of = |name: Option<&str>| name.and_then(|name| services.get(name)).cloned();
    let only = only_upstream(config);
    let routes = config.routes.iter().map(|route| of(route.upstream.as_deref().or(only))).collect();
    Ok(CircuitBreaker { services: PerRoute::new(of(only), routes), _all: services.values().cloned().collect() })
}

/// The rules of every breaker that is enabled.
fn compile(config: &PathConfig) -> Result<Vec<(&str, Rules)>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut compiled = Vec::new();
    for (name, breaker) in &config.breakers {
        match breaker.compile(lease(config, name)) {
            Ok(rules) => compiled.extend(rules.map(|rules| (name.as_str(), rules))),
            Err(wrong) => mistakes.extend(
                wrong
                    .into_iter()
                    .map(|(field, message)| Mistake::new(format!("upstreams.{name}.circuit_breaker.{field}"), message)),
            ),
        }
    }
    if mistakes.is_empty() { Ok(compiled) } else { Err(mistakes) }
}

/// The upstream of routes that name none.
fn only_upstream(config: &PathConfig) -> Option<&str> {
    match config.upstreams.as_slice() {
        [only] => Some(only),
        [] if config.breakers.len() == 1 => config.breakers.keys().next().map(String::as_str),
        _ => None,
    }
}

/// How long a probe of `upstream` keeps its place without reporting: as long as any of its routes gives a request.
fn lease(config: &PathConfig, upstream: &str) -> Duration {
    let only = only_upstream(config);
    let base = config.limits.over(&limits::Config::defaults());
    let own = config.routes.iter().filter(|route| route.upstream.as_deref().or(only) == Some(upstream));
    let totals = own.filter_map(|route| route.limits.as_ref()).map(|limits| limits.over(&base).total);
    let leases = totals.chain([base.total]).map(|total| match total {
        Some(Total::After(total)) => total.get().saturating_add(LEASE_MARGIN),
        Some(Total::Off) | None => LEASE_OF_ENDLESS,
    });
    leases.max().unwrap_or(LEASE_OF_ENDLESS).min(LEASE_MAX)
}

/// Judges an answer by its status alone, for callers that end the path with a service of the same process.
#[must_use]
pub fn judge(status: StatusCode) -> decide::Verdict {
    decide::Verdict::of_status(status.as_u16())
}

/// Whether the probes of `now` are kept for requests without a body.
///
/// A client that withholds its body holds a probe until its own time is up, and a few of them could keep a recovered
/// upstream refused for ever. So a half-open breaker first probes with requests that are whole, for as long as it was
/// open; only an upstream that gets no such request is then probed with whatever comes.
fn is_for_others(breaker: &Breaker, now: u64) -> bool {
    breaker.half_open_for_nanos(now).is_some_and(|since| since < breaker.rules().open_for_nanos)
}

impl Guard for CircuitBreaker {
    fn name(&self) -> &'static str {
        "breaker"
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::Route]
    }

    fn gives(&self) -> &'static [Fact] {
        &[Fact::Breaker]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let Some(service) = self.services.of(exchange) else {
            exchange.explain(|_| "the upstream has no circuit breaker".to_owned());
            return Verdict::Skip;
        };
        let now = exchange.now.monotonic_nanos;
        let refused_for = match exchange.touch {
            _ if exchange.body != Body::Absent && is_for_others(&service.breaker, now) => Some(PROBING_RETRY_NANOS),
            Touch::Take => match service.breaker.admit_owned(now) {
                Ok(permit) => {
                    exchange.permit = Some(permit);
                    None
                }
                Err(rejected) => Some(rejected.retry_after_nanos),
            },
            Touch::Peek => {
                exchange.by_rule(Rule::Named(Arc::clone(&service.name)));
                exchange.explain(|_| explanation(&service.name, &service.breaker.snapshot(now)));
                match service.breaker.peek(now) {
                    Admission::Pass | Admission::Probe => None,
                    Admission::Refuse { retry_after_nanos } => Some(retry_after_nanos),
                }
            }
        };
        match refused_for {
            None => {
                exchange.breaker = Some(Arc::clone(&service.breaker));
                Verdict::Pass
            }
            Some(wait_nanos) => {
                exchange.by_rule(Rule::Named(Arc::clone(&service.name)));
                Verdict::Refuse(Refusal::circuit_open(wait_nanos))
            }
        }
    }
}

/// Where a breaker stands, for people.
fn explanation(service: &str, snapshot: &Snapshot) -> String {
    use super::decide::State;
    let counts = snapshot.counts;
    match snapshot.state {
        State::Closed => {
            format!("{service} is closed: {} of the last {} attempts failed", counts.failed, counts.total)
        }
        State::HalfOpen => format!(
            "{service} is half-open: {} probes are out, {} succeeded",
            snapshot.probes_out, snapshot.probes_succeeded
        ),
        State::Open => {
            let seconds = snapshot.open_remaining_nanos.div_ceil(1_000_000_000);
            format!("{service} is open for another {seconds} s")
        }
    }
}

#[cfg(test)]
mod tests;
