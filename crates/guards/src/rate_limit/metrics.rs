//! What the rate limiter counts.
//!
//! Handles are resolved when a policy is prepared; a request only adds to them.
//!
//! Invariant: the only label besides the result is the policy's name, which the operator wrote.

use portcullis_core::metric::{Counter, Declaration, Kind, Label, Registry, Values};

const POLICY: Label = Label { name: "policy", values: Values::Configured("names of rate limit policies") };

/// What policies decided.
pub static DECISIONS: Declaration = Declaration {
    name: "rate_limit_decisions_total",
    kind: Kind::Counter,
    help: "Requests that a rate limit policy let pass, refused, or would have refused if it were not in shadow mode. \
           A request that another policy refused is counted only there",
    labels: &[POLICY, Label { name: "result", values: Values::Closed(&["allowed", "refused", "would_refuse"]) }],
};

/// Clients that come near their limit.
pub static NEAR_LIMIT: Declaration = Declaration {
    name: "rate_limit_near_limit_total",
    kind: Kind::Counter,
    help: "Times a client's use of a rate limit rose to four fifths of its quota or above",
    labels: &[POLICY],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&DECISIONS, &NEAR_LIMIT];

/// The counters of one policy.
pub(super) struct Counts {
    pub(super) allowed: Counter,
    pub(super) refused: Counter,
    pub(super) would_refuse: Counter,
    pub(super) near_limit: Counter,
}

impl Counts {
    pub(super) fn new(metrics: &Registry, policy: &str) -> Counts {
        Counts {
            allowed: metrics.counter(&DECISIONS, &[policy, "allowed"]),
            refused: metrics.counter(&DECISIONS, &[policy, "refused"]),
            would_refuse: metrics.counter(&DECISIONS, &[policy, "would_refuse"]),
            near_limit: metrics.counter(&NEAR_LIMIT, &[policy]),
        }
    }
}
