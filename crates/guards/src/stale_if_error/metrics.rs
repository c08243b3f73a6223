//! What is counted about kept answers.
//!
//! Invariant: the only label is the route's name, which the operator wrote.

use portcullis_core::metric::{Declaration, Kind, Label, Values};

/// Answers from memory.
pub static SERVED: Declaration = Declaration {
    name: "stale_if_error_served_total",
    kind: Kind::Counter,
    help: "Requests that were answered with a kept answer because the upstream failed",
    labels: &[Label { name: "route", values: Values::Configured("names of routes whose upstream has stale_if_error") }],
};

/// Answers that were kept.
pub static KEPT: Declaration = Declaration {
    name: "stale_if_error_kept_total",
    kind: Kind::Counter,
    help: "Answers that were kept for when the upstream fails",
    labels: &[],
};

/// Answers that could have been kept.
pub static NOT_KEPT: Declaration = Declaration {
    name: "stale_if_error_not_kept_total",
    kind: Kind::Counter,
    help: "Answers that were not kept though they might have been: too long, or too many on their way at once",
    labels: &[Label { name: "reason", values: Values::Closed(&["room"]) }],
};

/// Memory in use.
pub static BYTES: Declaration = Declaration {
    name: "stale_if_error_bytes",
    kind: Kind::Gauge,
    help: "Memory of the answers that are kept",
    labels: &[],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&SERVED, &KEPT, &NOT_KEPT, &BYTES];
