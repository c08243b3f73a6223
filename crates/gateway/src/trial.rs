//! What `validate --connect` tries: everything that a config leads to, without serving anything.
//!
//! Today: each target of each upstream (name, connection, TLS, how long its certificate is good, its health check), the
//! client certificates of upstreams, the certificates of listeners, and the durable store.
//!
//! Invariant: what was not tried by the end of the given time is told as a mistake, never left out.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::clock::Now;
use portcullis_guards::config::Mistake;
use portcullis_store::sql::{OpenError, inspect};
use tokio::sync::Semaphore;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::StorePlace;
use crate::proxy::dial::{self, Purpose};
use crate::proxy::minder::checks;
use crate::proxy::targets::Target;
use crate::proxy::upstream::Upstream;
use crate::running::Running;

/// Targets that are tried at once.
const AT_ONCE: usize = 32;
/// A certificate that ends sooner is worth a warning: the time that most authorities give for renewal.
const SOON_SECONDS: i64 = 30 * 86_400;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What would not work.
    pub mistakes: Vec<Mistake>,
    /// What works today.
    pub warnings: Vec<Mistake>,
}

/// Tries everything that `running` leads to, for at most `time`. Must run in a `LocalSet`.
pub async fn try_all(running: &Running, time: Duration, now: Now) -> Found {
    let mut found = Found::default();
    try_upstreams(running, time, now, &mut found).await;
    look_at_certificates(running, now, &mut found);
    try_store(running, time, &mut found).await;
    found
}

/// The durable store, where there is one. A running gateway that has it open has tried it already.
async fn try_store(running: &Running, time: Duration, found: &mut Found) {
    let Ok(StorePlace::Sqlite(path)) = running.config.store.place() else { return };
    let path = running.config.folder.join(path);
    let wrong = match tokio::time::timeout(time, inspect(&path)).await {
        Ok(Ok(()) | Err(OpenError::InUse(_))) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "could not be read in the time there was".to_owned(),
    };
    found.mistakes.push(Mistake::new("store.url", wrong));
}

async fn try_upstreams(running: &Running, time: Duration, now: Now, found: &mut Found) {
    let places = Rc::new(Semaphore::new(AT_ONCE));
    let mut upstreams: Vec<&Arc<Upstream>> = running.upstreams().collect();
    upstreams.sort_by(|one, other| one.name.cmp(&other.name));
    let mut trials = Vec::new();
    for upstream in upstreams {
        for target in &upstream.targets {
            let key = key(running, upstream, target);
            let (upstream, target, places) = (Arc::clone(upstream), Arc::clone(target), Rc::clone(&places));
            trials.push((
                key,
                tokio::task::spawn_local(async move {
                    // All begin at once, so the time of each is the time of all.
                    let trial = async {
                        // Never closed: it lives as long as the trials.
                        let _place = places.acquire().await;
                        try_target(&upstream, &target, now).await
                    };
                    let late = || Err("could not be tried in the time there was".to_owned());
                    tokio::time::timeout(time, trial).await.unwrap_or_else(|_| late())
                }),
            ));
        }
    }
    for (key, trial) in trials {
        match trial.await {
            Ok(Ok(warnings)) => found.warnings.extend(warnings.into_iter().map(|what| Mistake::new(key.clone(), what))),
            Ok(Err(what)) => found.mistakes.push(Mistake::new(key, what)),
            Err(_) => found.mistakes.push(Mistake::new(key, "could not be tried: a defect in this program")),
        }
    }
}

/// Where the config says it.
fn key(running: &Running, upstream: &Upstream, target: &Target) -> String {
    let has_list = running.config.upstreams.get(&*upstream.name).is_some_and(|config| !config.targets.is_empty());
    match has_list {
        true => format!("upstreams.{}.targets[{}].url", upstream.name, target.index),
        false => format!("upstreams.{}.url", upstream.name),
    }
}

/// What is worth a warning about a target that can be reached.
async fn try_target(upstream: &Upstream, target: &Target, now: Now) -> Result<Vec<String>, String> {
    if target.addresses.is_name {
        let looking = tokio::net::lookup_host((target.place.host.as_str(), target.place.port));
        let answer = tokio::time::timeout(upstream.connect, looking).await;
        let answer = answer.map_err(|_| format!("{}: no look-up within timeout.connect", target.label))?;
        let addresses = answer.map_err(|error| format!("{}: {error}", target.label))?;
        target.addresses.settle(addresses.collect());
    }
    let opened = dial::open(upstream, target, Purpose::Requests).await;
    let opened = opened.map_err(|error| format!("{}: {}", target.label, checks::told(&error)))?;
    let mut warnings = Vec::new();
    if let Some(ends) = opened.stream.certificate().and_then(ends) {
        warnings.extend(ends_soon(ends, now).map(|when| format!("{}: its certificate {when}", target.label)));
    }
    drop(opened);
    if let Some(rules) = &upstream.health {
        let heard = tokio::time::timeout(rules.timeout, checks::ask(upstream, target, rules)).await;
        let wrong = match heard {
            Ok(Ok(status)) if rules.is_good(status.as_u16()) => None,
            Ok(Ok(status)) => Some(format!("status {}", status.as_u16())),
            Ok(Err(why)) => Some(why),
            Err(_) => Some("no answer in time".to_owned()),
        };
        warnings.extend(wrong.map(|why| format!("{}: its health check fails: {why}", target.label)));
    }
    Ok(warnings)
}

fn look_at_certificates(running: &Running, now: Now, found: &mut Found) {
    for upstream in running.upstreams() {
        let own = upstream.tls.as_ref().and_then(|tls| tls.own_certificate.as_deref()).and_then(ends);
        let key = format!("upstreams.{}.tls.certificate", upstream.name);
        found
            .warnings
            .extend(own.and_then(|ends| ends_soon(ends, now)).map(|when| Mistake::new(key, format!("it {when}"))));
    }
    for (index, door) in running.doors.iter().enumerate() {
        for certificate in &door.certificates {
            let when = ends_soon(certificate.not_after_unix, now);
            let told = |when| Mistake::new(format!("listen[{index}].tls"), format!("{} {when}", certificate.name));
            found.warnings.extend(when.map(told));
        }
    }
}

/// When a certificate ends, in seconds since 1970.
fn ends(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// A warning about a certificate that ends at `ends`, if it is due.
fn ends_soon(ends: i64, now: Now) -> Option<String> {
    let left = ends - i64::try_from(now.unix_millis / 1000).unwrap_or(i64::MAX);
    match left {
        ..0 => Some("has ended".to_owned()),
        0..SOON_SECONDS => Some(format!("ends in {} day(s)", left / 86_400)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_worth_a_warning_thirty_days_before_its_end() {
        let now = Now { monotonic_nanos: 0, unix_millis: 1_000_000_000 };
        let after = |days: i64| 1_000_000 + days * 86_400;
        for (days, expected) in [(-1, Some("has ended")), (3, Some("ends in 3 day(s)")), (31, None)] {
            assert_eq!(ends_soon(after(days), now).as_deref(), expected, "{days}");
        }
    }
}
