//! Where identities come from: the narrow trait behind which tokens, sessions and API keys are checked.
//!
//! The guard asks the sources that a route accepts, in their order. A source answers from memory, because it is asked on
//! the way of every request; what it has to look up it keeps ready beforehand, or asks the guard to wait once, bounded.
//!
//! Invariant: `Authorization: Bearer` has one reading for all: the guard reads it once and gives it to exactly one source.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use portcullis_core::identity::{CredentialKind, Identity};
use portcullis_core::refusal::Code;

use crate::exchange::Exchange;

/// Checks credentials of one kind.
pub trait Source: Send + Sync {
    /// Which kind.
    fn kind(&self) -> CredentialKind;

    /// The config that it was made from is the one that runs from now on. Called once.
    fn begins(&self) {}

    /// Whether a bearer text has the form of this source's credentials. The first source on the route that says yes gets it.
    fn takes_bearer(&self, _text: &[u8]) -> bool {
        false
    }

    /// Looks at the request. `bearer` is the text of `Authorization: Bearer`, where this source takes it. Must not count
    /// or change anything in a dry run (`exchange.touch`), nor wait.
    fn look(&self, exchange: &Exchange, bearer: Option<&str>) -> Found;

    /// The same once more after [`Found::Wait`]; must not ask to wait again.
    fn look_again(&self, exchange: &Exchange, bearer: Option<&str>) -> Found {
        self.look(exchange, bearer)
    }
}

/// Something to wait for.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a source says about a request.
pub enum Found {
    /// It carries no credential of this kind.
    Absent,
    /// It carries a valid one.
    Known(Arc<Identity>),
    /// It carries one that is not valid: the code for the client, the rule for the operator.
    Refused(Code, &'static str),
    /// Nobody can say at the moment: our trouble, never the client's. The code is that of an outage; with the nanoseconds
    /// after which it is worth asking again, and the rule for the operator.
    Unavailable(Code, u64, &'static str),
    /// Ask again when this is over. It must end by itself, whatever happens.
    Wait(Wait),
}

/// What stands in `Authorization`, as far as it is a bearer token (RFC 6750, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearer<'a> {
    /// There is none: no field, or another scheme, which is the service's business.
    Absent,
    /// Exactly one, of the characters that a token has.
    One(&'a str),
    /// One that is empty or has other characters.
    Broken,
    /// Several fields: which of them the service believes is not known.
    Several,
}

/// Reads `Authorization`.
pub(super) fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Bearer::Absent };
    if fields.next().is_some() {
        return Bearer::Several;
    }
    let text = field.as_bytes().trim_ascii();
    let Some((scheme, rest)) = text.split_at_checked(6) else { return Bearer::Absent };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Bearer::Absent;
    }
    match rest {
        [] => Bearer::Broken,
        [b' ' | b'\t', ..] => token(rest.trim_ascii()).map_or(Bearer::Broken, Bearer::One),
        // Another scheme whose name begins with these letters.
        _ => Bearer::Absent,
    }
}

/// `b64token` of RFC 6750.
fn token(text: &[u8]) -> Option<&str> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    (!text.is_empty() && text.iter().all(is_part)).then(|| std::str::from_utf8(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn row_83_a_bearer_token_has_one_reading() {
        let of = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, HeaderValue::from_str(field).unwrap());
            }
            headers
        };
        for (fields, expected) in [
            (vec![], Bearer::Absent),
            (vec!["Basic abc"], Bearer::Absent),
            (vec!["Bearerx abc"], Bearer::Absent),
            (vec!["Be"], Bearer::Absent),
            (vec![""], Bearer::Absent),
            (vec!["Bearer a.b.c"], Bearer::One("a.b.c")),
            (vec!["bEARER  a.b.c "], Bearer::One("a.b.c")),
            (vec!["Bearer\ta=="], Bearer::One("a==")),
            (vec!["Bearer"], Bearer::Broken),
            (vec!["Bearer "], Bearer::Broken),
            (vec!["Bearer a b"], Bearer::Broken),
            (vec!["Bearer a,"], Bearer::Broken),
            (vec!["Bearer é"], Bearer::Broken),
            (vec!["Bearer {\"payload\":\"x\"}"], Bearer::Broken),
            (vec!["Bearer a", "Bearer a"], Bearer::Several),
            (vec!["Basic a", "Bearer a"], Bearer::Several),
        ] {
            assert_eq!(bearer(&of(&fields)), expected, "{fields:?}");
        }
    }
}
