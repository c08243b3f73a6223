//! Certificates that are obtained and renewed by themselves (ACME, RFC 8555).
//!
//! Runs on the calling thread. A certificate that was obtained is written beside its key; the config watch sees the new file
//! and reloads, as it does for a certificate that a person replaces. The protocol is instant-acme's (`order`).
//!
//! Invariant: a certificate that works is never given up for one that has not been issued; attempts are bounded in time and
//! in number (they back off to one an hour).

mod order;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use portcullis_core::clock::Clock;
use portcullis_core::metric::{Declaration, Kind, Label, Values};
use rustls::sign::CertifiedKey;

use crate::config::Config;
use crate::config::listen::AcmeConfig;
use crate::life::Gate;
use crate::listen::certificates::Certificate;

/// What a client that only checks a name says it speaks (RFC 8737, section 4).
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Longest time for one attempt.
const ATTEMPT: Duration = Duration::from_secs(120);
/// After a failed attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Orders of certificates.
pub static ACME_ORDERS: Declaration = Declaration {
    name: "acme_orders_total",
    kind: Kind::Counter,
    help: "Attempts to obtain or renew a certificate by ACME",
    labels: &[Label { name: "result", values: Values::Closed(&["issued", "failed"]) }],
};

/// The certificates by which the gateway shows that a name is its own, while an order is open.
#[derive(Debug, Default)]
pub struct Challenges {
    by_name: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Challenges {
    /// The one for this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.lock().get(&name.to_ascii_lowercase()).cloned()
    }

    fn add(&self, name: &str, shown: Arc<CertifiedKey>) {
        self.lock().insert(name.to_ascii_lowercase(), shown);
    }

    fn remove(&self, name: &str) {
        self.lock().remove(&name.to_ascii_lowercase());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<CertifiedKey>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the next attempt may be made for one certificate.
#[derive(Default)]
struct Pause {
    until_nanos: u64,
    failures: u32,
}

/// Obtains and renews for as long as the gateway runs.
pub async fn keep(gate: Arc<Gate>) {
    let of = |result| gate.ground.metrics.counter(&ACME_ORDERS, &[result]);
    let (issued, failed) = (of("issued"), of("failed"));
    let mut pauses: HashMap<PathBuf, Pause> = HashMap::new();
    loop {
        let running = gate.running();
        for acme in configured(&running.config) {
            let [certificate, key] = acme.files().map(|file| running.config.folder.join(file));
            let now = gate.clock.now();
            let pause = pauses.entry(certificate.clone()).or_default();
            if now.monotonic_nanos < pause.until_nanos || !is_due(acme, &certificate, &key, now.unix_millis) {
                continue;
            }
            let order = order::place(acme, &running.config.folder, &running.challenges);
            let result = match tokio::time::timeout(ATTEMPT, order).await {
                Ok(result) => result.and_then(|issued| write(&certificate, &key, &issued)),
                Err(_) => Err(anyhow::anyhow!("it took more than {} s", ATTEMPT.as_secs())),
            };
            let names = acme.names.join(" ");
            match result {
                Ok(()) => {
                    issued.inc();
                    *pause = Pause::default();
                    gate.log.event("info", "certificate_issued", &[("names", &names)]);
                }
                Err(error) => {
                    failed.inc();
                    let wait = FIRST_PAUSE.saturating_mul(1 << pause.failures.min(16)).min(LONGEST_PAUSE);
                    pause.failures += 1;
                    pause.until_nanos = gate.clock.now().after(wait);
                    let (why, wait) = (format!("{error:#}"), wait.as_secs().to_string());
                    let fields = [("names", &*names), ("error", &*why), ("again_in_s", &*wait)];
                    gate.log.event("error", "certificate_not_issued", &fields);
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn configured(config: &Config) -> impl Iterator<Item = &AcmeConfig> {
    config.listen.iter().filter_map(|listen| listen.tls.as_ref()?.acme.as_ref())
}

/// Whether there is no usable certificate, it lacks a name, or the last third of its life has begun.
fn is_due(acme: &AcmeConfig, certificate: &Path, key: &Path, unix_millis: u64) -> bool {
    let Ok(present) = Certificate::read(certificate, key) else { return true };
    let now = i64::try_from(unix_millis / 1000).unwrap_or(i64::MAX);
    let life = present.not_after_unix.saturating_sub(present.not_before_unix);
    !acme.names.iter().all(|name| present.is_for(name)) || now >= present.not_after_unix.saturating_sub(life / 3)
}

/// What an order brought, PEM.
struct Issued {
    chain: String,
    key: String,
}

/// Puts both files in place. The key goes first, in a name of its own until the certificate is there: a reload between the
/// two finds a pair that does not fit, is refused, and succeeds a second later.
fn write(certificate: &Path, key: &Path, issued: &Issued) -> anyhow::Result<()> {
    replace(key, &issued.key)?;
    replace(certificate, &issued.chain)
}

/// Writes a file that only its owner may read, whole or not at all.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let folder = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use portcullis_testkit::authority::{Authority, Wanted};
    use portcullis_testkit::gate::Folder;

    use super::*;

    #[test]
    fn what_is_absent_lacks_a_name_or_is_in_its_last_third_is_due() {
        let folder = Folder::new();
        let acme = |names: &[&str]| AcmeConfig {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            folder: folder.path().to_owned(),
            agree_to_terms: true,
            directory: None,
            contact: Vec::new(),
            ca: None,
        };
        let one = acme(&["a.test"]);
        let [certificate, key] = one.files();
        let is_due = |acme: &AcmeConfig, unix_seconds: i64| {
            super::is_due(acme, &certificate, &key, u64::try_from(unix_seconds).expect("after 1970") * 1000)
        };
        assert!(is_due(&one, 0), "there is none");
        let wanted = Wanted { name: "a", hosts: &["a.test"], days: 80, serial: 1 };
        let issued = Authority::new("test").issue(folder.path(), "a.test", &wanted);
        assert_eq!(issued.certificate, certificate);
        let present = Certificate::read(&certificate, &key).expect("it was issued");
        let life = present.not_after_unix - present.not_before_unix;
        assert!(!is_due(&one, present.not_before_unix + life / 2));
        assert!(is_due(&one, present.not_after_unix - life / 3 + 1));
        assert!(is_due(&acme(&["a.test", "b.test"]), present.not_before_unix), "it lacks a name");
    }

    #[test]
    fn half_a_file_is_never_in_place() {
        let folder = Folder::new();
        let path = folder.path().join("deep/er/a.key");
        replace(&path, "one").expect("writable");
        replace(&path, "two").expect("writable");
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "two");
        assert!(!path.with_extension("new").exists());
    }
}
