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
pub struct SecurityHeaders {}

/// (being built)
pub fn build(_config: &PathConfig, _ground: &Ground) -> Result<SecurityHeaders, Vec<Mistake>> {
    Ok(SecurityHeaders {})
}

impl Guard for SecurityHeaders {
    fn name(&self) -> &'static str {
        "security_headers"
    }
    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Pass
    }
}
