//! Bans: which networks are kept out, why, until when, and what happened to them before. One record a network.
//!
//! Whoever places bans keeps all of them in memory and answers requests from there; a backend only remembers them beyond
//! the process, so its calls may wait and are never made on the way of a request. The trait is asynchronous for that reason.
//!
//! Invariant: a call that answered `Ok` is kept by then as firmly as the backend keeps anything; one that failed changed
//! nothing.

use std::future::Future;
use std::pin::Pin;

use portcullis_core::units::Cidr;

/// Most past bans of a network that are remembered; the oldest give way.
pub const MOST_PAST: usize = 10;
/// The longest reason, in bytes of UTF-8.
pub const LONGEST_REASON_BYTES: usize = 200;

/// Who placed a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A person, by a command.
    Operator,
    /// The watch over failed logins.
    LoginWatch,
    /// Bans of many networks inside this one.
    WiderNetwork,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who placed it.
    pub origin: Origin,
    /// Why, in words: at most [`LONGEST_REASON_BYTES`] bytes, without control characters.
    pub reason: String,
    /// When it began, in milliseconds since 1970.
    pub since_unix_millis: u64,
    /// When it ends; `None` until somebody lifts it.
    pub until_unix_millis: Option<u64>,
}

/// How a ban ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its time was over.
    Expired,
    /// A person lifted it.
    Lifted,
    /// Another ban of the same network took its place.
    Replaced,
}

/// A ban that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// What it was.
    pub ban: Ban,
    /// When it ended, in milliseconds since 1970.
    pub ended_unix_millis: u64,
    /// How.
    pub ending: Ending,
}

/// Everything about one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which.
    pub network: Cidr,
    /// The ban that holds, if one does.
    pub ban: Option<Ban>,
    /// Bans before it, oldest first, at most [`MOST_PAST`].
    pub past: Vec<Past>,
}

/// Why a backend could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{tried} failed: {why}")]
pub struct StoreError {
    /// What was tried, as `writing 3 bans`.
    pub tried: String,
    /// What the backend said.
    pub why: String,
}

/// A call that waits for the backend.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Remembers bans beyond the process, as far as the backend does.
pub trait Bans: Send + Sync {
    /// Every record, in no particular order.
    fn list(&self) -> Pending<'_, Vec<Record>>;

    /// Writes these records, each in place of what was known of its network: all of them or, when it fails, none.
    fn update<'a>(&'a self, records: &'a [Record]) -> Pending<'a, ()>;

    /// Forgets these networks: all of them or, when it fails, none. One that is not known is no error.
    fn remove<'a>(&'a self, networks: &'a [Cidr]) -> Pending<'a, ()>;
}

impl Origin {
    /// All of them.
    pub const ALL: [Origin; 3] = [Origin::Operator, Origin::LoginWatch, Origin::WiderNetwork];

    /// The word in commands, metrics and backends.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Origin::Operator => "operator",
            Origin::LoginWatch => "login_watch",
            Origin::WiderNetwork => "wider_network",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Origin> {
        Origin::ALL.into_iter().find(|origin| origin.name() == name)
    }
}

impl Ending {
    const ALL: [Ending; 3] = [Ending::Expired, Ending::Lifted, Ending::Replaced];

    /// The word in commands and backends.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ending::Expired => "expired",
            Ending::Lifted => "lifted",
            Ending::Replaced => "replaced",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Ending> {
        Ending::ALL.into_iter().find(|ending| ending.name() == name)
    }
}
