//! What is counted about permissions, on routes and over the check API alike.
//!
//! Invariant: no user, tenant, role or resource is a label.

use portcullis_core::metric::{Counter, Declaration, Kind, Label, Registry, Values};
use portcullis_store::permissions::Why;

/// Checks.
pub static CHECKS: Declaration = Declaration {
    name: "permission_checks_total",
    kind: Kind::Counter,
    help: "Permission checks, on routes and over the check API",
    labels: &[Label { name: "result", values: Values::Closed(&["allowed", "refused", "unavailable"]) }],
};

/// Checks that a remembered decision answered.
pub static HITS: Declaration = Declaration {
    name: "permission_cache_hits_total",
    kind: Kind::Counter,
    help: "Permission checks that a remembered decision answered",
    labels: &[],
};

/// Checks that were computed.
pub static MISSES: Declaration = Declaration {
    name: "permission_cache_misses_total",
    kind: Kind::Counter,
    help: "Permission checks that were computed",
    labels: &[],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&CHECKS, &HITS, &MISSES];

/// The handles.
pub struct Counts {
    allowed: Counter,
    refused: Counter,
    unavailable: Counter,
    hits: Counter,
    misses: Counter,
}

impl Counts {
    /// All at 0, or where they stand.
    #[must_use]
    pub fn new(metrics: &Registry) -> Counts {
        Counts {
            allowed: metrics.counter(&CHECKS, &["allowed"]),
            refused: metrics.counter(&CHECKS, &["refused"]),
            unavailable: metrics.counter(&CHECKS, &["unavailable"]),
            hits: metrics.counter(&HITS, &[]),
            misses: metrics.counter(&MISSES, &[]),
        }
    }

    /// Counts one check that was answered.
    pub fn count(&self, why: Why, is_remembered: bool) {
        if why.is_allowed() { &self.allowed } else { &self.refused }.inc();
        if is_remembered { &self.hits } else { &self.misses }.inc();
    }

    /// Counts one that was not.
    pub fn count_unavailable(&self) {
        self.unavailable.inc();
    }
}
