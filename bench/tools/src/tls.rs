//! TLS towards a proxy, with everything fixed that proxies might choose differently.
//!
//! TLS 1.3, AES-128-GCM and X25519: what browsers offer first. No session is kept, so every connection is a full handshake.
//!
//! Invariant: the certificate is verified, and what was agreed on is checked on every connection; a proxy that resumes or
//! agrees on something else is an error, never a faster one.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

/// The only application protocol that is offered. HTTP/2 is h2load's.
const PROTOCOL: &[u8] = b"http/1.1";

/// Begins connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Dialer {
    /// Trusts `certificate` (PEM) alone, which must be for the target's IP address.
    pub(crate) fn new(certificate: &Path, target: SocketAddr) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let read =
            CertificateDer::from_pem_file(certificate).with_context(|| format!("reading {}", certificate.display()))?;
        roots.add(read).with_context(|| format!("trusting {}", certificate.display()))?;
        let mut provider = default_provider();
        provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
        provider.kx_groups = vec![kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("setting up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { config: Arc::new(config), name: ServerName::from(target.ip()) })
    }

    /// A session for a new connection.
    pub(crate) fn begin(&self) -> anyhow::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).context("beginning a TLS session")
    }
}

/// Whether a finished handshake is what it has to be.
///
/// # Errors
/// Names what is different.
pub(crate) fn check(session: &ClientConnection) -> anyhow::Result<()> {
    if session.handshake_kind() != Some(HandshakeKind::Full) {
        bail!("the handshake was {:?}, not a full one", session.handshake_kind());
    }
    if session.protocol_version() != Some(ProtocolVersion::TLSv1_3) || session.alpn_protocol() != Some(PROTOCOL) {
        let protocol = session.alpn_protocol().map(String::from_utf8_lossy);
        bail!("agreed on {:?} with {protocol:?}, not on TLS 1.3 with http/1.1", session.protocol_version());
    }
    match session.negotiated_key_exchange_group() {
        Some(group) if group.name() == NamedGroup::X25519 => Ok(()),
        group => bail!("the key exchange was {:?}, not X25519", group.map(|group| group.name())),
    }
}
