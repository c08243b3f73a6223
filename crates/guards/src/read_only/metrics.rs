//! What is counted about read-only routes.
//!
//! Invariant: the only label is the route's name, which the operator wrote.

use portcullis_core::metric::{Declaration, Kind, Label, Values};

const ROUTE: Label = Label { name: "route", values: Values::Configured("names of routes") };

/// Whether a route is read-only.
pub static ACTIVE: Declaration = Declaration {
    name: "read_only_active",
    kind: Kind::Gauge,
    help: "1 while a route refuses writes, by hand, by its config or because they fail; as of the scrape",
    labels: &[ROUTE],
};

/// Writes that were refused.
pub static REFUSED: Declaration = Declaration {
    name: "read_only_refused_total",
    kind: Kind::Counter,
    help: "Writes that were refused because the route was read-only",
    labels: &[ROUTE],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&ACTIVE, &REFUSED];
