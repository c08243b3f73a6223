//! Certificates of the gateway, and which one a client is shown.
//!
//! The name that a client asks for (SNI, RFC 6066 section 3) chooses: an exact name first, then a wildcard for its first
//! label (RFC 6125 section 6.4.3).
//!
//! Invariant: a certificate and its key match; that is checked when they are read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::acme::{self, Challenges};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// One certificate chain with its key.
#[derive(Debug)]
pub struct Certificate {
    /// The first name it is for; what telemetry calls it.
    pub name: String,
    /// When it begins and ends, in seconds since 1970.
    pub not_before_unix: i64,
    /// See above.
    pub not_after_unix: i64,
    names: Vec<String>,
    is_for_an_address: bool,
    certified: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads a PEM chain and its PEM key.
    ///
    /// # Errors
    /// Whether it is the key that is wrong, and what is wrong with it.
    pub fn read(chain: &Path, key: &Path) -> Result<Certificate, (bool, String)> {
        let tell = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect)
            .map_err(|error| (false, tell(chain, &error)))?;
        let Some(leaf) = certificates.first() else {
            return Err((false, format!("{} holds no certificate", chain.display())));
        };
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| (false, tell(chain, &error)))?;
        let names = names(&parsed);
        let is_for_an_address = parsed.subject_alternative_name().ok().flatten().is_some_and(|extension| {
            extension.value.general_names.iter().any(|name| matches!(name, GeneralName::IPAddress(_)))
        });
        let name = names.first().cloned().unwrap_or_else(|| parsed.subject().to_string());
        let not_before_unix = parsed.validity().not_before.timestamp();
        let not_after_unix = parsed.validity().not_after.timestamp();
        // The text of a key's error never holds the key: it comes from the parser's own words.
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| (true, tell(key, &error)))?;
        let certified = CertifiedKey::from_der(certificates, private, &aws_lc_rs::default_provider())
            .map_err(|error| (true, format!("{} does not fit {}: {error}", key.display(), chain.display())))?;
        Ok(Certificate {
            name,
            not_before_unix,
            not_after_unix,
            names,
            is_for_an_address,
            certified: Arc::new(certified),
        })
    }
}

impl Certificate {
    /// Whether it is for this name, wildcards aside.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The DNS names of a certificate, in lower case.
fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let alternative = parsed.subject_alternative_name().ok().flatten();
    alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Chooses by name.
#[derive(Debug)]
pub(super) struct Chooser {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    without_name: Option<Arc<CertifiedKey>>,
    fallback: Option<Arc<CertifiedKey>>,
    challenges: Arc<Challenges>,
}

impl Chooser {
    /// Of several certificates for one name the first counts.
    #[must_use]
    pub(super) fn new(
        certificates: &[Arc<Certificate>],
        refuses_unknown: bool,
        challenges: Arc<Challenges>,
    ) -> Chooser {
        let fallback =
            certificates.first().filter(|_| !refuses_unknown).map(|certificate| Arc::clone(&certificate.certified));
        let for_address = certificates.iter().find(|certificate| certificate.is_for_an_address);
        let without_name =
            for_address.map(|certificate| Arc::clone(&certificate.certified)).or_else(|| fallback.clone());
        let mut by_name = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&certificate.certified));
            }
        }
        Chooser { by_name, without_name, fallback, challenges }
    }

    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else { return self.without_name.clone() };
        // rustls gives the name in the case that the client wrote.
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        };
        self.by_name.get(&name).or_else(wildcard).or(self.fallback.as_ref()).cloned()
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == acme::PROTOCOL)) {
            return hello.server_name().and_then(|name| self.challenges.find(name));
        }
        self.choose(hello.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Arc<Certificate> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("names are valid");
        let folder = portcullis_testkit::gate::Folder::new();
        let (chain, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&chain, made.cert.pem()).expect("writable");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("writable");
        Arc::new(Certificate::read(&chain, &key).expect("it is a certificate with its key"))
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_an_unknown_one_is_refused() {
        let (exact, wild) = (certificate(&["a.example.com"]), certificate(&["*.example.com", "127.0.0.1"]));
        let chooser = Chooser::new(&[Arc::clone(&wild), Arc::clone(&exact)], true, Arc::default());
        let is = |name: Option<&str>, expected: Option<&Arc<Certificate>>| {
            let chosen = chooser.choose(name);
            let same = match (&chosen, expected) {
                (Some(chosen), Some(expected)) => Arc::ptr_eq(chosen, &expected.certified),
                (None, None) => true,
                _ => false,
            };
            assert!(same, "{name:?}");
        };
        is(Some("a.example.com"), Some(&exact));
        is(Some("A.Example.COM."), Some(&exact));
        is(Some("b.example.com"), Some(&wild));
        is(Some("x.b.example.com"), None);
        is(Some("example.com"), None);
        is(Some("evil.test"), None);
        is(None, Some(&wild));
    }

    #[test]
    fn first_takes_every_name() {
        let only = certificate(&["a.test"]);
        let chooser = Chooser::new(&[Arc::clone(&only)], false, Arc::default());
        assert!(chooser.choose(Some("b.test")).is_some());
        assert!(chooser.choose(None).is_some());
        let strict = Chooser::new(&[only], true, Arc::default());
        assert!(strict.choose(None).is_none(), "a certificate without an address is not for clients without a name");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, two) = (
            rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("valid"),
            rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("valid"),
        );
        let folder = portcullis_testkit::gate::Folder::new();
        let (chain, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&chain, one.cert.pem()).expect("writable");
        std::fs::write(&key, two.signing_key.serialize_pem()).expect("writable");
        let (is_key, message) = Certificate::read(&chain, &key).expect_err("they do not fit");
        assert!(is_key && message.contains("does not fit"), "{message}");
    }
}
