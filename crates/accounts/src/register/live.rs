//! Accounts, sessions and keys as they live in the process: the record, and what changes with every use as atomics.
//!
//! Invariant: whether a session or key holds is told from here alone, without a lock.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use portcullis_core::clock::{Now, nanos};
use portcullis_store::accounts::Account;
use portcullis_store::api_keys::ApiKey;
use portcullis_store::sessions::Session;

use super::Client;
use crate::config::{Binding, SessionRules};

/// A use is written down when the last one that was is this old.
const WRITE_USE_EVERY_MILLIS: u64 = 60_000;
/// So many requests from elsewhere, and alerts become refusals for as long again.
const MOST_ELSEWHERE: u32 = 10;
const ELSEWHERE_NANOS: u64 = 900_000_000_000;
const SHARDS: usize = 64;

/// Why a session or key does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody knows it.
    #[error("unknown")]
    Unknown,
    /// Its time is over, or it was ended.
    #[error("over")]
    Over,
    /// It is used from elsewhere, and that is not allowed.
    #[error("used from elsewhere")]
    Elsewhere,
}

/// An account, shared by its sessions and keys.
pub struct Owner {
    account: ArcSwap<Account>,
    elsewhere: AtomicU32,
    elsewhere_until_nanos: AtomicU64,
}

impl Owner {
    pub(super) fn new(account: Account) -> Owner {
        Owner {
            account: ArcSwap::from_pointee(account),
            elsewhere: AtomicU32::new(0),
            elsewhere_until_nanos: AtomicU64::new(0),
        }
    }

    /// The record as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<Account> {
        self.account.load_full()
    }

    pub(super) fn becomes(&self, account: Account) {
        self.account.store(Arc::new(account));
    }

    fn is_of_epoch(&self, epoch: u64) -> bool {
        let account = self.account.load();
        !account.is_disabled && account.epoch == epoch
    }

    /// Counts a request from elsewhere; whether there were too many.
    fn is_too_often_elsewhere(&self, now: &Now) -> bool {
        let now_nanos = now.monotonic_nanos;
        if self.elsewhere_until_nanos.load(Ordering::Relaxed) <= now_nanos {
            // Two at the same moment may both begin the window; one of them is then not counted, which is harmless.
            self.elsewhere.store(0, Ordering::Relaxed);
            self.elsewhere_until_nanos.store(now_nanos.saturating_add(ELSEWHERE_NANOS), Ordering::Relaxed);
        }
        let before = self.elsewhere.fetch_add(1, Ordering::Relaxed);
        if before == MOST_ELSEWHERE {
            self.elsewhere_until_nanos.store(now_nanos.saturating_add(ELSEWHERE_NANOS), Ordering::Relaxed);
        }
        if before > u32::MAX / 2 {
            self.elsewhere.store(MOST_ELSEWHERE + 1, Ordering::Relaxed);
        }
        before >= MOST_ELSEWHERE
    }
}

/// A session.
pub struct LiveSession {
    /// As it began.
    pub record: Session,
    /// Whose it is.
    pub owner: Arc<Owner>,
    network: Option<IpAddr>,
    until_nanos: u64,
    idle_until_nanos: AtomicU64,
    seen_unix_millis: AtomicU64,
    written_unix_millis: AtomicU64,
    was_elsewhere: AtomicBool,
    has_ended: AtomicBool,
}

impl LiveSession {
    /// One that begins.
    pub(super) fn new(record: Session, owner: Arc<Owner>, rules: &SessionRules, now: &Now) -> LiveSession {
        let (until, idle) = (now.after(rules.absolute), now.after(rules.idle));
        LiveSession::lasting(record, owner, until, idle)
    }

    /// One that is read back, if it is not over. Times of the wall clock that make no sense never lengthen it.
    pub(super) fn read(record: Session, owner: Arc<Owner>, rules: &SessionRules, now: &Now) -> Option<LiveSession> {
        let left_of_all = left(record.until_unix_millis, now.unix_millis).min(nanos(rules.absolute) / 1_000_000);
        let rested = now.unix_millis.saturating_sub(record.seen_unix_millis);
        let left_of_idle = (nanos(rules.idle) / 1_000_000).saturating_sub(rested);
        if left_of_all == 0 || left_of_idle == 0 {
            return None;
        }
        let at = |left: u64| now.monotonic_nanos.saturating_add(left.saturating_mul(1_000_000));
        Some(LiveSession::lasting(record, owner, at(left_of_all), at(left_of_idle)))
    }

    fn lasting(record: Session, owner: Arc<Owner>, until_nanos: u64, idle_until_nanos: u64) -> LiveSession {
        LiveSession {
            network: record.network.parse().ok(),
            until_nanos,
            idle_until_nanos: AtomicU64::new(idle_until_nanos),
            seen_unix_millis: AtomicU64::new(record.seen_unix_millis),
            written_unix_millis: AtomicU64::new(record.seen_unix_millis),
            was_elsewhere: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            owner,
            record,
        }
    }

    /// Whether it has ended, or its time is over, or its account ended all of its epoch.
    #[must_use]
    pub fn is_over(&self, now: &Now) -> bool {
        let now_nanos = now.monotonic_nanos;
        self.has_ended.load(Ordering::Acquire)
            || now_nanos >= self.until_nanos
            || now_nanos >= self.idle_until_nanos.load(Ordering::Relaxed)
            || !self.owner.is_of_epoch(self.record.epoch)
    }

