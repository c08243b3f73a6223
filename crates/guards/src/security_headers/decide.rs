//! Which ready-made changes an answer gets: a choice between four, nothing else.
//!
//! Invariant: the choice depends on the facts alone; the changes were rendered when the guard was built.

use http::{HeaderName, HeaderValue};

use super::config::Rules;

/// What the choice depends on.
pub(super) struct Facts {
    /// The gateway itself answers.
    pub(super) is_own: bool,
    /// The client's connection is TLS.
    pub(super) is_secure: bool,
    /// A trusted proxy says that the client's connection to it is TLS.
    pub(super) told_secure: bool,
}

/// Changes to a response's header fields, rendered when the config was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) remove: Box<[HeaderName]>,
    pub(super) set: Box<[(HeaderName, HeaderValue)]>,
    pub(super) when_absent: Box<[(HeaderName, HeaderValue)]>,
}

/// The changes for one kind of answer, on plain and on TLS connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ByConnection {
    pub(super) plain: Changes,
    pub(super) secure: Changes,
}

/// Picks the changes for an answer.
pub(super) fn decide<'a>(rules: &'a Rules, facts: &Facts) -> &'a Changes {
    let by_connection = if facts.is_own { &rules.own } else { &rules.upstream };
    if facts.is_secure || (rules.hsts_behind_proxy && facts.told_secure) {
        &by_connection.secure
    } else {
        &by_connection.plain
    }
}
