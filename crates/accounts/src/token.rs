//! Tokens: 256 random bits that stand for a session, an API key, a device or a recovery code, and the hash that is kept of them.
//!
//! The text begins with a prefix that says what it is, so that a token that leaks can be found by scanners and is never taken
//! for another kind. Tokens have at least 120 random bits, so one round of SHA-256 is enough for keeping them (ASVS 5.0,
//! 6.5.2 asks for a slow hash below 112).
//!
//! Invariant: the text of a token exists only in the [`Secret`] that is handed out once; what is kept is its [`Digest`].

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_core::secret::Secret;
use portcullis_store::sessions::Digest;
use zeroize::Zeroizing;

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A session.
    Session,
    /// An API key.
    ApiKey,
    /// A device that has logged in before.
    Device,
}

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no random numbers")]
pub struct NoRandomness;

/// The letters of RFC 4648 base32.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Random bytes of a recovery code: 120 bits, 24 letters.
const RECOVERY_BYTES: usize = 15;
/// Characters of 32 bytes in base64url without padding.
const SECRET_CHARS: usize = 43;

impl Kind {
    /// What its text begins with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Session => "ps_",
            Kind::ApiKey => "pk_",
            Kind::Device => "pd_",
        }
    }

    /// Whether `text` looks like one of this kind; says nothing about whether it is known.
    #[must_use]
    pub fn is_of(self, text: &str) -> bool {
        let longest = 3 + ID_CHARS + 1 + SECRET_CHARS;
        let rest = text.strip_prefix(self.prefix());
        rest.is_some_and(|rest| {
            (SECRET_CHARS..=longest).contains(&rest.len())
                && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
    }
}

/// Characters of the public part of an API key.
const ID_CHARS: usize = 16;

/// Random bytes.
///
/// # Errors
/// [`NoRandomness`]
pub fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(&mut *bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A new session or device token.
///
/// # Errors
/// [`NoRandomness`]
pub fn new(kind: Kind) -> Result<Secret, NoRandomness> {
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()?.as_slice()));
    Ok(Secret::new(format!("{}{}", kind.prefix(), *secret)))
}

/// A new API key: its public part, and the whole key.
///
/// # Errors
/// [`NoRandomness`]
pub fn new_api_key() -> Result<(String, Secret), NoRandomness> {
    let id: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(random::<32>()?.as_slice()));
    let key = Secret::new(format!("{}{id}_{}", Kind::ApiKey.prefix(), *secret));
    Ok((id, key))
}

/// A new recovery code, in four groups for people.
///
/// # Errors
/// [`NoRandomness`]
pub fn new_recovery_code() -> Result<Secret, NoRandomness> {
    let letters = base32(random::<RECOVERY_BYTES>()?.as_slice());
    let groups: Vec<&str> = (0..4).map(|group| &letters[group * 6..group * 6 + 6]).collect();
    Ok(Secret::new(groups.join("-")))
}

/// What is kept of a token.
#[must_use]
pub fn hash(text: &str) -> Digest {
    Digest(digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// What is kept of a recovery code, however people write it: case, spaces and dashes make no difference.
#[must_use]
pub fn hash_of_recovery_code(text: &str) -> Digest {
    let letters = text.chars().filter(|letter| !matches!(letter, '-' | ' '));
    let letters: Zeroizing<String> =
        Zeroizing::new(letters.take(64).map(|letter| letter.to_ascii_uppercase()).collect());
    hash(&letters)
}

/// RFC 4648 base32 without padding.
#[must_use]
pub fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(word);
        for letter in 0..(chunk.len() * 8).div_ceil(5) {
            text.push(char::from(BASE32[(bits >> (59 - 5 * letter)) as usize & 31]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_rfc_4648_section_10() {
        for (bytes, expected) in
            [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("foobar", "MZXW6YTBOI")]
        {
            assert_eq!(base32(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn tokens_are_of_their_kind_and_of_no_other_and_never_twice() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let (id, key) = new_api_key().unwrap();
            let session = new(Kind::Session).unwrap();
            assert!(Kind::Session.is_of(session.expose()) && !Kind::ApiKey.is_of(session.expose()));
            assert!(Kind::ApiKey.is_of(key.expose()) && key.expose().contains(&id));
            assert!(seen.insert(hash(session.expose())) && seen.insert(hash(key.expose())));
        }
        for wrong in ["", "ps_", "ps_short", &format!("ps_{}", "a".repeat(100)), &format!("ps_{}!", "a".repeat(42))] {
            assert!(!Kind::Session.is_of(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_recovery_code_is_read_as_people_write_it() {
        let code = new_recovery_code().unwrap();
        let text = code.expose();
        assert_eq!((text.len(), text.matches('-').count()), (27, 3));
        let expected = hash_of_recovery_code(text);
        for written in [text.to_lowercase(), text.replace('-', ""), text.replace('-', " ")] {
            assert_eq!(hash_of_recovery_code(&written), expected);
        }
        assert_ne!(hash_of_recovery_code(&text[1..]), expected);
    }
}
