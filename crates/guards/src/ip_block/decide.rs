//! May this address in? `(Rules, address, ban) -> Decision`, nothing else.
//!
//! The order is fixed: the allow list, then the deny list, then bans. What is allowed passes whatever else is said about it.
//!
//! Invariant: a trusted proxy is never kept out by a ban, only by the deny list that the operator wrote.

use std::net::IpAddr;

use super::config::Rules;
use super::table::Hit;

/// What was decided, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// No rule speaks of it.
    Unknown,
    /// On the allow list.
    Allowed,
    /// On the deny list.
    Denied,
    /// Banned, but it is a trusted proxy, so that the ban does not hold.
    Trusted(Hit),
    /// Banned.
    Banned(Hit),
}

/// Decides. `ban` is asked only where neither list speaks.
#[inline]
pub(super) fn decide(rules: &Rules, address: IpAddr, ban: impl FnOnce() -> Option<Hit>) -> Decision {
    if !rules.allow.is_empty() && rules.allow.contains(address) {
        return Decision::Allowed;
    }
    if !rules.deny.is_empty() && rules.deny.contains(address) {
        return Decision::Denied;
    }
    match ban() {
        None => Decision::Unknown,
        Some(hit) if rules.trusted.contains(address) => Decision::Trusted(hit),
        Some(hit) => Decision::Banned(hit),
    }
}
