//! Keys: a keyed hash of the policy and of who is being counted, so that a counter needs no stored text.
//!
//! SipHash-1-3 with a secret seed (Aumasson and Bernstein, 2012; the 1-3 variant is what Rust's own maps use). Two keys
//! that collide share one bucket, and the rate limit headers would show a client that they do, so whoever picks
//! subjects freely must not be able to search for a collision. SipHash is designed to be a pseudo-random function under
//! a secret key; ahash, which takes about half the time (10 ns against 15 to 25 for an address), makes no such claim,
//! least of all in the multiply-only form it has where AES is not compiled in. A request is worth that. 64 bits are enough:
//! against an unknown seed a guess hits one chosen victim once in 2^64 requests, and among 10 million keys any two
//! meet by accident with a chance of 3 in a million.
//!
//! Invariant: different (policy, parts) never feed the hash the same bytes; every part carries its length.

use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::Hasher;

/// The operating system gave no random bytes for the seed of the counters' keys.
#[derive(Debug, thiserror::Error)]
#[error("drawing a random seed for the counters' keys failed: {0}")]
pub struct SeedError(getrandom::Error);

/// Makes keys under one secret seed.
#[derive(Clone)]
pub struct KeyHasher {
    seed: [u8; 16],
}

impl KeyHasher {
    /// A hasher whose seed nobody knows: for counters that live in this process only.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn random() -> Result<Self, SeedError> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).map_err(SeedError)?;
        Ok(Self { seed })
    }

    /// A hasher with a given seed: for counters that several instances share, which must agree on keys. Keep it secret.
    pub fn from_seed(seed: [u8; 16]) -> Self {
        Self { seed }
    }

    /// A secret seed for another purpose, from which this one's cannot be learned.
    #[must_use]
    pub fn derived(&self, purpose: &str) -> [u8; 16] {
        let half = |number: u8| {
            let mut hasher = SipHasher13::new_with_key(&self.seed);
            write_part(&mut hasher, b"derived");
            write_part(&mut hasher, purpose.as_bytes());
            write_part(&mut hasher, &[number]);
            hasher.finish().to_le_bytes()
        };
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&half(0));
        seed[8..].copy_from_slice(&half(1));
        seed
    }

    /// Prepares the keys of one policy; done once, at start. A policy keeps its counters as long as its name stays.
    pub fn policy(&self, name: &str) -> PolicyKey {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        write_part(&mut hasher, name.as_bytes());
        let number = hasher.finish() as u32;
        PolicyKey { hasher, number }
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher { seed: secret }")
    }
}

/// Makes the keys of one policy.
#[derive(Clone)]
pub struct PolicyKey {
    hasher: SipHasher13,
    number: u32,
}

impl PolicyKey {
    /// The key of a subject given as its parts, for instance tenant and user. Order and boundaries of parts count.
    #[inline]
    pub fn key(&self, parts: &[&[u8]]) -> Key {
        let mut hasher = self.hasher;
        for part in parts {
            write_part(&mut hasher, part);
        }
        Key { hash: hasher.finish(), policy: self.number }
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyKey { hasher: secret }")
    }
}

/// Names one counter: which policy, and a hash of policy and subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    hash: u64,
    policy: u32,
}

impl Key {
    /// Uniform over 64 bits and different for different (policy, subject), but for accidents.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
    }

    /// Says only which policy the key belongs to; used where subjects of one policy share a bucket.
    #[inline]
    pub fn policy(self) -> u32 {
        self.policy
    }
}

#[inline]
fn write_part(hasher: &mut SipHasher13, part: &[u8]) {
    // A part above 4 GiB cannot reach a gateway that bounds its requests; the fold keeps the length in four bytes.
    hasher.write_u32(part.len() as u32);
    hasher.write(part);
}

#[cfg(test)]
mod tests {
    use super::{Key, KeyHasher};
    use std::collections::HashSet;

    fn hasher() -> KeyHasher {
        KeyHasher::from_seed([7; 16])
    }

    fn key(policy: &str, parts: &[&str]) -> Key {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        hasher().policy(policy).key(&parts)
    }

    #[test]
    fn moving_a_boundary_makes_another_key() {
        let keys = [
            key("api", &["a:b", "c"]),
            key("api", &["a", "b:c"]),
            key("api", &["a", "b", "c"]),
            key("api", &["a:b:c"]),
            key("api", &["a:b", "c", ""]),
            key("api", &["", "a:b", "c"]),
            key("api", &["a:b\0", "c"]),
            key("apia", &[":b", "c"]),
            key("api", &[]),
            key("api", &[""]),
            key("", &["api"]),
        ];
        let distinct: HashSet<u64> = keys.iter().map(|key| key.hash()).collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn the_same_subject_has_the_same_key_under_one_seed_only() {
        assert_eq!(key("api", &["t", "u"]), key("api", &["t", "u"]));
        let other = KeyHasher::from_seed([8; 16]).policy("api").key(&[b"t", b"u"]);
        assert_ne!(key("api", &["t", "u"]), other);
        let random = || KeyHasher::random().unwrap().policy("api").key(&[b"t", b"u"]);
        assert_ne!(random(), random());
    }

    #[test]
    fn only_the_policy_decides_the_policy_number() {
        assert_eq!(key("api", &["x"]).policy(), key("api", &["y"]).policy());
        assert_ne!(key("api", &["x"]).policy(), key("login", &["x"]).policy());
    }

    #[test]
    fn debug_output_holds_no_seed() {
        let hasher = KeyHasher::from_seed([0xAB; 16]);
        let text = format!("{hasher:?} {:?}", hasher.policy("api"));
        assert!(!text.contains("171") && !text.to_lowercase().contains("abab"), "{text}");
    }
}
