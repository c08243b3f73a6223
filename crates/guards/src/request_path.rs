//! The way of a request: one list, outside first. Config turns guards on, off and tunes them; it never re-orders them.
//!
//! Requests go down the list, responses come back up, and `finish` always runs. The gateway ends it with the proxy, the
//! tower layer with the inner service. It stands here, and not in the gateway, so that both run the same list.
//!
//! Invariant: the list exists once; `explain`, the reference page and the console print [`Path::names`].

use std::sync::Arc;

use portcullis_core::metric::Registry;
use portcullis_store::counters::{Counters, KeyHasher};

use crate::access_log::LogSink;
use crate::breaker::Breakers;
use crate::config::{Mistake, PathConfig, all_or_mistakes};
use crate::path::Path;
use crate::{access_log, breaker, client_address, limits, rate_limit, request_id, route, security_headers};

/// What guards stand on: the parts that outlive a reload.
#[derive(Clone)]
pub struct Ground {
    /// All metrics of the process.
    pub metrics: Arc<Registry>,
    /// Where rate limits are counted.
    pub counters: Arc<dyn Counters>,
    /// Hides who is counted. It outlives a reload, because under a new seed every client would start afresh.
    pub keys: KeyHasher,
    /// Where access log lines go.
    pub log: Arc<dyn LogSink>,
    /// The breakers of all upstreams, kept by name.
    pub breakers: Arc<Breakers>,
}

/// Builds the request path from its config.
///
/// # Errors
/// Every mistake that any guard finds in its config, all at once.
pub fn request_path(config: &PathConfig, ground: &Ground) -> Result<Path, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let guards = all_or_mistakes!(mistakes;
        request_id::build(config, ground),
        access_log::build(config, ground), // sees every outcome, refusals and hang-ups included
        security_headers::build(config, ground), // outside the rest, so that refusals carry them too
        client_address::build(config, ground), // gives ClientAddress
        route::build(config, ground), // gives Route: which upstream, which rules
        limits::build(config, ground), // sets deadline and body bounds for everything below
        rate_limit::build(config, ground), // by address, header, API key
        breaker::build(config, ground), // needs Route; asked again by the proxy before every retry
    );
    guards.build().map_err(|broken| vec![Mistake::new("", broken.to_string())])
}
