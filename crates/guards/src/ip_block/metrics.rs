//! What is counted about bans and refused addresses.
//!
//! Invariant: no address, network or reason in words is a label.

use portcullis_core::metric::{Counter, Declaration, Gauge, Kind, Label, Registry, Values};
use portcullis_store::bans::Origin;

/// Bans that hold.
pub static ACTIVE: Declaration =
    Declaration { name: "ip_blocks_active", kind: Kind::Gauge, help: "Networks that are banned now", labels: &[] };

/// Bans that were placed.
pub static PLACED: Declaration = Declaration {
    name: "ip_blocks_total",
    kind: Kind::Counter,
    help: "Bans that were placed since the start, by who placed them",
    labels: &[Label { name: "reason", values: Values::Closed(&["operator", "login_watch", "wider_network"]) }],
};

/// Bans that could not be placed.
pub static NOT_PLACED: Declaration = Declaration {
    name: "ip_blocks_not_placed_total",
    kind: Kind::Counter,
    help: "Bans that were asked for and not placed: the list of bans was full, or the network holds a trusted proxy, is on \
           the allow list, or is everybody",
    labels: &[Label { name: "why", values: Values::Closed(&["full", "trusted_proxy", "allowed", "everybody"]) }],
};

/// Requests that were refused.
pub static REFUSED: Declaration = Declaration {
    name: "ip_block_refusals_total",
    kind: Kind::Counter,
    help: "Requests that were refused because of where they come from, by the rule that said so",
    labels: &[Label { name: "rule", values: Values::Closed(&["deny", "ban"]) }],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&ACTIVE, &PLACED, &NOT_PLACED, &REFUSED];

/// The handles of the register.
pub(super) struct OfBans {
    pub(super) active: Gauge,
    placed: [Counter; 3],
    not_placed: [Counter; 4],
}

impl OfBans {
    pub(super) fn new(metrics: &Registry) -> OfBans {
        OfBans {
            active: metrics.gauge(&ACTIVE, &[]),
            placed: Origin::ALL.map(|origin| metrics.counter(&PLACED, &[origin.name()])),
            not_placed: ["full", "trusted_proxy", "allowed", "everybody"]
                .map(|why| metrics.counter(&NOT_PLACED, &[why])),
        }
    }

    pub(super) fn placed(&self, origin: Origin) {
        self.placed[origin as usize].inc();
    }

    pub(super) fn not_placed(&self, why: super::NotPlaced) {
        self.not_placed[why as usize].inc();
    }
}

/// The handles of the guard.
pub(super) struct OfGuard {
    pub(super) denied: Counter,
    pub(super) banned: Counter,
}

impl OfGuard {
    pub(super) fn new(metrics: &Registry) -> OfGuard {
        OfGuard { denied: metrics.counter(&REFUSED, &["deny"]), banned: metrics.counter(&REFUSED, &["ban"]) }
    }
}
