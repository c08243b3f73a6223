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
pub struct RequestId {}

/// (being built)
pub fn build(_config: &PathConfig, _ground: &Ground) -> Result<RequestId, Vec<Mistake>> {
    Ok(RequestId {})
}

impl Guard for RequestId {
    fn name(&self) -> &'static str {
        "request_id"
    }
    fn gives(&self) -> &'static [Fact] {
        &[Fact::RequestId]
    }
    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Pass
    }
}
