//! One upstream in its compiled form: where it is, how long it may take, how often it is asked, who looks after it.
//!
//! Made from config; an upstream whose config and files did not change keeps its identity over a reload, and with it its
//! connections, its retry budget and what is known of its targets.
//!
//! Invariant: `id` is never used for two different configs in one process.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use portcullis_core::metric::Registry;
use portcullis_guards::breaker::Verdict;

use super::dial::tls::{Tls, server_name};
use super::retry::{Budget, Retry};
use super::targets::Target;
use super::targets::balance::Candidate;
use super::targets::metrics::{TargetMeter, UpstreamMeter};
use super::targets::outlier::{Records, Rules};
use crate::config::upstream::care::{DnsRules, HealthRules};
use crate::config::upstream::place::{Balance, Place, Protocol};
use crate::config::upstream::tls::TlsConfig;
use crate::config::upstream::{Fields, UpstreamConfig};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One upstream.
pub struct Upstream {
    /// Names its pool on every core.
    pub id: u64,
    /// Its name in the config.
    pub name: Arc<str>,
    /// Where it is; never empty.
    pub targets: Box<[Arc<Target>]>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// Whether HTTP/2 is spoken with it.
    pub is_http2: bool,
    /// How it proves who it is; `None` for plain http.
    pub tls: Option<Tls>,
    /// What its targets are asked.
    pub health: Option<HealthRules>,
    /// When its names are looked up.
    pub dns: DnsRules,
    /// Whether `Host` is the target's own.
    pub has_own_host: bool,
    /// Fields that replace the client's.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Time for a new connection.
    pub connect: Duration,
    /// Time from the sent request to the response head.
    pub first_byte: Duration,
    /// Time for everything, retries included, if it is shorter than the route's.
    pub total: Option<Duration>,
    /// Whether and when it is asked again.
    pub retry: Retry,
    /// Most connections on one core.
    pub connections: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub streams: usize,
    /// How long a connection may rest.
    pub idle: Duration,
    /// What is counted about it.
    pub meter: UpstreamMeter,
    outlier: Rules,
    records: Mutex<Records>,
    config: UpstreamConfig,
}

/// A config that was checked, with its files read.
pub struct Prepared {
    places: Vec<Place>,
    fields: Fields,
    tls: Option<Tls>,
    health: Option<HealthRules>,
    outlier: Rules,
    dns: DnsRules,
}

/// Each key with what is wrong with it.
pub type Wrong = Vec<(String, String)>;

