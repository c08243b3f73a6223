//! What one listening address asks of a connection before it may speak HTTP: compiled from `listen` in the config.
//!
//! `certificates` reads and chooses certificates; `arrive` walks a new connection through the door.
//!
//! Invariant: a door with TLS never lets a plain request through; a certificate that cannot be used is found here, when the
//! config is compiled, and the old config goes on.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use portcullis_core::units::Cidr;
use portcullis_guards::config::Mistake;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use super::certificates::{Certificate, Chooser};
use crate::acme::{self, Challenges};
use crate::config::listen::{AcmeConfig, ClientCertificatesConfig, ListenConfig, TlsConfig, TlsVersion, UnknownNames};

/// One listening address in its compiled form.
pub struct Door {
    /// TLS, where it is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether HTTP/2 may be spoken.
    pub http2: bool,
    /// Who begins with a PROXY protocol header.
    proxies: Box<[Cidr]>,
    /// Its certificates, for telemetry.
    pub certificates: Vec<Arc<Certificate>>,
}

impl Door {
    /// Compiles `config`, which stands at `listen[index]`.
    ///
    /// # Errors
    /// Every file that cannot be used, and why.
    pub fn compile(
        config: &ListenConfig,
        index: usize,
        folder: &Path,
        challenges: &Arc<Challenges>,
    ) -> Result<Door, Vec<Mistake>> {
        let http2 = config.speaks_http2();
        let proxies = config.proxy_protocol.clone().into_boxed_slice();
        let Some(tls) = &config.tls else { return Ok(Door { tls: None, http2, proxies, certificates: Vec::new() }) };
        let mut finder = Finder { at: format!("listen[{index}].tls"), folder, mistakes: Vec::new() };
        let certificates = certificates(tls, &mut finder);
        let verifier = tls.client_certificates.as_ref().and_then(|clients| verifier(clients, &mut finder));
        if !finder.mistakes.is_empty() {
            return Err(finder.mistakes);
        }
        let protocols: &[_] = match tls.min_version.unwrap_or_default() {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let refuses_unknown = tls.unknown_names.unwrap_or_default() == UnknownNames::Refuse;
        let chooser = Chooser::new(&certificates, refuses_unknown, Arc::clone(challenges));
        let built = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(protocols)
            .map(|builder| match verifier {
                Some(verifier) => builder.with_client_cert_verifier(verifier),
                None => builder.with_no_client_auth(),
            })
            .map(|builder| builder.with_cert_resolver(Arc::new(chooser)))
            .and_then(|config| Ok((config, aws_lc_rs::Ticketer::new()?)));
        let (mut server, ticketer) = match built {
            Ok(built) => built,
            Err(error) => return Err(vec![Mistake::new(finder.at, format!("TLS cannot be set up: {error}"))]),
        };
        server.ticketer = ticketer;
        // The gateway's order of ciphers counts, not the client's: the strongest that both know.
        server.ignore_client_order = true;
        // 0-RTT stays off (`max_early_data_size` is 0): what could be replayed is never read (ATTACKS row 184).
        server.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { Vec::new() };
        server.alpn_protocols.push(b"http/1.1".to_vec());
        if tls.acme.is_some() {
            server.alpn_protocols.push(acme::PROTOCOL.to_vec());
        }
        Ok(Door { tls: Some(Arc::new(server)), http2, proxies, certificates })
    }

    /// Whether connections from `peer` begin with a PROXY protocol header.
    #[must_use]
    pub fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        !self.proxies.is_empty() && {
            let peer = peer.to_canonical();
            self.proxies.iter().any(|network| network.contains(peer))
        }
    }
}

struct Finder<'a> {
    at: String,
    folder: &'a Path,
    mistakes: Vec<Mistake>,
}

