//! One target of an upstream: where it is, what is known against it, how busy it is.
//!
//! `balance` chooses among targets, `outlier` and `health` decide (pure) what is held against one, `addresses` is what its
//! name leads to, `metrics` what is counted.
//!
//! Invariant: what cores read on the way of a request is atomic; the lock of `outlier` is taken only after failures.

pub mod addresses;
pub mod balance;
pub mod health;
pub mod metrics;
pub mod outlier;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use rustls_pki_types::ServerName;

use self::addresses::Addresses;
use self::balance::Candidate;
use self::metrics::TargetMeter;
use crate::config::upstream::place::Place;

/// It does not pass its health checks.
const UNHEALTHY: u8 = 1;
/// It is left alone for failing again and again.
const EJECTED: u8 = 2;

/// One target.
pub struct Target {
    /// Its place in the list of its upstream.
    pub index: usize,
    /// `host:port`, for people and metrics.
    pub label: Arc<str>,
    /// Where it is, as configured.
    pub place: Place,
    /// What `Host` says when the upstream is to see its own name, and in health checks.
    pub own_host: HeaderValue,
    /// Who it must prove to be; `None` for plain http.
    pub server_name: Option<ServerName<'static>>,
    /// Where its name leads.
    pub addresses: Addresses,
    /// What is counted about it.
    pub meter: TargetMeter,
    standing: AtomicU8,
    failures: AtomicU32,
    in_flight: AtomicUsize,
    trouble: Mutex<Option<(&'static str, String)>>,
    last_check: Mutex<String>,
}

impl Target {
    /// A target against which nothing is known.
    #[must_use]
    pub fn new(
        index: usize,
        place: Place,
        own_host: HeaderValue,
        server_name: Option<ServerName<'static>>,
        meter: TargetMeter,
    ) -> Target {
        let addresses = Addresses::of(&place.host, place.port);
        meter.addresses.set(i64::from(!addresses.is_name));
        Target {
            index,
            label: Arc::from(place.label()),
            own_host,
            server_name,
            addresses,
            meter,
            standing: AtomicU8::new(0),
            failures: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            trouble: Mutex::new(None),
            last_check: Mutex::default(),
            place,
        }
    }

    /// What health checks say.
    pub fn set_healthy(&self, is_healthy: bool) {
        self.set(UNHEALTHY, !is_healthy);
    }

    /// Whether it is left alone.
    pub fn set_ejected(&self, is_ejected: bool) {
        self.set(EJECTED, is_ejected);
    }

    fn set(&self, what: u8, is_so: bool) {
        if is_so {
            self.standing.fetch_or(what, Ordering::Relaxed);
        } else {
            self.standing.fetch_and(!what, Ordering::Relaxed);
        }
    }

    /// Whether it passes its health checks, as far as anybody asked.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.standing.load(Ordering::Relaxed) & UNHEALTHY == 0
    }

    /// Whether it is left alone.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.standing.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// One failure more. How many that makes in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// A success, or a fresh start. Writes only after a failure.
    pub(super) fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A request more that is in flight.
    pub(super) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request less.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes what the last health check heard.
    pub fn note_check(&self, heard: String) {
        *self.last_check.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }

    /// What the last health check heard; empty when nobody asked.
    #[must_use]
    pub fn last_check(&self) -> String {
        self.last_check.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes something for the log that happened where nobody can log: the event, and why. The newest is kept.
    pub fn note_trouble(&self, event: &'static str, why: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some((event, why));
    }

    /// Takes what was noted.
    pub fn take_trouble(&self) -> Option<(&'static str, String)> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Candidate for Arc<Target> {
    fn weight(&self) -> u32 {
        self.place.weight
    }

    fn is_good(&self) -> bool {
        self.standing.load(Ordering::Relaxed) == 0
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}
