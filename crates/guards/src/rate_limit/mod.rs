//! (being built)
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Mistake, PathConfig};
use crate::exchange::Exchange;

use crate::guard::{Guard, Verdict};
use crate::request_path::Ground;

/// (being built)
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

/// (being built)
pub struct RateLimit {}

/// (being built)
pub fn build(_config: &PathConfig, _ground: &Ground) -> Result<RateLimit, Vec<Mistake>> {
    Ok(RateLimit {})
}

impl Guard for RateLimit {
    fn name(&self) -> &'static str {
        "rate_limit"
    }
    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Pass
    }
}

/// What one policy said about a request.
#[derive(Clone, Debug)]
pub struct Quotation {}

/// What it counts.
pub mod metrics {
    /// All of it.
    pub const ALL: &[&portcullis_core::metric::Declaration] = &[];
}