impl Finder<'_> {
    fn find(&mut self, key: &str, message: String) {
        self.mistakes.push(Mistake::new(format!("{}{key}", self.at), message));
    }

    /// Every PEM item of one kind in a file; at least one.
    fn items<T: PemObject>(&mut self, key: &str, file: &Path, what: &str) -> Vec<T> {
        let path = self.folder.join(file);
        let read = T::pem_file_iter(&path).and_then(|items| items.collect::<Result<Vec<T>, _>>());
        match read {
            Ok(items) if items.is_empty() => self.find(key, format!("{} holds no {what}", path.display())),
            Ok(items) => return items,
            Err(error) => self.find(key, format!("{}: {error}", path.display())),
        }
        Vec::new()
    }
}

fn certificates(tls: &TlsConfig, finder: &mut Finder<'_>) -> Vec<Arc<Certificate>> {
    let first = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => Some((String::new(), certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            finder.find(".key", "a certificate needs its private key".to_owned());
            None
        }
        (None, Some(_)) => {
            finder.find(".certificate", "a key needs its certificate".to_owned());
            None
        }
    };
    let more = tls.certificates.iter().enumerate();
    let more = more.map(|(index, pair)| (format!(".certificates[{index}]"), &pair.certificate, &pair.key));
    let mut certificates = Vec::new();
    for (at, certificate, key) in first.into_iter().chain(more) {
        match Certificate::read(&finder.folder.join(certificate), &finder.folder.join(key)) {
            Ok(certificate) => certificates.push(Arc::new(certificate)),
            Err((is_key, message)) => {
                finder.find(&format!("{at}.{}", if is_key { "key" } else { "certificate" }), message);
            }
        }
    }
    if let Some(acme) = &tls.acme {
        check_acme(acme, tls, finder);
        // What is not there yet is obtained while the gateway runs; what is there must be usable.
        let [certificate, key] = acme.files().map(|file| finder.folder.join(file));
        if certificate.exists() {
            match Certificate::read(&certificate, &key) {
                Ok(certificate) => certificates.push(Arc::new(certificate)),
                Err((_, message)) => finder.find(".acme.folder", message),
            }
        }
    }
    if certificates.is_empty() && tls.acme.is_none() && finder.mistakes.is_empty() {
        finder.find("", "TLS needs a certificate: `certificate` and `key`".to_owned());
    }
    certificates
}

fn check_acme(acme: &AcmeConfig, tls: &TlsConfig, finder: &mut Finder<'_>) {
    if !acme.agree_to_terms {
        finder.find(".acme.agree_to_terms", "must be true: the authority issues nothing otherwise".to_owned());
    }
    if acme.names.is_empty() {
        finder.find(".acme.names", "at least one name is needed".to_owned());
    }
    for (index, name) in acme.names.iter().enumerate() {
        let is_name = name.contains('.')
            && name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            });
        if !is_name {
            finder.find(&format!(".acme.names[{index}]"), format!("`{name}` is not a DNS name without wildcard"));
        }
    }
    let asks_clients = tls.client_certificates.as_ref().is_some_and(|clients| clients.required != Some(false));
    if asks_clients {
        let why = "the authority has no client certificate, so it could not check the names on this listener";
        finder.find(".acme", why.to_owned());
    }
}

fn verifier(clients: &ClientCertificatesConfig, finder: &mut Finder<'_>) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in finder.items::<CertificateDer<'static>>(".client_certificates.ca", &clients.ca, "certificate") {
        if let Err(error) = roots.add(certificate) {
            finder.find(".client_certificates.ca", format!("{}: {error}", clients.ca.display()));
        }
    }
    let mut lists = Vec::new();
    for (index, file) in clients.crl.iter().enumerate() {
        let key = format!(".client_certificates.crl[{index}]");
        lists.extend(finder.items::<CertificateRevocationListDer<'static>>(&key, file, "revocation list"));
    }
    if !finder.mistakes.is_empty() {
        return None;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(lists);
    if clients.required == Some(false) {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| finder.find(".client_certificates", format!("cannot be used: {error}"))).ok()
}
