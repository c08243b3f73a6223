//! What the operator writes about the control socket.
//!
//! Where it is bound, and how, is the business of `control/socket.rs`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The socket over which commands on this machine talk to the running gateway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Whether there is one. Default: true.
    pub enabled: bool,
    /// The path of the Unix domain socket, which only the gateway's own user and root can open (mode 0600). Its folder must
    /// be writable for nobody else. At most 107 bytes. Default: `portcullis.sock` beside the durable store, or else in
    /// `$XDG_RUNTIME_DIR`, or else there is none.
    pub socket: Option<PathBuf>,
}

impl Default for ControlConfig {
    fn default() -> ControlConfig {
        ControlConfig { enabled: true, socket: None }
    }
}
