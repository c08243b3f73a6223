//! What comes before the check itself: `(identity, tenants that the request names) -> Decision`.
//!
//! Invariant: without an identity nothing is asked, and nothing passes.

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The policy is asked.
    Ask,
    /// Nobody showed who they are.
    NoIdentity,
    /// The request names another tenant than the identity's.
    OtherTenant,
}

/// Decides. `tenant` is the identity's, empty for none; `None` where there is no identity. `named` is what the request says:
/// `None` for a text that cannot be read.
pub(super) fn decide<'n>(tenant: Option<&str>, mut named: impl Iterator<Item = Option<&'n str>>) -> Decision {
    match tenant {
        None => Decision::NoIdentity,
        Some(tenant) if named.all(|named| named == Some(tenant)) => Decision::Ask,
        Some(_) => Decision::OtherTenant,
    }
}
