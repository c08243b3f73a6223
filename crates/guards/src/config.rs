//! The part of the config that concerns the request path, and how mistakes in it are told.
//!
//! Each guard declares its own part in its `config.rs`; here they are only put together. The gateway adds listeners,
//! upstreams and stores around it.
//!
//! Invariant: a route's part overrides the general part field by field; what neither sets has the guard's default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portcullis_core::units::{Cidr, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access_log, breaker, client_address, identity, ip_block, limits, login_watch, overload, permissions, rate_limit,
    read_only, request_id, route, security_headers, stale_if_error,
};

/// Everything the guards are told.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct PathConfig {
    /// Where request ids come from.
    pub request_id: request_id::Config,
    /// The log of requests and answers.
    pub access_log: access_log::Config,
    /// Header fields that browsers act on.
    pub security_headers: security_headers::Config,
    /// Networks of the proxies in front of the gateway. Only their `X-Forwarded-For` or `Forwarded` is believed. Default: none.
    pub trusted_proxies: Vec<Cidr>,
    /// How the client's address is found and grouped.
    pub client_address: client_address::Config,
    /// Who is kept out because of where they come from.
    pub ip_block: ip_block::Config,
    /// What the gateway carries at most; more is shed.
    pub overload: overload::Config,
    /// Whether routes take writes.
    pub read_only: read_only::Config,
    /// Bounds on size and time.
    pub limits: limits::Config,
    /// Rate limits of every route that has none of its own. Default: 100 requests a second for an address, bursts of 200.
    pub rate_limit: Option<Vec<rate_limit::Config>>,
    /// Who may ask, and how they show it. Default: nobody is asked.
    pub identity: identity::Config,
    /// How permissions are read; what is asked for stands on each route.
    pub permissions: permissions::Config,
    /// Memory for the answers that are kept for when an upstream fails.
    pub stale_if_error: stale_if_error::Config,
    /// Where requests go, first match by specificity. Without routes, everything goes to the only upstream.
    pub routes: Vec<RouteConfig>,
    /// The breakers of the upstreams, by the upstream's name. Filled by the gateway from `upstreams`.
    #[serde(skip)]
    pub breakers: BTreeMap<String, breaker::Config>,
    /// How long answers of upstreams are served after they went stale, by the upstream's name. Filled by the gateway from
    /// `upstreams`.
    #[serde(skip)]
    pub stale: BTreeMap<String, Duration>,
    /// The names of all upstreams. Filled by the gateway from `upstreams`; empty where the path ends in a service of the
    /// same process, and then the names that routes give are not checked.
    #[serde(skip)]
    pub upstreams: Vec<String>,
    /// Where relative paths begin. Filled by the gateway: the folder of the config file.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl PathConfig {
    /// With every general default written out. Routes stay as written: what they leave out is the general rule.
    #[must_use]
    pub fn filled(self) -> PathConfig {
        PathConfig {
            request_id: self.request_id.over(&request_id::Config::defaults()),
            access_log: self.access_log.over(&access_log::Config::defaults()),
            security_headers: self.security_headers.over(&security_headers::Config::defaults()),
            client_address: self.client_address.over(&client_address::Config::defaults()),
            ip_block: self.ip_block.over(&ip_block::Config::defaults()),
            overload: self.overload.over(&overload::Config::defaults()),
            read_only: self.read_only.over(&read_only::Config::defaults()),
            limits: self.limits.over(&limits::Config::defaults()),
            identity: self.identity.over(&identity::Config::defaults()),
            permissions: self.permissions.over(&permissions::Config::defaults()),
            stale_if_error: self.stale_if_error.over(&stale_if_error::Config::defaults()),
            rate_limit: Some(self.rate_limit.unwrap_or_else(|| vec![rate_limit::Config::defaults()])),
            ..self
        }
    }
}

/// One route: what it takes, where it goes, and what differs from the general rules there.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// Its name, in logs, metrics and `explain`. Letters, digits, `-` and `_`; unique.
    pub name: String,
    /// What it takes.
    #[serde(rename = "match")]
    pub matches: route::Config,
    /// The upstream's name. May be left out when there is only one.
    pub upstream: Option<String>,
    /// Whole segments with which `match.path` begins and which the upstream does not get: with `/api`, `/api/x` is sent
    /// as `/x`. Default: none.
    pub strip_prefix: Option<String>,
    /// Protocols that a request may switch to (`Upgrade`, RFC 9110 section 7.8). Default: [websocket]; an empty list: none.
    pub switch_to: Option<Vec<String>>,
    /// What a request on this route takes from each rate limit. Default: 1. Bounds: 1 to 1000000.
    pub cost: Option<u32>,
    /// Whether it ends in a service of the gateway itself and asks no upstream. Set by the gateway alone.
    #[serde(skip)]
    pub is_inner: bool,
    /// Overrides for this route.
    pub access_log: Option<access_log::Config>,
    /// Overrides for this route.
    pub security_headers: Option<security_headers::Config>,
    /// Overrides for this route.
    pub read_only: Option<read_only::Config>,
    /// Overrides for this route.
    pub limits: Option<limits::Config>,
    /// Watches the logins of this route, over `ip_block.login_watch`. Default: what that says; `{}` turns it on here.
    pub login_watch: Option<login_watch::Config>,
    /// Who may ask here.
    pub identity: Option<identity::OfRoute>,
    /// What the user must be allowed to here. Needs `identity.required`. Default: nothing is asked for; `{}` asks only that
    /// the user is not deactivated.
    pub permissions: Option<permissions::OfRoute>,
    /// What happens here when something that the route depends on fails.
    pub on_outage: Option<stale_if_error::OutageConfig>,
    /// The rate limits of this route, instead of the general ones. An empty list turns them off.
    pub rate_limit: Option<Vec<rate_limit::Config>>,
}

/// One thing that is wrong with the config, found after it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, as `routes[0].limits.body_bytes`.
    pub path: String,
    /// What, and what would be right.
    pub message: String,
}

impl Mistake {
    /// A mistake at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Mistake {
        Mistake { path: path.into(), message: message.into() }
    }
}

/// Adds each guard to a path builder in the order written, or collects the mistakes of all of them and returns.
macro_rules! all_or_mistakes {
    ($mistakes:ident; $($guard:expr),* $(,)?) => {{
        let mut builder = $crate::path::Path::builder();
        $(match $guard {
            Ok(guard) => builder = builder.add(guard),
            Err(found) => $mistakes.extend(found),
        })*
        if !$mistakes.is_empty() {
            return Err($mistakes);
        }
        builder
    }};
}
pub(crate) use all_or_mistakes;
