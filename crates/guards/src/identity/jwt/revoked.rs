//! Tokens that were withdrawn before they expired: by issuer and `jti`, or everything of a user that was issued before a moment.
//!
//! Never by the text of a token or its hash: the same claims can be signed again, and some signatures can be written in two
//! ways (CVE-2026-65632, CVE-2026-62995). A record is kept until no token that it is about can be valid any more, so the
//! table empties itself; it is bounded, and where it is full nothing is silently left out: the one who revokes is told.
//!
//! The table is this process's. A durable store, or another instance, plugs in at [`Revocations::list`] and
//! [`Revocations::add`]: records carry their own end, and adding one twice changes nothing.
//!
//! Invariant: a revocation that was answered holds for every request that begins afterwards, remembered tokens included.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use portcullis_core::identity::{ISSUER_BYTES, Identity, USER_BYTES, WORD_BYTES};

/// Most records.
pub(super) const MOST_REVOCATIONS: usize = 100_000;

/// What is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// One token, by its `jti`.
    Token(String),
    /// Everything of a user, as the access log names it.
    User(String),
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The issuer of the tokens.
    pub issuer: String,
    /// Which of them.
    pub subject: Subject,
    /// With [`Subject::User`]: tokens issued in or before this second, and those that do not say when.
    pub issued_until: u64,
    /// From this second on no such token can be valid, and the record is dropped.
    pub expires: u64,
}

/// Why nothing was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRevoked {
    /// No room.
    #[error("{MOST_REVOCATIONS} revocations hold already")]
    Full,
    /// Empty or too long, or over already.
    #[error("issuer, token id or user is empty or too long, or no such token can be valid any more")]
    Wrong,
}

/// All records that hold.
#[derive(Debug, Default)]
pub struct Revocations {
    records: RwLock<HashMap<(Subject, String), Revocation>>,
    /// How many there are, so that requests take no lock where there are none.
    count: AtomicUsize,
    /// In front of the lock: a bit for each record that ever was, by its hash.
    hasher: RandomState,
    filter: Filter,
}

/// 2^16 bits; while there were few records, most requests are told "no" without a lock. Bits are never taken back: between
/// taking one back and setting it for another record, a request could pass that must not.
#[derive(Debug)]
struct Filter(Box<[AtomicUsize]>);

const FILTER_WORDS: usize = 1024;

impl Default for Filter {
    fn default() -> Filter {
        Filter((0..FILTER_WORDS).map(|_| AtomicUsize::new(0)).collect())
    }
}

impl Filter {
    fn place(hash: u64) -> (usize, usize) {
        ((hash >> 6) as usize % FILTER_WORDS, 1 << (hash & 63))
    }

    fn set(&self, hash: u64) {
        let (word, bit) = Filter::place(hash);
        self.0[word].fetch_or(bit, Ordering::Release);
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = Filter::place(hash);
        self.0[word].load(Ordering::Acquire) & bit != 0
    }
}

impl Revocations {
    /// Whether this token was withdrawn. `issued` is its `iat`.
    #[inline]
    pub(super) fn holds(&self, identity: &Identity, issued: Option<u64>) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        self.is_listed(identity, issued)
    }

    fn is_listed(&self, identity: &Identity, issued: Option<u64>) -> bool {
        let issuer = identity.issuer();
        let of_user = self.hash(1, issuer, identity.user());
        let of_token = identity.credential().map(|id| self.hash(0, issuer, id));
        if !self.filter.has(of_user) && !of_token.is_some_and(|hash| self.filter.has(hash)) {
            return false;
        }
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let find = |subject: Subject| records.get(&(subject, issuer.to_owned()));
        let by_id = identity.credential().and_then(|id| find(Subject::Token(id.to_owned())));
        let by_user = find(Subject::User(identity.user().to_owned()));
        // Who does not say when it was issued may have been before.
        by_id.is_some() || by_user.is_some_and(|record| issued.is_none_or(|issued| issued <= record.issued_until))
    }

    fn hash(&self, kind: u8, issuer: &str, text: &str) -> u64 {
        self.hasher.hash_one((kind, issuer, text))
    }

    /// Withdraws. A later one of the same subject takes the place of an earlier one where it reaches further.
    ///
    /// # Errors
    /// [`NotRevoked`]; then nothing changed.
    pub fn add(&self, revocation: Revocation, now: u64) -> Result<(), NotRevoked> {
        let (kind, text, most) = match &revocation.subject {
            Subject::Token(id) => (0, id, WORD_BYTES),
            Subject::User(user) => (1, user, USER_BYTES),
        };
        let fits = (1..=most).contains(&text.len()) && (1..=ISSUER_BYTES).contains(&revocation.issuer.len());
        if !fits || revocation.expires <= now {
            return Err(NotRevoked::Wrong);
        }
        let hash = self.hash(kind, &revocation.issuer, text);
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let key = (revocation.subject.clone(), revocation.issuer.clone());
        if !records.contains_key(&key) && records.len() >= MOST_REVOCATIONS {
            records.retain(|_, record| record.expires > now);
            if records.len() >= MOST_REVOCATIONS {
                return Err(NotRevoked::Full);
            }
        }
        let held = records.entry(key).or_insert_with(|| revocation.clone());
        held.issued_until = held.issued_until.max(revocation.issued_until);
        held.expires = held.expires.max(revocation.expires);
        self.filter.set(hash);
        self.count.store(records.len(), Ordering::Release);
        Ok(())
    }

    /// Drops what can be about no valid token any more. Called now and then.
    pub fn tick(&self, now: u64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.retain(|_, record| record.expires > now);
        self.count.store(records.len(), Ordering::Release);
    }

    /// Up to `most` records after one, in the order of issuer and subject.
    #[must_use]
    pub fn list(&self, after: Option<(&str, &Subject)>, most: usize, now: u64) -> Vec<Revocation> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let order = |record: &Revocation| (record.issuer.clone(), record.subject.clone());
        let mut found: Vec<&Revocation> = records
            .values()
            .filter(|record| record.expires > now)
            .filter(|record| {
                after.is_none_or(|(issuer, subject)| (record.issuer.as_str(), &record.subject) > (issuer, subject))
            })
            .collect();
        found.sort_by_key(|record| order(record));
        found.into_iter().take(most).cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
