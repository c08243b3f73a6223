//! Sheds what the gateway or an upstream cannot carry, early and with a word, before anything breaks.
//!
//! # What it does
//! Four bounds. **Connections per address**: counted over all cores, IPv6 by the configured network; one more is closed as
//! it is accepted, before a byte is read. **Requests a second**: one token bucket for the whole process. **Descriptors and
//! memory**: looked at ten times a second; above the high mark requests are refused, their connections and resting ones
//! and half-sent ones are closed, until the low mark is reached again. Above 95 % of the memory new connections are closed
//! as well; the last descriptors are never given to clients. **Requests at an upstream** at once, with a short queue
//! (`upstreams.NAME.concurrency`): the proxy asks for a place before the first attempt. Health and metrics have a listener
//! and a thread of their own, pass none of this, and keep descriptors in reserve.
//!
//! # Refuses when
//! `ERR_OVERLOADED`, 503 with `Retry-After`: more requests came than `requests_per_second` and `burst` allow; memory or
//! descriptors are above the high mark (sixteen requests at once still pass, so that a wrong measure is not an outage); an
//! upstream's queue is full or took too long.
//!
//! # Remembers
//! For each address with an open connection how many it has: never more entries than connections. One counter for the
//! rate. All of it outlives a reload.
//!
//! # If a dependency fails
//! It has none. Where the operating system does not tell memory or descriptors, they do not shed, and `/health` says
//! `unknown`; running out of descriptors is then met at accept.
//!
//! # Cost
//! One load and one counter a request; one short lock a connection.
//!
//! Invariant: what is shed is shed whole, before the upstream hears of it; what was counted is given back exactly once.

mod config;
mod connections;
mod decide;
pub mod metrics;
mod pressure;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_core::metric::{Counter, Gauge};
use portcullis_core::refusal::{Code, Refusal};
use portcullis_store::counters::{Counters, Key};

pub use config::{Config, Rules};
pub use connections::{Connections, Slot, Turned};
pub use decide::{Level, Marks};
pub use pressure::{Pressure, Reading, Resource};

use self::decide::{Facts, Shed, decide};
use crate::access_log::metrics::IN_FLIGHT;
use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, Touch};
use crate::guard::{Guard, Verdict};
use crate::request_path::Ground;
use crate::trail::Rule;

/// What the counters know the bucket by. No policy of `rate_limit` can have a slash in its name.
const BUCKET: &str = "overload/requests";

/// The guard.
pub struct Overload {
    rules: Rules,
    counters: Arc<dyn Counters>,
    key: Key,
    pressure: Arc<Pressure>,
    /// The access log's: requests that are being worked on.
    in_flight: Gauge,
    shed: [Counter; Shed::ALL.len()],
}

/// Builds the guard.
///
/// # Errors
/// Every value that is out of bounds.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<Overload, Vec<Mistake>> {
    let rules = Rules::compile(config)?;
    Ok(Overload {
        rules,
        counters: Arc::clone(&ground.counters),
        key: ground.keys.policy(BUCKET).key(&[]),
        pressure: Arc::clone(&ground.pressure),
        in_flight: ground.metrics.gauge(&IN_FLIGHT, &[]),
        shed: Shed::ALL.map(|shed| ground.metrics.counter(&metrics::SHED, &[shed.name()])),
    })
}

impl Guard for Overload {
    fn name(&self) -> &'static str {
        "overload"
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let levels = self.pressure.levels();
        let in_flight = || u64::try_from(self.in_flight.get()).unwrap_or(0);
        let ask = |now| match exchange.touch {
            Touch::Take => self.counters.take(self.key, &self.rules.rate, 1, now),
            Touch::Peek => self.counters.peek(self.key, &self.rules.rate, 1, now),
        };
        let facts = Facts { levels, in_flight: &in_flight, rate: &|| ask(exchange.now.monotonic_nanos) };
        let decision = decide(&facts);
        exchange.explain(|_| self.explanation());
        let Err((shed, wait_nanos)) = decision else { return Verdict::Pass };
        if exchange.touch == Touch::Take {
            self.shed[shed as usize].inc();
        }
        exchange.by_rule(Rule::Fixed(shed.name()));
        let refusal = Refusal::new(Code::Overloaded).retry_after(wait_nanos);
        // Under pressure the connection itself is part of what is too much.
        Verdict::Refuse(if shed == Shed::RequestsPerSecond { refusal } else { refusal.closing() })
    }
}

impl Overload {
    /// Where it stands, for people.
    fn explanation(&self) -> String {
        let of = |resource: Resource, unit: &str| match self.pressure.reading(resource) {
            Some(reading) => format!("{} of {}{unit}", reading.used, reading.limit),
            None => "unknown".to_owned(),
        };
        format!(
            "memory {}, descriptors {}, at most {} requests a second",
            of(Resource::Memory, " bytes"),
            of(Resource::Descriptors, ""),
            self.rules.requests_per_second
        )
    }
}
