//! Acts: who changed something about the gateway, what, and how it ended. What the audit trail will be chained from.
//!
//! An act is written before it is done, so that none can be done that nobody can find; its end is added afterwards. An act
//! without an end was interrupted, and may or may not have been done.
//!
//! Invariant: a call that answered `Ok` is kept by then as firmly as the backend keeps anything; acts are never changed but
//! for their end, and only the oldest beyond [`MOST_ACTS`] are forgotten.

use crate::bans::Pending;

/// How many are remembered.
pub const MOST_ACTS: u64 = 100_000;
/// The longest text in an act, in bytes of UTF-8; longer ones are cut.
pub const LONGEST_TEXT_BYTES: usize = 300;

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// When it was asked for, in milliseconds since 1970.
    pub at_unix_millis: u64,
    /// Who asked: `token:NAME`, or `user:UID` of the machine.
    pub who: String,
    /// What kind of act, as `bans.add`.
    pub action: String,
    /// On what: the method and path of the call.
    pub target: String,
    /// The request's id in the access log; empty where there is none.
    pub request_id: String,
    /// The HTTP status of its answer; `None` until then.
    pub status: Option<u16>,
}

/// An act with its number, which grows with every act and is never used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The number, from 1 on.
    pub number: u64,
    /// The act.
    pub act: Act,
}

/// Remembers acts.
pub trait Acts: Send + Sync {
    /// Writes down an act that is about to be done; its number.
    fn add<'a>(&'a self, act: &'a Act) -> Pending<'a, u64>;

    /// Adds how the act of this number ended. One that is forgotten already stays so.
    fn update(&self, number: u64, status: u16) -> Pending<'_, ()>;

    /// Up to `most` acts with numbers below `before`, newest first.
    fn list(&self, before: u64, most: u32) -> Pending<'_, Vec<Numbered>>;
}

/// `text`, cut to [`LONGEST_TEXT_BYTES`] at a character's edge.
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT_BYTES {
        let edge = (0..=LONGEST_TEXT_BYTES).rev().find(|edge| text.is_char_boundary(*edge)).unwrap_or(0);
        text.truncate(edge);
    }
    text
}
