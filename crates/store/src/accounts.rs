//! Accounts: who people are and how they prove it. One record an account, and the trait that keeps it with its sessions and keys.
//!
//! The gateway keeps all of them in memory, decides there, and hands on what changed; a backend remembers it beyond the
//! process. Accounts, [`Session`]s and [`ApiKey`]s change together (a new password ends sessions), so they are written
//! together: one call is one transaction, and what a backend holds is always one moment of all three.
//!
//! Invariant: a call that answered `Ok` is kept by then as firmly as the backend keeps anything; one that failed changed
//! nothing.

use std::fmt;

use crate::api_keys::ApiKey;
use crate::bans::Pending;
use crate::sessions::{Digest, Session};

/// The longest name of an account or tenant, in bytes.
pub const LONGEST_NAME_BYTES: usize = 64;
/// Most roles of an account.
pub const MOST_ROLES: usize = 32;
/// Most recovery codes of an account.
pub const MOST_RECOVERY_CODES: usize = 10;
/// Most devices that an account is known on; the oldest give way.
pub const MOST_DEVICES: usize = 10;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, which nobody else ever gets: at most [`LONGEST_NAME_BYTES`] bytes of `a-z`, `0-9`, `.`, `_`, `-`.
    pub name: String,
    /// The tenant it belongs to; empty where there are none.
    pub tenant: String,
    /// An address for mail, as its owner wrote it.
    pub email: Option<String>,
    /// What its owner may be, at most [`MOST_ROLES`]. Visible ASCII without space.
    pub roles: Vec<String>,
    /// The password's hash as a PHC string.
    pub password: Hash,
    /// When the password was set, in milliseconds since 1970.
    pub password_since_unix_millis: u64,
    /// Whether nobody may log in.
    pub is_disabled: bool,
    /// Grows when all sessions of the account end; sessions of an earlier epoch are over.
    pub epoch: u64,
    /// When it was made.
    pub since_unix_millis: u64,
    /// The second factor.
    pub totp: Option<Totp>,
    /// SHA-256 of each recovery code that was not used yet, at most [`MOST_RECOVERY_CODES`].
    pub recovery: Vec<Digest>,
    /// Devices that have logged in before, oldest first, at most [`MOST_DEVICES`].
    pub devices: Vec<Device>,
}

/// The hash of a password. Not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(pub String);

/// A time-based second factor (RFC 6238).
#[derive(Clone, PartialEq, Eq)]
pub struct Totp {
    /// The secret shared with the user's device. Not printed.
    pub secret: Vec<u8>,
    /// The last time step whose code was accepted; only later ones are.
    pub last_step: u64,
    /// Whether its owner has shown a code once; until then it is not asked for.
    pub is_confirmed: bool,
}

/// A device that has logged in before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The SHA-256 of the token it was given.
    pub id: Digest,
    /// When, in milliseconds since 1970.
    pub since_unix_millis: u64,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

impl fmt::Debug for Totp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totp { last_step, is_confirmed, .. } = self;
        write!(f, "Totp {{ secret: [secret], last_step: {last_step}, is_confirmed: {is_confirmed} }}")
    }
}

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Accounts, by name.
    pub accounts: Vec<Account>,
    /// Sessions, by id.
    pub sessions: Vec<Session>,
    /// API keys, by id.
    pub keys: Vec<ApiKey>,
}

/// What must be written down. Each record takes the place of what was known of its name or id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Accounts as they are now. They are never forgotten.
    pub accounts: Vec<Account>,
    /// Sessions as they are now.
    pub sessions: Vec<Session>,
    /// Sessions that are over.
    pub ended: Vec<Digest>,
    /// API keys as they are now.
    pub keys: Vec<ApiKey>,
    /// API keys that are revoked, by id.
    pub revoked: Vec<String>,
}

impl Changes {
    /// How many records are concerned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len() + self.sessions.len() + self.ended.len() + self.keys.len() + self.revoked.len()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Remembers accounts, sessions and API keys beyond the process, as far as the backend does.
pub trait Accounts: Send + Sync {
    /// Everything, each list in the order of its names or ids.
    fn list(&self) -> Pending<'_, Records>;

    /// Writes all of it or, when it fails, nothing. What ends and is not known is no error; a record that is in both lists is gone.
    fn update<'a>(&'a self, changes: &'a Changes) -> Pending<'a, ()>;
}
