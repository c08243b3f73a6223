//! What follows from what the sources said: pure.
//!
//! A credential that is not valid refuses the request, whatever else it carries; two valid ones must speak of one person.
//!
//! Invariant: a request passes without an identity only where none is required and no credential was sent; an outage is
//! never told as the client's mistake.

use std::sync::Arc;

use portcullis_core::identity::{CredentialKind, Identity};
use portcullis_core::refusal::Code;

/// What one source, or the reading of `Authorization`, found out.
pub(super) enum Said {
    /// Nothing of its kind.
    Absent,
    /// Who it is.
    Known(Arc<Identity>),
    /// Not valid.
    Refused(Code, &'static str),
    /// Nobody can say; the time after which to ask again.
    Unavailable(Code, u64, &'static str),
}

/// What happens to the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It goes on as this person.
    Known(Arc<Identity>),
    /// It goes on as nobody.
    Anonymous,
    /// It stops, because of a credential of this kind or because there is none.
    Refuse(Option<CredentialKind>, Code, &'static str),
    /// It stops because of our own trouble with a credential of this kind; the nanoseconds after which to ask again.
    Unavailable(CredentialKind, Code, u64, &'static str),
}

/// Decides.
pub(super) fn decide(is_required: bool, said: impl IntoIterator<Item = (CredentialKind, Said)>) -> Decision {
    let mut known: Option<Arc<Identity>> = None;
    let mut unavailable = None;
    for (kind, said) in said {
        match said {
            Said::Absent => {}
            // Browsers go on sending the cookie of a session that is over, also to the page where people log in.
            Said::Refused(Code::SessionExpired, _) if !is_required => {}
            Said::Refused(code, rule) => return Decision::Refuse(Some(kind), code, rule),
            Said::Unavailable(code, wait, rule) => unavailable = Some(Decision::Unavailable(kind, code, wait, rule)),
            Said::Known(identity) => match &known {
                Some(other) if !other.is_same_person(&identity) => {
                    return Decision::Refuse(Some(kind), Code::CredentialConflict, "two_people");
                }
                Some(_) => {}
                None => known = Some(identity),
            },
        }
    }
    match (unavailable, known) {
        (Some(unavailable), _) => unavailable,
        (None, Some(identity)) => Decision::Known(identity),
        (None, None) if is_required => Decision::Refuse(None, Code::Unauthenticated, "required"),
        (None, None) => Decision::Anonymous,
    }
}
