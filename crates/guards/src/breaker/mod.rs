//! The circuit breaker: leaves an upstream alone that is failing, and finds out by a few probes when it is back.
//!
//! # What it does
//! Every upstream has a breaker, shared by all its routes (`upstreams.NAME.circuit_breaker`). Closed, it counts what
//! becomes of each attempt. It opens when within the window enough attempts failed and they are a large enough share.
//! Open, it refuses everything for a while. Half-open, it lets a few probes through: when they succeed it closes, when
//! one fails it opens again. A 5xx, a timeout and a connection that fails or breaks are failures; a 4xx is an answer, and
//! a client that hangs up says nothing. The proxy reports each attempt and asks again before each retry.
//!
//! # Refuses when
//! The breaker is open, or half-open with all its probes out: 503 `ERR_CIRCUIT_OPEN`, with the rest of the open time as
//! `Retry-After`. The upstream hears nothing of it.
//!
//! # Remembers
//! For each upstream the successes and failures of the window, in fixed memory. A reload keeps the breaker of an
//! upstream whose rules did not change, open or not. Nothing is kept across a restart.
//!
//! # If a dependency fails
//! It has none: it is what answers when an upstream fails.
//!
//! # Cost
//! Closed: one load to ask, and a report that adds to a counter of the own thread; no lock. Failures, probes and
//! transitions take one short lock.
//!
//! Invariant: a probe that never reports keeps its place no longer than its lease; nothing late opens or closes anything.

mod config;
mod decide;
mod guard;
pub mod metrics;
mod observer;
mod permit;
mod registry;
mod state;
mod sync;
mod window;

pub use config::{BreakerConfig as Config, Rules};
pub use decide::{Admission, Counts, State, Verdict};
pub use guard::{CircuitBreaker, build, judge};
pub use observer::{Cause, Observer, Transition};
pub use permit::{OwnedPermit, Permit};
pub use registry::Breakers;
pub use state::{Breaker, Rejected, Snapshot};

#[cfg(test)]
mod tests;
