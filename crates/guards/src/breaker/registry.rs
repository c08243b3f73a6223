//! The breakers of all upstreams, by name, across reloads.
//!
//! A request path owns the breakers it uses; the registry only knows them. So a reload that keeps an upstream's rules
//! finds its breaker, still held by the path that serves meanwhile, with everything it remembers; changed rules get a new
//! one; and an upstream that is gone takes its breaker along when the last request that uses it ends. A config that
//! turns out to be wrong elsewhere leaves nothing behind, because its breakers end with it.
//!
//! Invariant: the lock is taken on reload, on scrape and once a second, never on the way of a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use portcullis_core::metric::{Gauge, Registry};

use super::config::Rules;
use super::metrics::{Meter, STATE};
use super::state::{Breaker, Snapshot};

/// Every breaker that is in use.
pub struct Breakers {
    metrics: Arc<Registry>,
    known: Mutex<BTreeMap<Arc<str>, Known>>,
}

struct Known {
    /// Oldest first. More than one only while requests of an older config are on their way; the newest speaks.
    breakers: Vec<Weak<Breaker>>,
    gauge: Gauge,
}

impl Breakers {
    /// None yet.
    #[must_use]
    pub fn new(metrics: Arc<Registry>) -> Breakers {
        Breakers { metrics, known: Mutex::default() }
    }

    /// The breaker of `service` with these rules: the one in use, or a new one.
    pub fn get_or_add(&self, service: &str, rules: Rules) -> Arc<Breaker> {
        let mut known = self.lock();
        let entry = known
            .entry(Arc::from(service))
            .or_insert_with(|| Known { breakers: Vec::new(), gauge: self.metrics.gauge(&STATE, &[service]) });
        let in_use = entry.breakers.iter().filter_map(Weak::upgrade).find(|breaker| *breaker.rules() == rules);
        let breaker = in_use.unwrap_or_else(|| Arc::new(Breaker::new(rules, Meter::new(&self.metrics, service))));
        entry.breakers.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), &*breaker));
        entry.breakers.push(Arc::downgrade(&breaker));
        breaker
    }

    /// Brings what is shown up to `now_nanos`: a breaker whose time is up becomes half-open without traffic too, and the
    /// gauge shows the newest breaker of each upstream, or 0 where there is none any more. For each scrape, and once a
    /// second, so that nothing looks open for ever.
    pub fn refresh(&self, now_nanos: u64) {
        self.lock().retain(|_, known| {
            known.breakers.retain(|breaker| breaker.strong_count() > 0);
            let mut newest = None;
            for breaker in known.breakers.iter().filter_map(Weak::upgrade) {
                breaker.advance(now_nanos);
                newest = Some(breaker);
            }
            match newest {
                Some(breaker) => show(&known.gauge, &breaker, now_nanos),
                None => {
                    known.gauge.set(0);
                }
            }
            !known.breakers.is_empty()
        });
    }

    /// Where each breaker stands at `now_nanos`, by the upstream's name, in the order of names. Changes nothing.
    #[must_use]
    pub fn snapshot(&self, now_nanos: u64) -> Vec<(Arc<str>, Snapshot)> {
        let newest = |known: &Known| known.breakers.iter().rev().find_map(Weak::upgrade);
        let known = self.lock();
        let breakers = known.iter().filter_map(|(name, known)| Some((Arc::clone(name), newest(known)?)));
        breakers.map(|(name, breaker)| (name, breaker.snapshot(now_nanos))).collect()
    }

    /// The map is whole at every moment at which the lock can be given up, also by a panic.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the gauge to the breaker's state, which an observer may be doing at the same moment: what was set is only left
/// standing when the state is still the same afterwards. A later change then sets the gauge later.
fn show(gauge: &Gauge, breaker: &Breaker, now_nanos: u64) {
    let state = || breaker.snapshot(now_nanos).state;
    let mut shown = state();
    loop {
        gauge.set(i64::from(shown.gauge()));
        let by_now = state();
        if by_now == shown {
            return;
        }
        shown = by_now;
    }
}
