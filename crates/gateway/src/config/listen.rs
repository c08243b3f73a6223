//! What the operator writes about one address that clients connect to: TLS, HTTP/2, the PROXY protocol.
//!
//! Files are read when the config is compiled (`listen::tls`), so a bad one is a mistake like any other.
//!
//! Invariant: TLS is either whole or not there; no setting here makes a TLS address answer in plain text.

use std::net::SocketAddr;
use std::path::PathBuf;

use portcullis_core::units::Cidr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Address and port, as `0.0.0.0:8080` or `[::]:8443`.
    pub address: SocketAddr,
    /// TLS on this address. Without it the address speaks plain HTTP. Certificates may change with a reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Whether clients may speak HTTP/2: by ALPN with TLS, with prior knowledge without. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http2: Option<bool>,
    /// Networks of load balancers that begin each connection with a PROXY protocol header (version 1 or 2). From them it is
    /// required, and the address in it counts as the client's; from anybody else it is refused. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<Cidr>,
}

/// TLS on a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, PEM, leaf first. A relative path begins at the config file's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM (PKCS #8, PKCS #1 or SEC 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// More certificates; the name that the client asks for (SNI) chooses. Bounds: at most 1000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub certificates: Vec<CertificateConfig>,
    /// Certificates that are obtained and renewed by themselves (ACME, RFC 8555). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<AcmeConfig>,
    /// What happens when the client asks for a name that no certificate has, or for none. Default: refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_names: Option<UnknownNames>,
    /// The oldest version that is spoken. Default: "1.2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// Certificates of clients. Default: none are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificates: Option<ClientCertificatesConfig>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The chain, PEM, leaf first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Certificates from an authority that speaks ACME. It is shown control of the names on this very listener
/// (TLS-ALPN-01, RFC 8737), which it must reach on port 443.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// The names of the certificate. No wildcards: those cannot be shown this way. Bounds: 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub names: Vec<String>,
    /// Where the account, the certificate and its key are kept; readable only by the gateway's user.
    pub folder: PathBuf,
    /// That you have read and agree to the authority's terms of service. Must be true.
    pub agree_to_terms: bool,
    /// The authority's directory. Default: https://acme-v02.api.letsencrypt.org/directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Whom the authority may write to, as `mailto:ops@example.com`. Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// Who vouches for the authority's own certificate, PEM. Default: whom the operating system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl AcmeConfig {
    /// Let's Encrypt.
    const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

    /// The authority's directory.
    #[must_use]
    pub fn directory(&self) -> &str {
        self.directory.as_deref().unwrap_or(AcmeConfig::DIRECTORY)
    }

    /// The files of the certificate and its key, in the config's terms.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 2] {
        let name = self.names.first().map_or("", String::as_str);
        [self.folder.join(format!("{name}.crt")), self.folder.join(format!("{name}.key"))]
    }
}

/// What happens when no certificate has the name the client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownNames {
    /// The handshake fails. A client that asks for no name gets the first certificate for an IP address, if there is one.
    #[default]
    Refuse,
    /// The first certificate is shown.
    First,
}

/// A version of TLS. Older ones are not spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Certificates of clients (mutual TLS).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificatesConfig {
    /// Who may issue them: certificates of authorities, PEM.
    pub ca: PathBuf,
    /// Certificate revocation lists of these authorities, PEM. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crl: Vec<PathBuf>,
    /// Whether a client without one is refused in the handshake. Default: true. One that is shown must be valid either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
}

impl ListenConfig {
    /// Plain HTTP on `address`.
    #[must_use]
    pub fn plain(address: SocketAddr) -> ListenConfig {
        ListenConfig { address, tls: None, http2: None, proxy_protocol: Vec::new() }
    }

    /// Whether clients may speak HTTP/2.
    #[must_use]
    pub fn speaks_http2(&self) -> bool {
        self.http2.unwrap_or(true)
    }

    /// The files it names.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let tls = self.tls.iter();
        tls.flat_map(|tls| {
            let pairs = tls.certificates.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
            let clients = tls.client_certificates.iter().flat_map(|clients| clients.crl.iter().chain([&clients.ca]));
            let written = tls.certificate.iter().chain(&tls.key).chain(pairs).chain(clients).cloned();
            written.chain(tls.acme.iter().flat_map(AcmeConfig::files))
        })
    }
}
