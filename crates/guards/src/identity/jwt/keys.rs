//! Public keys as issuers publish them (RFC 7517, RFC 7518 section 6, RFC 8037), and the secret of the symmetric ones.
//!
//! A key set is read leniently and a key strictly: keys of kinds that nobody here uses are passed over, a key that would be
//! weak or is broken is refused at once, and a set without any key that can be used is no key set.
//!
//! Invariant: a key from a set is never a secret (`oct`), and checks only the algorithms of its own family and curve.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use portcullis_core::secret::Secret;
use serde::Deserialize;
use serde_json::Value;

use super::config::Algorithm;

/// The largest key set, in bytes.
pub const SET_BYTES: usize = 256 * 1024;
/// Most keys of a set.
const MOST_KEYS: usize = 64;

/// What a key can check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
    Ed25519,
    Secret,
}

impl Family {
    fn of(algorithm: Algorithm) -> Family {
        use Algorithm as A;
        match algorithm {
            A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Family::Rsa,
            A::ES256 => Family::P256,
            A::ES384 => Family::P384,
            A::EdDsa => Family::Ed25519,
            A::HS256 | A::HS384 | A::HS512 => Family::Secret,
        }
    }
}

/// One key.
pub(crate) struct Key {
    kid: Option<String>,
    family: Family,
    /// The only algorithm that it is for, where it says so.
    algorithm: Option<Algorithm>,
    decoding: DecodingKey,
    /// The public key itself, which tells whether a key that is read again is the same. Empty for a secret: issuers whose
    /// secrets differ are different issuers.
    material: Box<[u8]>,
    /// Set once it is no longer one of its issuer's; what was verified with it is then forgotten.
    is_retired: AtomicBool,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("family", &self.family).finish_non_exhaustive()
    }
}

/// Why a key set cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongSet {
    /// Too large to be one.
    #[error("is larger than {SET_BYTES} bytes, or has more than {MOST_KEYS} keys")]
    TooLarge,
    /// No JSON, or another shape.
    #[error("is not a JSON Web Key Set: an object with a list `keys` (RFC 7517)")]
    NoSet,
    /// A key for signatures that is weak or broken.
    #[error("keys[{0}] {1}")]
    Key(usize, &'static str),
    /// Nothing in it is of use.
    #[error("has no key that can check signatures: RSA, EC on P-256 or P-384, or OKP on Ed25519, for `use: sig`")]
    Empty,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a key set.
///
/// # Errors
/// Why it cannot be used.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Key>, WrongSet> {
    if text.len() > SET_BYTES {
        return Err(WrongSet::TooLarge);
    }
    let set: Value = serde_json::from_slice(text).map_err(|_| WrongSet::NoSet)?;
    let list = set.get("keys").and_then(Value::as_array).ok_or(WrongSet::NoSet)?;
    if list.len() > MOST_KEYS {
        return Err(WrongSet::TooLarge);
    }
    let mut keys = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let written = Written::deserialize(value).map_err(|_| WrongSet::Key(index, "is not a JSON Web Key"))?;
        if let Some(key) = written.key().map_err(|what| WrongSet::Key(index, what))? {
            keys.push(key);
        }
    }
    if keys.is_empty() { Err(WrongSet::Empty) } else { Ok(keys) }
}

impl Written {
    /// The key; `None` when it is none for checking signatures here.
    fn key(&self) -> Result<Option<Key>, &'static str> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig")
            || self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|name| name == "verify"))
        {
            return Ok(None);
        }
        let family = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Family::Rsa,
            ("EC", Some("P-256")) => Family::P256,
            ("EC", Some("P-384")) => Family::P384,
            ("OKP", Some("Ed25519")) => Family::Ed25519,
            // `oct` among them: a secret that is published is none.
            _ => return Ok(None),
        };
        let algorithm = match &self.alg {
            None => None,
            Some(name) => match Algorithm::ALL.into_iter().find(|known| known.name() == name) {
                Some(algorithm) if Family::of(algorithm) == family => Some(algorithm),
                // For encryption, or a signature that nobody here checks.
                _ => return Ok(None),
            },
        };
        let mut material = Vec::new();
        let decoding = match family {
            Family::Rsa => {
                let (n, e) = (part(&self.n, "n")?, part(&self.e, "e")?);
                check_rsa(&n, &e)?;
                material.extend_from_slice(&[&n[..], b"/", &e[..]].concat());
                DecodingKey::from_rsa_raw_components(&n, &e)
            }
            Family::P256 | Family::P384 => {
                let (x, y) = (part(&self.x, "x")?, part(&self.y, "y")?);
                let (bytes, algorithm): (usize, &'static dyn VerificationAlgorithm) = match family {
                    Family::P256 => (32, &ECDSA_P256_SHA256_FIXED),
                    _ => (48, &ECDSA_P384_SHA384_FIXED),
                };
                if x.len() != bytes || y.len() != bytes {
                    return Err("has coordinates of a wrong length");
                }
                material.extend_from_slice(&[&[4][..], &x[..], &y[..]].concat());
                ParsedPublicKey::new(algorithm, &material).map_err(|_| "is no point on its curve")?;
                DecodingKey::from_ec_der(&material)
            }
            Family::Ed25519 => {
                let x = part(&self.x, "x")?;
                if x.len() != 32 || is_small_order(&x) {
                    return Err("is no key of Ed25519");
                }
                material.extend_from_slice(&x);
                DecodingKey::from_ed_der(&material)
            }
            Family::Secret => return Ok(None),
        };
        let (kid, material) = (self.kid.clone(), material.into_boxed_slice());
        Ok(Some(Key { kid, family, algorithm, decoding, material, is_retired: AtomicBool::new(false) }))
    }
}

