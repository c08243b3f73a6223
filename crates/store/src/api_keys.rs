//! API keys: what a program shows in place of a person. One record a key.
//!
//! A key is shown once, when it is made; what is kept is its SHA-256 (it has 256 random bits, so a slow hash adds nothing) and
//! the public part by which people tell keys apart. Written together with accounts ([`crate::accounts::Accounts`]).
//!
//! Invariant: nothing in a record lets anybody act as its owner.

use crate::sessions::Digest;

/// The longest name of a key, in bytes.
pub const LONGEST_NAME_BYTES: usize = 100;
/// Most scopes of a key.
pub const MOST_SCOPES: usize = 32;
/// The longest scope, in bytes. Scopes are visible ASCII without space.
pub const LONGEST_SCOPE_BYTES: usize = 64;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public part, in lists and logs.
    pub id: String,
    /// The SHA-256 of the whole key.
    pub hash: Digest,
    /// Whose it is: the account's name.
    pub account: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for; empty: for everything its owner may do.
    pub scopes: Vec<String>,
    /// When it was made, in milliseconds since 1970.
    pub since_unix_millis: u64,
    /// When it ends; `None` until somebody revokes it.
    pub until_unix_millis: Option<u64>,
    /// When it was last used; at most a minute behind what the gateway knows.
    pub used_unix_millis: Option<u64>,
}
