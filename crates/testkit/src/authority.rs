//! A certificate authority for tests: issues certificates for servers and clients, valid, expired or revoked.
//!
//! Invariant: nothing here is a fake; what it issues is checked by real TLS libraries.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

/// One day.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub pem: String,
}

/// A certificate and its key in files.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// What is issued.
pub struct Wanted<'a> {
    /// Common name of the subject.
    pub name: &'a str,
    /// Names and addresses it is for; none for a client.
    pub hosts: &'a [&'a str],
    /// In how many days it ends; a negative number: it has ended.
    pub days: i64,
    /// Serial number, to revoke it by.
    pub serial: u64,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).expect("it signs itself");
        Authority { issuer: Issuer::new(params, key), pem: certificate.pem() }
    }

    /// Issues a certificate into `folder`, as `{file}.crt` and `{file}.key`.
    ///
    /// # Panics
    /// When a name is not one, or the files cannot be written.
    #[must_use]
    pub fn issue(&self, folder: &Path, file: &str, wanted: &Wanted<'_>) -> Issued {
        let key = KeyPair::generate().expect("a key can be made");
        let hosts: Vec<String> = wanted.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names are valid");
        params.distinguished_name.push(DnType::CommonName, wanted.name);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let now = date_time_ymd(1970, 1, 1) + since_1970;
        let life = DAY * u32::try_from(wanted.days.unsigned_abs()).expect("a life of days");
        params.not_after = if wanted.days < 0 { now - life } else { now + life };
        params.not_before = params.not_after - life.max(DAY) - DAY;
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        let list = CrlDistributionPoint { uris: vec!["http://localhost/list.crl".to_owned()] };
        params.crl_distribution_points = vec![list];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        let issued =
            Issued { certificate: folder.join(format!("{file}.crt")), key: folder.join(format!("{file}.key")) };
        std::fs::write(&issued.certificate, certificate.pem()).expect("writable");
        std::fs::write(&issued.key, key.serialize_pem()).expect("writable");
        issued
    }

    /// Issues a server's certificate for `hosts`.
    #[must_use]
    pub fn server(&self, folder: &Path, file: &str, hosts: &[&str]) -> Issued {
        self.issue(folder, file, &Wanted { name: "server", hosts, days: 80, serial: 7 })
    }

    /// Issues a server's certificate for `hosts` that ends in so many days.
    #[must_use]
    pub fn server_for_days(&self, folder: &Path, file: &str, hosts: &[&str], days: i64) -> Issued {
        self.issue(folder, file, &Wanted { name: "server", hosts, days, serial: 8 })
    }

    /// A list that revokes these serial numbers, PEM.
    ///
    /// # Panics
    /// When it cannot be signed.
    #[must_use]
    pub fn revocations(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).expect("it is signed")
    }
}
