//! Sessions: who is logged in, since when, from where, and until when. One record a session.
//!
//! The session's token is known to its client alone; what is kept is the token's SHA-256, which is enough to find the session
//! and of no use to who reads the store. The records are written together with accounts and API keys
//! ([`crate::accounts::Accounts`]), so that what is on the disk is always one moment of all three.
//!
//! Invariant: nothing in a record lets anybody act as its user.

use std::fmt;
use std::str::FromStr;

/// The longest description of the client, in bytes.
pub const LONGEST_AGENT_BYTES: usize = 120;

/// A SHA-256. In text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// What is no [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is written as 64 lower-case hexadecimal digits")]
pub struct NoDigest;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The SHA-256 of its token.
    pub id: Digest,
    /// Whose it is: the account's name.
    pub account: String,
    /// The account's epoch when it began. It holds as long as the account has the same.
    pub epoch: u64,
    /// When it began, in milliseconds since 1970.
    pub since_unix_millis: u64,
    /// When it was last used; at most a minute behind what the gateway knows.
    pub seen_unix_millis: u64,
    /// When it ends however much it is used.
    pub until_unix_millis: u64,
    /// The client's network at the beginning, as text.
    pub network: String,
    /// The SHA-256 of the client's fingerprint at the beginning.
    pub fingerprint: Digest,
    /// The client as it described itself, for people: at most [`LONGEST_AGENT_BYTES`] bytes.
    pub agent: String,
    /// Whether a second factor was shown.
    pub has_second_factor: bool,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Digest, NoDigest> {
        let is_hex = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 64 || !is_hex {
            return Err(NoDigest);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NoDigest)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NoDigest)?;
        }
        Ok(Digest(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_what_it_writes_and_nothing_else() {
        let digest = Digest(std::array::from_fn(|place| place as u8 * 8));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let text = digest.to_string();
        for wrong in [&text[1..], &format!("{text}0"), &text.to_uppercase(), &format!("+{}", &text[1..]), ""] {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest), "{wrong}");
        }
    }
}
