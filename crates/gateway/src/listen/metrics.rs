//! What the listeners count: handshakes, and how long certificates are still good.
//!
//! Invariant: every series stands from the start; a certificate's series is named by its first name, and certificates are
//! bounded by the config.

use crate::acme::ACME_ORDERS;
use portcullis_core::metric::{Counter, Declaration, Kind, Label, Registry, Values};

/// Handshakes, by how they ended.
pub static TLS_HANDSHAKES: Declaration = Declaration {
    name: "tls_handshakes_total",
    kind: Kind::Counter,
    help: "TLS handshakes with clients: full, resumed from a ticket, or failed",
    labels: &[Label { name: "result", values: Values::Closed(&["full", "resumed", "failed"]) }],
};

/// When a certificate ends.
pub static TLS_CERTIFICATE_NOT_AFTER: Declaration = Declaration {
    name: "tls_certificate_not_after_seconds",
    kind: Kind::Gauge,
    help: "When the certificate ends, in seconds since 1970",
    labels: &[Label { name: "certificate", values: Values::Configured("the first name of the certificate") }],
};

/// Connections whose protocol was switched.
pub static TUNNELS: Declaration = Declaration {
    name: "tunnels_open",
    kind: Kind::Gauge,
    help: "Connections that were switched to another protocol (WebSocket) and are open",
    labels: &[],
};

/// What listeners count.
pub const ALL: &[&Declaration] = &[&TLS_HANDSHAKES, &TLS_CERTIFICATE_NOT_AFTER, &TUNNELS, &ACME_ORDERS];

/// Counters of handshakes.
pub struct Handshakes {
    /// With all signatures.
    pub full: Counter,
    /// From a ticket.
    pub resumed: Counter,
    /// Not finished, for whatever reason.
    pub failed: Counter,
}

impl Handshakes {
    /// The counters of `metrics`.
    #[must_use]
    pub fn new(metrics: &Registry) -> Handshakes {
        let of = |result| metrics.counter(&TLS_HANDSHAKES, &[result]);
        Handshakes { full: of("full"), resumed: of("resumed"), failed: of("failed") }
    }
}
