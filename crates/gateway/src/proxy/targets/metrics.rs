//! What is counted about upstreams and their targets.
//!
//! Targets are labelled with the `host:port` of the config, never with an address that a name led to.
//!
//! Invariant: every series of a configured target stands from the start.

use portcullis_core::metric::{Counter, Declaration, Gauge, Kind, Label, Registry, Values};

use crate::proxy::dial::tls::REASONS;

const UPSTREAM: Label = Label { name: "upstream", values: Values::Configured("name of the upstream") };
const TARGET: Label = Label { name: "target", values: Values::Configured("host:port of the target") };

/// Whether a target is used.
pub static TARGET_UP: Declaration = Declaration {
    name: "upstream_target_up",
    kind: Kind::Gauge,
    help: "1 when the target passes its health checks and is not ejected, or nobody has anything against it",
    labels: &[UPSTREAM, TARGET],
};

/// How often a target was left alone for failing.
pub static EJECTIONS: Declaration = Declaration {
    name: "upstream_ejections_total",
    kind: Kind::Counter,
    help: "Times a target was left alone because it failed again and again",
    labels: &[UPSTREAM, TARGET],
};

/// What health checks heard.
pub static CHECKS: Declaration = Declaration {
    name: "upstream_health_checks_total",
    kind: Kind::Counter,
    help: "Health checks of a target, by result",
    labels: &[UPSTREAM, TARGET, Label { name: "result", values: Values::Closed(&["passed", "failed"]) }],
};

/// Whether all targets are bad.
pub static PANIC: Declaration = Declaration {
    name: "upstream_panic",
    kind: Kind::Gauge,
    help: "1 when every target is failing or ejected, so that all of them are used",
    labels: &[UPSTREAM],
};

/// What became of look-ups.
pub static LOOKUPS: Declaration = Declaration {
    name: "upstream_lookups_total",
    kind: Kind::Counter,
    help: "Look-ups of the names of an upstream's targets, by result",
    labels: &[UPSTREAM, Label { name: "result", values: Values::Closed(&["found", "failed"]) }],
};

/// How many addresses are known.
pub static ADDRESSES: Declaration = Declaration {
    name: "upstream_addresses",
    kind: Kind::Gauge,
    help: "Addresses known for a target; 0 when its name does not resolve",
    labels: &[UPSTREAM, TARGET],
};

/// Upstreams that could not prove who they are, or did not believe us.
pub static TLS_FAILURES: Declaration = Declaration {
    name: "upstream_tls_failures_total",
    kind: Kind::Counter,
    help: "TLS handshakes with an upstream that failed, by reason",
    labels: &[UPSTREAM, Label { name: "reason", values: Values::Closed(&REASONS) }],
};

/// The handles of one target.
pub struct TargetMeter {
    /// 1 while it is used.
    pub up: Gauge,
    /// Times it was ejected.
    pub ejections: Counter,
    /// Health checks that passed.
    pub passed: Counter,
    /// Health checks that failed.
    pub failed: Counter,
    /// Addresses known.
    pub addresses: Gauge,
}

impl TargetMeter {
    /// Those of `target` of `upstream`.
    #[must_use]
    pub fn new(metrics: &Registry, upstream: &str, target: &str) -> TargetMeter {
        let meter = TargetMeter {
            up: metrics.gauge(&TARGET_UP, &[upstream, target]),
            ejections: metrics.counter(&EJECTIONS, &[upstream, target]),
            passed: metrics.counter(&CHECKS, &[upstream, target, "passed"]),
            failed: metrics.counter(&CHECKS, &[upstream, target, "failed"]),
            addresses: metrics.gauge(&ADDRESSES, &[upstream, target]),
        };
        meter.up.set(1);
        meter
    }
}

/// The handles of one upstream.
pub struct UpstreamMeter {
    /// 1 while all targets are bad.
    pub panic: Gauge,
    /// Look-ups that gave addresses.
    pub found: Counter,
    /// Look-ups that gave none.
    pub lost: Counter,
    tls: Vec<Counter>,
}

impl UpstreamMeter {
    /// Those of `upstream`.
    #[must_use]
    pub fn new(metrics: &Registry, upstream: &str) -> UpstreamMeter {
        UpstreamMeter {
            panic: metrics.gauge(&PANIC, &[upstream]),
            found: metrics.counter(&LOOKUPS, &[upstream, "found"]),
            lost: metrics.counter(&LOOKUPS, &[upstream, "failed"]),
            tls: REASONS.iter().map(|reason| metrics.counter(&TLS_FAILURES, &[upstream, reason])).collect(),
        }
    }

    /// A handshake failed.
    pub fn tls_failed(&self, reason: &str) {
        if let Some(index) = REASONS.iter().position(|known| *known == reason) {
            self.tls[index].inc();
        }
    }
}
