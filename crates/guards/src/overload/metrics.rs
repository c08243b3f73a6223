//! What is counted about overload. The queues of upstreams count theirs beside the proxy, under the same prefix.
//!
//! Invariant: no address is a label.

use portcullis_core::metric::{Declaration, Kind, Label, Values};

/// Connections of clients.
pub static CONNECTIONS: Declaration =
    Declaration { name: "overload_connections", kind: Kind::Gauge, help: "Open connections of clients", labels: &[] };

/// Connections that were closed as they came.
pub static CONNECTIONS_REFUSED: Declaration = Declaration {
    name: "overload_connections_refused_total",
    kind: Kind::Counter,
    help: "Connections that were closed before they were read: the address had all it may have, only the reserve of \
           descriptors was left, or memory was nearly gone",
    labels: &[Label { name: "reason", values: Values::Closed(&["address", "descriptors", "memory"]) }],
};

/// Requests that were shed.
pub static SHED: Declaration = Declaration {
    name: "overload_shed_total",
    kind: Kind::Counter,
    help: "Requests that were refused because there was too much to do",
    labels: &[Label {
        name: "reason",
        values: Values::Closed(&["requests_per_second", "memory", "descriptors", "queue_full", "queue_timeout"]),
    }],
};

/// Memory in use.
pub static MEMORY: Declaration = Declaration {
    name: "overload_memory_bytes",
    kind: Kind::Gauge,
    help: "Resident memory of the process",
    labels: &[],
};

/// Memory at most.
pub static MEMORY_LIMIT: Declaration = Declaration {
    name: "overload_memory_limit_bytes",
    kind: Kind::Gauge,
    help: "Memory that the process may use: configured, of the control group, or of the machine; 0 where it is unknown",
    labels: &[],
};

/// Descriptors in use.
pub static DESCRIPTORS: Declaration = Declaration {
    name: "overload_descriptors",
    kind: Kind::Gauge,
    help: "Open file descriptors of the process",
    labels: &[],
};

/// Descriptors at most.
pub static DESCRIPTORS_LIMIT: Declaration = Declaration {
    name: "overload_descriptors_limit",
    kind: Kind::Gauge,
    help: "File descriptors for clients: the limit of the process without the reserve; 0 where it is unknown",
    labels: &[],
};

/// How short each is.
pub static LEVEL: Declaration = Declaration {
    name: "overload_pressure",
    kind: Kind::Gauge,
    help: "How short a resource is: 0 calm, 1 high (requests are shed), 2 critical",
    labels: &[Label { name: "resource", values: Values::Closed(&["memory", "descriptors"]) }],
};

/// All of it.
pub const ALL: &[&Declaration] =
    &[&CONNECTIONS, &CONNECTIONS_REFUSED, &SHED, &MEMORY, &MEMORY_LIMIT, &DESCRIPTORS, &DESCRIPTORS_LIMIT, &LEVEL];