/// Checks everything that one upstream's config says and reads the files it names, below `folder` where relative.
///
/// # Errors
/// Every mistake, all at once.
pub fn prepare(config: &UpstreamConfig, folder: &Path) -> Result<Prepared, Wrong> {
    let mut wrong = Wrong::new();
    let mut below = |section: &str, found: Wrong| {
        wrong.extend(found.into_iter().map(|(key, message)| (join(section, &key), message)));
    };
    let places = config.places().map_err(|found| below("", found)).ok();
    let fields = config.fields().map_err(|found| below("request_headers", found)).ok();
    let health = config.health_check.as_ref().map(|check| check.rules().map_err(|found| below("health_check", found)));
    let outlier = config.outlier_ejection.rules().map_err(|found| below("outlier_ejection", found)).ok();
    let dns = config.dns.rules().map_err(|found| below("dns", found)).ok();
    let tls = places.as_deref().map(|places| secure(config, places, folder).map_err(|found| below("tls", vec![found])));
    match (places, fields, tls, outlier, dns) {
        (Some(places), Some(fields), Some(Ok(tls)), Some(outlier), Some(dns)) if wrong.is_empty() => {
            Ok(Prepared { places, fields, tls, health: health.and_then(Result::ok), outlier, dns })
        }
        _ => Err(wrong),
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() || key.is_empty() { format!("{section}{key}") } else { format!("{section}.{key}") }
}

fn secure(config: &UpstreamConfig, places: &[Place], folder: &Path) -> Result<Option<Tls>, (String, String)> {
    let own = |(key, message): (&str, String)| (key.to_owned(), message);
    let is_tls = places.iter().any(|place| place.is_tls);
    match &config.tls {
        Some(tls) if tls.required && !is_tls => {
            let plain = places.first().map(Place::label).unwrap_or_default();
            Err(own(("required", format!("{plain} is http; TLS is required, so it must be https"))))
        }
        Some(_) if !is_tls => Err(own(("", "has no effect on http; write https in the url".to_owned()))),
        _ if !is_tls => Ok(None),
        tls => {
            let tls = tls.clone().unwrap_or_default();
            for name in names(&tls, places) {
                server_name(name).map_err(|message| own(("server_name", message)))?;
            }
            Tls::load(&tls, folder, config.protocol == Some(Protocol::Http2)).map(Some).map_err(own)
        }
    }
}

fn names<'a>(tls: &'a TlsConfig, places: &'a [Place]) -> impl Iterator<Item = &'a str> {
    places.iter().map(|place| tls.server_name.as_deref().unwrap_or(&place.host))
}

impl Upstream {
    /// Compiles a config that was prepared.
    #[must_use]
    pub fn compile(name: &str, config: &UpstreamConfig, prepared: Prepared, metrics: &Registry) -> Upstream {
        let filled = config.filled();
        let Prepared { places, fields, tls, health, outlier, dns } = prepared;
        let asked_for = config.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let targets: Box<[Arc<Target>]> = places
            .into_iter()
            .enumerate()
            .map(|(index, place)| {
                // A name that came out of a URI can stand in a header field, and `prepare` has tried the server's name.
                let own_host = HeaderValue::from_str(&place.authority()).unwrap_or(HeaderValue::from_static(""));
                let name_of_server = asked_for.unwrap_or(&place.host);
                let server_name = place.is_tls.then(|| server_name(name_of_server).ok()).flatten();
                let meter = TargetMeter::new(metrics, name, &place.label());
                Arc::new(Target::new(index, place, own_host, server_name, meter))
            })
            .collect();
        Upstream {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: Arc::from(name),
            balance: config.balance.unwrap_or_default(),
            is_http2: config.protocol == Some(Protocol::Http2),
            tls,
            health,
            dns,
            has_own_host: filled.own_host,
            fields,
            connect: filled.connect,
            first_byte: filled.first_byte,
            total: filled.total,
            retry: Retry {
                attempts: filled.attempts,
                first_backoff: filled.backoff,
                budget: Budget::new(filled.budget),
            },
            connections: filled.connections,
            streams: filled.streams,
            idle: filled.idle,
            meter: UpstreamMeter::new(metrics, name),
            outlier,
            records: Mutex::new(Records::new(outlier, targets.len())),
            targets,
            config: config.clone(),
        }
    }

    /// Whether this was compiled from `config`, and from files that still say the same.
    #[must_use]
    pub fn is_made_from(&self, config: &UpstreamConfig, prepared: &Prepared) -> bool {
        let fingerprint = |tls: &Option<Tls>| tls.as_ref().map(|tls| tls.fingerprint);
        self.config == *config && fingerprint(&self.tls) == fingerprint(&prepared.tls)
    }

    /// Whether certificates are believed without looking.
    #[must_use]
    pub fn is_credulous(&self) -> bool {
        self.config.tls.as_ref().is_some_and(|tls| tls.dangerous_skip_verification)
    }

    /// The verdict of one attempt at `target`. Changes nothing where there is only one target.
    pub fn judge(&self, target: usize, verdict: Verdict, now_nanos: impl FnOnce() -> u64) {
        if self.targets.len() < 2 || self.outlier.failures == 0 {
            return;
        }
        let target = &self.targets[target];
        match verdict {
            Verdict::Success | Verdict::Answered => target.succeeded(),
            Verdict::Neutral => {}
            Verdict::Failure(_) => {
                if target.failed() >= self.outlier.failures && self.records().eject(target.index, now_nanos()) {
                    target.set_ejected(true);
                    target.meter.ejections.inc();
                }
            }
        }
    }

    /// Ends ejections whose time is up.
    pub fn release(&self, now_nanos: u64) {
        self.records().release(now_nanos, |index| {
            let target = &self.targets[index];
            target.succeeded();
            target.set_ejected(false);
        });
    }

    /// How much longer `target` is left alone.
    #[must_use]
    pub fn ejected_for_nanos(&self, target: usize, now_nanos: u64) -> Option<u64> {
        self.records().left_nanos(target, now_nanos)
    }

    /// Whether another target than `index` is well.
    #[must_use]
    pub fn has_another(&self, index: usize) -> bool {
        self.targets.iter().any(|target| target.index != index && target.is_good())
    }

    /// Whether every target is bad, so that all are used.
    #[must_use]
    pub fn is_panicking(&self) -> bool {
        self.targets.iter().all(|target| !target.is_good())
    }

    /// The records are whole after every change, so a panic elsewhere cannot have broken them.
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::fault::{ErrorType, Fault};

    use super::*;

    const FAILED: Verdict = Verdict::Failure(ErrorType::NetworkError);

    fn upstream(config: &str) -> Upstream {
        let config: UpstreamConfig = serde_json::from_str(config).expect("valid");
        let prepared = prepare(&config, Path::new("")).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        Upstream::compile("app", &config, prepared, &Registry::new("p"))
    }

    #[test]
    fn a_run_of_failures_ejects_and_anything_that_was_answered_ends_the_run() {
        let two = r#"{ "targets": [{ "url": "http://a" }, { "url": "http://b" }] }"#;
        for (verdicts, is_ejected) in [
            (&[FAILED, FAILED, FAILED][..], true),
            (&[FAILED, FAILED, Verdict::Success, FAILED, FAILED], false),
            (&[FAILED, FAILED, Verdict::Answered, FAILED], false),
            (&[FAILED, FAILED, Verdict::Neutral, FAILED], true),
        ] {
            let upstream = upstream(two);
            verdicts.iter().for_each(|verdict| upstream.judge(0, *verdict, || 1));
            assert_eq!(upstream.targets[0].is_ejected(), is_ejected, "{verdicts:?}");
            assert!(!upstream.targets[1].is_ejected() && !upstream.is_panicking());
            assert_eq!(upstream.has_another(1), !is_ejected);
        }
    }

    #[test]
    fn an_ejection_ends_with_a_clean_slate() {
        let upstream = upstream(r#"{ "targets": [{ "url": "http://a" }, { "url": "http://b" }] }"#);
        (0..5).for_each(|_| upstream.judge(0, FAILED, || 0));
        upstream.release(9_999_999_999);
        assert!(upstream.targets[0].is_ejected());
        upstream.release(10_000_000_000);
        assert!(!upstream.targets[0].is_ejected());
        upstream.judge(0, FAILED, || 10_000_000_001);
        assert!(!upstream.targets[0].is_ejected(), "one more failure is not three");
    }

    #[test]
    fn a_single_target_is_never_left_alone() {
        let upstream = upstream(r#"{ "url": "http://a" }"#);
        (0..100).for_each(|_| upstream.judge(0, Verdict::of_fault(Fault::Connect), || 1));
        assert!(!upstream.targets[0].is_ejected());
    }

    #[test]
    fn every_mistake_is_told_with_its_key() {
        let config: UpstreamConfig = serde_json::from_str(
            r#"{ "url": "http://a/path", "request_headers": { "b d": "x" }, "health_check": { "path": "x" },
                 "dns": { "refresh": "1ms" }, "outlier_ejection": { "most_percent": 101 } }"#,
        )
        .expect("valid");
        let Err(wrong) = prepare(&config, Path::new("")) else { panic!("five mistakes") };
        let mut keys: Vec<&str> = wrong.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["dns.refresh", "health_check.path", "outlier_ejection.most_percent", "request_headers.b d", "url"]
        );
    }
}
