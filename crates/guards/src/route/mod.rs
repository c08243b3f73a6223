//! (being built)
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Mistake, PathConfig};
use crate::exchange::Exchange;
use crate::guard::Fact;
use crate::guard::{Guard, Verdict};
use crate::request_path::Ground;

/// (being built)
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

/// (being built)
pub struct Router {}

/// (being built)
pub fn build(_config: &PathConfig, _ground: &Ground) -> Result<Router, Vec<Mistake>> {
    Ok(Router {})
}

impl Guard for Router {
    fn name(&self) -> &'static str {
        "route"
    }
    fn gives(&self) -> &'static [Fact] {
        &[Fact::Route]
    }
    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Pass
    }
}

use std::sync::Arc;
use http::Uri;
use http::uri::PathAndQuery;

/// A route that matched, as guards below see it.
#[derive(Debug)]
pub struct Route {
    /// Its place in the config, which is its place in every guard's per-route rules.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What a request takes from each rate limit.
    pub cost: u32,
}

/// The path of a request, decoded once and normalised once: the same for matching, limiting, logging and the upstream.
#[derive(Clone, Debug)]
pub struct NormalPath {}

impl NormalPath {
    /// The text that rules are matched against and logs show.
    #[must_use]
    pub fn matched<'a>(&'a self, uri: &'a Uri) -> &'a str {
        uri.path()
    }
    /// What is sent to the upstream.
    #[must_use]
    pub fn forwarded(&self, uri: &Uri) -> PathAndQuery {
        uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
    }
}