impl Key {
    /// The secret of HS256 and its like.
    pub(crate) fn of_secret(secret: &Secret) -> Key {
        Key::of_bytes(secret.expose().as_bytes())
    }

    pub(super) fn of_bytes(secret: &[u8]) -> Key {
        Key {
            kid: None,
            family: Family::Secret,
            algorithm: None,
            decoding: DecodingKey::from_secret(secret),
            material: Box::default(),
            is_retired: AtomicBool::new(false),
        }
    }

    /// Whether a token with this `kid` and algorithm may have been signed with it.
    pub(super) fn may_have_signed(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        let is_named = match (kid, &self.kid) {
            (Some(wanted), Some(own)) => wanted == own,
            _ => true,
        };
        is_named && self.family == Family::of(algorithm) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether it has signed `message`.
    pub(super) fn has_signed(&self, message: &str, signature: &str, algorithm: Algorithm) -> bool {
        let algorithm = bought(algorithm);
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.decoding, algorithm).unwrap_or(false)
    }

    /// Whether `other` is the same key, read another time.
    pub(super) fn is_same(&self, other: &Key) -> bool {
        (&self.kid, self.family, self.algorithm, &self.material)
            == (&other.kid, other.family, other.algorithm, &other.material)
    }

    /// It is no longer one of its issuer's.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Whether it was retired.
    #[inline]
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Acquire)
    }
}

/// The same algorithm in the words of the library.
pub(super) fn bought(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    use jsonwebtoken::Algorithm as Bought;
    match algorithm {
        Algorithm::RS256 => Bought::RS256,
        Algorithm::RS384 => Bought::RS384,
        Algorithm::RS512 => Bought::RS512,
        Algorithm::PS256 => Bought::PS256,
        Algorithm::PS384 => Bought::PS384,
        Algorithm::PS512 => Bought::PS512,
        Algorithm::ES256 => Bought::ES256,
        Algorithm::ES384 => Bought::ES384,
        Algorithm::EdDsa => Bought::EdDSA,
        Algorithm::HS256 => Bought::HS256,
        Algorithm::HS384 => Bought::HS384,
        Algorithm::HS512 => Bought::HS512,
    }
}

fn part(text: &Option<String>, name: &'static str) -> Result<Vec<u8>, &'static str> {
    let wrong = match name {
        "n" => "has no `n` in base64url",
        "e" => "has no `e` in base64url",
        "x" => "has no `x` in base64url",
        _ => "has no `y` in base64url",
    };
    URL_SAFE_NO_PAD.decode(text.as_deref().unwrap_or_default()).ok().filter(|bytes| !bytes.is_empty()).ok_or(wrong)
}

/// 2048 to 8192 bits (NIST SP 800-131A; the library's own bounds), and an odd exponent of at least 3 that fits 32 bits.
fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), &'static str> {
    let significant = |bytes: &[u8]| bytes.iter().position(|byte| *byte != 0).map_or(0, |zeros| bytes.len() - zeros);
    let first = n.iter().find(|byte| **byte != 0).copied().unwrap_or(0);
    let bits = (significant(n) * 8).saturating_sub(first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) || n.last().is_none_or(|last| last % 2 == 0) {
        return Err("is an RSA key below 2048 or above 8192 bits, or an even one");
    }
    let exponent = e.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    if significant(e) > 4 || exponent < 3 || exponent % 2 == 0 {
        return Err("is an RSA key with an exponent that is even, below 3, or above 32 bits");
    }
    Ok(())
}

/// Whether it is one of the encodings of the eight points of small order, for which anybody can make signatures. The last
/// two are not canonical (as in libsodium's list); the sign bit does not matter.
fn is_small_order(x: &[u8]) -> bool {
    const POINTS: [[u8; 4]; 5] = [
        // The first bytes tell them apart; the rest is compared below.
        [0x00, 0x00, 0x00, 0x00],
        [0x01, 0x00, 0x00, 0x00],
        [0x26, 0xe8, 0x95, 0x8f],
        [0xc7, 0x17, 0x6a, 0x70],
        [0xec, 0xff, 0xff, 0xff],
    ];
    let middle = &x[4..31];
    let last = x[31] & 0x7f;
    match POINTS.iter().position(|start| x[..4] == *start) {
        Some(0 | 1) => middle.iter().all(|byte| *byte == 0) && last == 0,
        // y of order 8, whose further bytes no honest key shares with it.
        Some(2) => x[4..8] == [0xc2, 0xb2, 0x27, 0xb0],
        Some(3) => x[4..8] == [0x3d, 0x4d, 0xd8, 0x4f],
        Some(_) => middle.iter().all(|byte| *byte == 0xff) && last == 0x7f,
        // p and p + 1, which stand for 0 and 1.
        None => {
            matches!(x[0], 0xed | 0xee)
                && x[1..4] == [0xff; 3]
                && middle.iter().all(|byte| *byte == 0xff)
                && last == 0x7f
        }
    }
}
