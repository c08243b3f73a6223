//! TLS to one upstream: whom it believes, what it shows, and why a handshake failed.
//!
//! Files are read when the config is compiled, so a reload reads them again and a bad one keeps the old config. The
//! fingerprint tells whether they changed.
//!
//! Invariant: verification is off only when `dangerous_skip_verification` says so.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use crate::config::upstream::tls::TlsConfig;

/// Why handshakes fail, as the metric names it.
pub const REASONS: [&str; 7] =
    ["expired", "wrong_name", "unknown_authority", "revoked", "certificate", "refused", "protocol"];

/// TLS to one upstream.
pub struct Tls {
    /// For requests, with the ALPN of the upstream's protocol.
    pub shared: TlsConnector,
    /// For connections that are to switch to another protocol: always HTTP/1.1.
    pub switch: TlsConnector,
    /// Plain targets are refused.
    pub is_required: bool,
    /// The certificate that the gateway shows, as DER.
    pub own_certificate: Option<CertificateDer<'static>>,
    /// Differs when a file differs.
    pub fingerprint: u64,
}

/// A key of `tls` and what is wrong with it.
pub type Wrong = (&'static str, String);

impl Tls {
    /// Reads the files and builds the two configurations.
    ///
    /// # Errors
    /// The key whose file cannot be used, and why.
    pub fn load(config: &TlsConfig, folder: &Path, is_http2: bool) -> Result<Tls, Wrong> {
        let mut fingerprint = DefaultHasher::new();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| ("", error.to_string()))?;
        let builder = if config.dangerous_skip_verification {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous(provider)))
        } else {
            builder.with_root_certificates(roots(config, folder, &mut fingerprint)?)
        };
        let mut own_certificate = None;
        let mut client = match (&config.certificate, &config.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let certificate = read("certificate", folder, certificate, &mut fingerprint)?;
                let key = read("key", folder, key, &mut fingerprint)?;
                let chain = certificates("certificate", &certificate)?;
                own_certificate = chain.first().cloned();
                let key = PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|error| ("key", format!("is not a private key in PEM: {error}")))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| ("key", format!("does not fit the certificate: {error}")))?
            }
            (Some(_), None) => return Err(("key", "a certificate needs its key".to_owned())),
            (None, Some(_)) => return Err(("certificate", "a key needs its certificate".to_owned())),
        };
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(client);
        let shared = if is_http2 {
            let mut client = (*http1).clone();
            client.alpn_protocols = vec![b"h2".to_vec()];
            Arc::new(client)
        } else {
            Arc::clone(&http1)
        };
        Ok(Tls {
            shared: shared.into(),
            switch: http1.into(),
            is_required: config.required,
            own_certificate,
            fingerprint: fingerprint.finish(),
        })
    }
}

/// The name that a target must prove.
///
/// # Errors
/// When it is neither a DNS name nor an address.
pub fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is not a name that a certificate can carry"))
}

fn roots(config: &TlsConfig, folder: &Path, fingerprint: &mut DefaultHasher) -> Result<RootCertStore, Wrong> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = &config.ca else {
        let system = rustls_native_certs::load_native_certs();
        let (known, _) = roots.add_parsable_certificates(system.certs);
        if known == 0 {
            return Err(("ca", "the operating system has no authorities to trust; name a file".to_owned()));
        }
        return Ok(roots);
    };
    let bytes = read("ca", folder, ca, fingerprint)?;
    for certificate in certificates("ca", &bytes)? {
        roots.add(certificate).map_err(|error| ("ca", format!("holds a certificate that cannot be used: {error}")))?;
    }
    Ok(roots)
}

fn read(key: &'static str, folder: &Path, path: &Path, fingerprint: &mut DefaultHasher) -> Result<Vec<u8>, Wrong> {
    let path = folder.join(path);
    let bytes = std::fs::read(&path).map_err(|error| (key, format!("{} cannot be read: {error}", path.display())))?;
    bytes.hash(fingerprint);
    Ok(bytes)
}

fn certificates(key: &'static str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err((key, "has no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err((key, format!("is not PEM: {error}"))),
    }
}

/// The reason of a failed handshake or of an alert that came later; `None` when TLS is not what failed.
#[must_use]
pub fn reason(error: &io::Error) -> Option<&'static str> {
    Some(match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "expired",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "wrong_name",
            CertificateError::UnknownIssuer => "unknown_authority",
            CertificateError::Revoked => "revoked",
            _ => "certificate",
        },
        Error::AlertReceived(_) => "refused",
        _ => "protocol",
    })
}

/// Believes every certificate, but still checks that the other end has its key.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
