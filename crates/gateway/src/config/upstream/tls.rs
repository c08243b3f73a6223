//! What the operator writes about TLS to an upstream.
//!
//! Invariant: nothing here weakens anything unless its name begins with `dangerous_`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS to an upstream. Versions 1.2 and 1.3; certificates are always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// A PEM file of the authorities that may sign the upstream's certificate. Default: the operating system's.
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate that the gateway shows, and those between it and its authority. Needs `key`.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the private key of `certificate`.
    pub key: Option<PathBuf>,
    /// The name that the upstream's certificate must carry, and that is asked for (SNI). Default: the host of the url.
    pub server_name: Option<String>,
    /// Refuse to start, and to send anything, if a target is not https.
    pub required: bool,
    /// Believe any certificate. Whoever can reach the wire can then read and change everything. For a desk only: the
    /// production preset refuses it.
    pub dangerous_skip_verification: bool,
}

impl TlsConfig {
    /// The files it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca, &self.certificate, &self.key].into_iter().flatten()
    }
}
