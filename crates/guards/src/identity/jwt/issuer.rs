//! One issuer as it runs: its rules and the keys that are its own at the moment.
//!
//! An issuer whose config did not change outlives a reload, so what was verified stays remembered; its keys are replaced
//! as a whole, and a key that is in the new set too stays the same object.
//!
//! Invariant: a key that left the set is retired before anybody can find the new set without it.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::config::{Algorithm, IssuerConfig, Rules};
use super::keys::Key;
use super::remote::Remote;

/// Most keys that are tried where a token does not say which: each may cost a verification.
const MOST_TRIED: usize = 4;

/// One issuer.
pub(crate) struct Issuer {
    pub(crate) config: IssuerConfig,
    pub(crate) rules: Rules,
    keys: ArcSwap<Vec<Arc<Key>>>,
    /// Where its keys come from, if not from the config.
    pub(super) remote: Option<Arc<Remote>>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("issuer", &self.rules.issuer).finish_non_exhaustive()
    }
}

/// What looking for the signer of a token found.
pub(super) enum Signer {
    /// This key has signed it.
    Found(Arc<Key>),
    /// None of the keys that it could be has.
    Forged,
    /// The issuer has no such key, as far as is known here.
    Unknown,
}

impl Issuer {
    /// An issuer without keys; [`Issuer::adopt`] gives it some.
    pub(crate) fn new(config: IssuerConfig, rules: Rules, remote: Option<Remote>) -> Issuer {
        Issuer { config, rules, keys: ArcSwap::default(), remote: remote.map(Arc::new) }
    }

    /// From now on these are its keys.
    pub(crate) fn adopt(&self, keys: Vec<Arc<Key>>) {
        let old = self.keys.load_full();
        let keys = keys.into_iter().map(|new| old.iter().find(|key| key.is_same(&new)).map_or(new, Arc::clone));
        let keys: Vec<Arc<Key>> = keys.collect();
        for key in old.iter().filter(|key| !keys.iter().any(|kept| Arc::ptr_eq(kept, key))) {
            key.retire();
        }
        self.keys.store(Arc::new(keys));
    }

    /// Looks for the key that has signed `message`.
    pub(super) fn signer(&self, kid: Option<&str>, algorithm: Algorithm, message: &str, signature: &str) -> Signer {
        let keys = self.keys.load();
        let mut suitable = keys.iter().filter(|key| key.may_have_signed(kid, algorithm)).take(MOST_TRIED).peekable();
        if suitable.peek().is_none() {
            return Signer::Unknown;
        }
        match suitable.find(|key| key.has_signed(message, signature, algorithm)) {
            Some(key) => Signer::Found(Arc::clone(key)),
            None => Signer::Forged,
        }
    }
}
