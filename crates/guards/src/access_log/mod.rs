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
pub struct AccessLog {}

/// (being built)
pub fn build(_config: &PathConfig, _ground: &Ground) -> Result<AccessLog, Vec<Mistake>> {
    Ok(AccessLog {})
}

impl Guard for AccessLog {
    fn name(&self) -> &'static str {
        "access_log"
    }
    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Pass
    }
}

/// Where finished lines go. Called on the way of every request: must not block.
pub trait LogSink: Send + Sync {
    /// Takes one line without its end.
    fn line(&self, line: &[u8]);
}

/// What it counts.
pub mod metrics {
    /// All of it.
    pub const ALL: &[&portcullis_core::metric::Declaration] = &[];
}
