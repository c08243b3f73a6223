//! All guards in one table: name, page, metrics. The reference, the registry and the tidy check read it.
//!
//! Adding a guard means: its folder, a row here, a row in [`crate::request_path`].

use portcullis_core::metric::Declaration;

use crate::{
    access_log, breaker, identity, ip_block, login_watch, overload, permissions, rate_limit, read_only, stale_if_error,
};

/// One guard as the tools see it.
pub struct Room {
    /// Its one name.
    pub name: &'static str,
    /// The header of its `mod.rs`: the reference page of the guard.
    pub source: &'static str,
    /// What it counts.
    pub metrics: &'static [&'static Declaration],
}

/// Every guard, in the order of the path.
pub const ALL: &[Room] = &[
    Room { name: "request_id", source: include_str!("request_id/mod.rs"), metrics: &[] },
    Room { name: "access_log", source: include_str!("access_log/mod.rs"), metrics: access_log::metrics::ALL },
    Room { name: "security_headers", source: include_str!("security_headers/mod.rs"), metrics: &[] },
    Room { name: "client_address", source: include_str!("client_address/mod.rs"), metrics: &[] },
    Room { name: "ip_block", source: include_str!("ip_block/mod.rs"), metrics: ip_block::metrics::ALL },
    Room { name: "overload", source: include_str!("overload/mod.rs"), metrics: overload::metrics::ALL },
    Room { name: "route", source: include_str!("route/mod.rs"), metrics: &[] },
    Room { name: "read_only", source: include_str!("read_only/mod.rs"), metrics: read_only::metrics::ALL },
    Room { name: "limits", source: include_str!("limits/mod.rs"), metrics: &[] },
    Room { name: "rate_limit", source: include_str!("rate_limit/mod.rs"), metrics: rate_limit::metrics::ALL },
    Room { name: "login_watch", source: include_str!("login_watch/mod.rs"), metrics: login_watch::metrics::ALL },
    Room { name: "identity", source: include_str!("identity/mod.rs"), metrics: identity::metrics::ALL },
    Room { name: "permissions", source: include_str!("permissions/mod.rs"), metrics: permissions::metrics::ALL },
    Room {
        name: "stale_if_error",
        source: include_str!("stale_if_error/mod.rs"),
        metrics: stale_if_error::metrics::ALL,
    },
    Room { name: "breaker", source: include_str!("breaker/mod.rs"), metrics: breaker::metrics::ALL },
];