    /// Uses it; whether that must be written down.
    pub(super) fn check(&self, client: &Client, rules: &SessionRules, now: &Now) -> Result<bool, Refused> {
        if self.is_over(now) {
            return Err(Refused::Over);
        }
        let is_elsewhere = |binding, is_same: bool| binding != Binding::Off && !is_same;
        let by_address = is_elsewhere(rules.address, self.network == Some(client.network));
        let by_fingerprint = is_elsewhere(rules.fingerprint, self.record.fingerprint == client.fingerprint);
        if by_address || by_fingerprint {
            self.was_elsewhere.store(true, Ordering::Relaxed);
            let is_strict = by_address && rules.address == Binding::Strict
                || by_fingerprint && rules.fingerprint == Binding::Strict;
            if self.owner.is_too_often_elsewhere(now) || is_strict {
                return Err(Refused::Elsewhere);
            }
        }
        self.idle_until_nanos.fetch_max(now.after(rules.idle), Ordering::Relaxed);
        self.seen_unix_millis.store(now.unix_millis, Ordering::Relaxed);
        Ok(is_due(&self.written_unix_millis, now))
    }

    /// Whether it was used from elsewhere since the process began.
    #[must_use]
    pub fn was_elsewhere(&self) -> bool {
        self.was_elsewhere.load(Ordering::Relaxed)
    }

    /// When it was last used, in milliseconds since 1970.
    #[must_use]
    pub fn seen_unix_millis(&self) -> u64 {
        self.seen_unix_millis.load(Ordering::Relaxed)
    }

    /// Seconds until it ends if it is not used.
    #[must_use]
    pub fn seconds_left(&self, now: &Now) -> u64 {
        let until = self.until_nanos.min(self.idle_until_nanos.load(Ordering::Relaxed));
        until.saturating_sub(now.monotonic_nanos) / 1_000_000_000
    }

    /// By what [`LiveSession`]s are put in the order in which they rested.
    pub(super) fn seen_nanos(&self) -> u64 {
        self.idle_until_nanos.load(Ordering::Relaxed)
    }

    /// The public name of it: enough to tell the sessions of one account apart, and of no use to anybody.
    #[must_use]
    pub fn short_id(&self) -> String {
        self.record.id.to_string()[..16].to_owned()
    }

    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// The record as it is written.
    pub(super) fn written(&self) -> Session {
        Session { seen_unix_millis: self.seen_unix_millis(), ..self.record.clone() }
    }
}

/// An API key.
pub struct LiveKey {
    /// As it was made.
    pub record: ApiKey,
    /// Whose it is.
    pub owner: Arc<Owner>,
    until_nanos: Option<u64>,
    /// 0: never.
    used_unix_millis: AtomicU64,
    written_unix_millis: AtomicU64,
    has_ended: AtomicBool,
}

impl LiveKey {
    pub(super) fn new(record: ApiKey, owner: Arc<Owner>, now: &Now) -> LiveKey {
        let until = record.until_unix_millis.map(|until| left(until, now.unix_millis).saturating_mul(1_000_000));
        let used = record.used_unix_millis.unwrap_or_default();
        LiveKey {
            until_nanos: until.map(|left| now.monotonic_nanos.saturating_add(left)),
            used_unix_millis: AtomicU64::new(used),
            written_unix_millis: AtomicU64::new(used),
            has_ended: AtomicBool::new(false),
            owner,
            record,
        }
    }

    /// Whether it was revoked, or its time is over, or its owner is disabled.
    #[must_use]
    pub fn is_over(&self, now: &Now) -> bool {
        self.until_nanos.is_some_and(|until| now.monotonic_nanos >= until)
            || self.has_ended.load(Ordering::Acquire)
            || self.owner.account.load().is_disabled
    }

    /// Uses it; whether that must be written down.
    pub(super) fn check(&self, now: &Now) -> Result<bool, Refused> {
        if self.is_over(now) {
            return Err(Refused::Over);
        }
        self.used_unix_millis.store(now.unix_millis, Ordering::Relaxed);
        Ok(is_due(&self.written_unix_millis, now))
    }

    /// When it was last used.
    #[must_use]
    pub fn used_unix_millis(&self) -> Option<u64> {
        Some(self.used_unix_millis.load(Ordering::Relaxed)).filter(|used| *used != 0)
    }

    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    pub(super) fn written(&self) -> ApiKey {
        ApiKey { used_unix_millis: self.used_unix_millis(), ..self.record.clone() }
    }
}

/// Whether a use must be written down, told to one of those who use at the same moment. Also after a step of the wall clock.
fn is_due(written_unix_millis: &AtomicU64, now: &Now) -> bool {
    let written = written_unix_millis.load(Ordering::Relaxed);
    written.abs_diff(now.unix_millis) >= WRITE_USE_EVERY_MILLIS
        && written_unix_millis.compare_exchange(written, now.unix_millis, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Milliseconds from `now` until `until`.
pub(super) fn left(until_unix_millis: u64, now_unix_millis: u64) -> u64 {
    until_unix_millis.saturating_sub(now_unix_millis)
}

/// A map in parts, so that cores seldom meet.
pub(super) struct Shards<K, V> {
    parts: [RwLock<HashMap<K, Arc<V>>>; SHARDS],
    seed: RandomState,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Shards<K, V> {
        Shards { parts: std::array::from_fn(|_| RwLock::default()), seed: RandomState::new() }
    }
}

impl<K: Hash + Eq, V> Shards<K, V> {
    fn part(&self, key: &K) -> &RwLock<HashMap<K, Arc<V>>> {
        &self.parts[self.seed.hash_one(key) as usize % SHARDS]
    }

    pub(super) fn find(&self, key: &K) -> Option<Arc<V>> {
        self.part(key).read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) fn insert(&self, key: K, value: Arc<V>) {
        self.part(&key).write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }

    pub(super) fn remove(&self, key: &K) {
        self.part(key).write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
