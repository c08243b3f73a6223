//! Tokens that were verified, so that the next request with the same one costs a hash instead of a signature.
//!
//! The key is an HMAC-SHA256 of the whole token under a key of this process: the token itself is not kept, and nobody can
//! look for two tokens that meet. What is remembered is bounded in bytes; who evicts whom is the library's choice (S3-FIFO),
//! and what was evicted is verified anew.
//!
//! Invariant: a hit is no permission. Whoever finds a token here still checks its times, its key, its issuer and whether it
//! was revoked.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use aws_lc_rs::hmac;
use portcullis_core::identity::Identity;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::claims::Times;
use super::issuer::Issuer;
use super::keys::Key;

/// The name of a token here.
pub(super) type Digest = [u8; 32];

/// A token that was verified.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) identity: Arc<Identity>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) key: Arc<Key>,
    pub(super) times: Times,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Digest, Arc<Verified>> for Bytes {
    fn weight(&self, _digest: &Digest, verified: &Arc<Verified>) -> u64 {
        // The digest twice (the table and its ghost), the pointer, two reference counts, and the table's own words.
        const OWN: usize = 2 * size_of::<Digest>() + size_of::<Verified>() + 64;
        (OWN + verified.identity.weight_bytes()) as u64
    }
}

/// All tokens that are remembered.
pub(super) struct Remembered {
    key: hmac::Key,
    cache: Cache<Digest, Arc<Verified>, Bytes>,
}

/// What a small token weighs, for the library's tables.
const TYPICAL_BYTES: u64 = 1024;

impl Remembered {
    pub(super) fn new(most_bytes: u64) -> Remembered {
        // Seeded by the operating system; SipHash under a secret key is a pseudo-random function, so these are 256 bits
        // that nobody knows.
        let state = RandomState::new();
        let mut key = [0; 32];
        for (place, chunk) in key.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&state.hash_one(place).to_le_bytes());
        }
        Remembered {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            cache: Cache::with_weighter((most_bytes / TYPICAL_BYTES) as usize, most_bytes, Bytes),
        }
    }

    /// The name of a token.
    pub(super) fn digest(&self, token: &str) -> Digest {
        let tag = hmac::sign(&self.key, token.as_bytes());
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    #[inline]
    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Verified>> {
        self.cache.get(digest)
    }

    pub(super) fn add(&self, digest: Digest, verified: Arc<Verified>) {
        self.cache.insert(digest, verified);
    }

    pub(super) fn remove(&self, digest: &Digest) {
        self.cache.remove(digest);
    }

    /// Bytes that it may take from now on.
    pub(super) fn bound(&self, most_bytes: u64) {
        if self.cache.capacity() != most_bytes {
            self.cache.set_capacity(most_bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> (usize, u64) {
        (self.cache.len(), self.cache.weight())
    }
}
