//! Who is counted: the words of `by`, and the parts of a key that each of them reads from a request.
//!
//! Keys are hashes over length-prefixed parts, so `a:b` with `c` is never `a` with `b:c`. What a request leaves out, and
//! what it sends more than once, has a part of its own: neither is a way around a limit.
//!
//! Invariant: different values of different kinds never make the same parts; each part's first byte says its kind.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayVec;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use portcullis_core::identity::CredentialKind;

use super::config::SUBJECTS_MAX;
use crate::exchange::Exchange;

/// The words that work today, for messages.
pub(super) const KNOWN: &str =
    "`address`, `header:NAME`, `api_key`, `route`, and with identity `user`, `tenant`, `plan`, `claim:NAME`";

/// What stands before the name of a claim.
const CLAIM: &str = "claim:";

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Headers that tell an address, and that anyone can write.
const HEADERS_OF_ADDRESSES: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// One word of `by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The client's address, or its network.
    Address,
    /// The value of a request header.
    Header(HeaderName),
    /// `X-API-Key`, or the bearer text.
    ApiKey,
    /// The matched route.
    Route,
    /// Who is asking: issuer and user.
    User,
    /// The tenant of who is asking, within the issuer.
    Tenant,
    /// The plan of who is asking.
    Plan,
    /// A claim of who is asking.
    Claim(Box<str>),
}

/// Why a word is none that can be counted by.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WrongWord {
    /// A header that only trusted proxies may write.
    #[error("`header:{0}` can be written by anyone; write `address`, which reads it from trusted proxies only")]
    AnAddress(String),
    /// Not a name of a header.
    #[error("`{0}` is no name of a header")]
    NoHeader(String),
    /// No such word.
    #[error("`{0}` is not known; there are {KNOWN}")]
    Unknown(String),
}

impl FromStr for Subject {
    type Err = WrongWord;

    fn from_str(word: &str) -> Result<Subject, WrongWord> {
        if let Some(name) = word.strip_prefix("header:") {
            let name = name.parse::<HeaderName>().map_err(|_| WrongWord::NoHeader(name.to_owned()))?;
            if HEADERS_OF_ADDRESSES.contains(&name.as_str()) {
                return Err(WrongWord::AnAddress(name.as_str().to_owned()));
            }
            return Ok(Subject::Header(name));
        }
        match word {
            "address" => Ok(Subject::Address),
            "api_key" => Ok(Subject::ApiKey),
            "route" => Ok(Subject::Route),
            "user" => Ok(Subject::User),
            "tenant" => Ok(Subject::Tenant),
            "plan" => Ok(Subject::Plan),
            _ => match word.strip_prefix(CLAIM).filter(|name| !name.is_empty()) {
                Some(name) => Ok(Subject::Claim(name.into())),
                None => Err(WrongWord::Unknown(word.to_owned())),
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Address => f.write_str("address"),
            Subject::Header(name) => write!(f, "header:{name}"),
            Subject::ApiKey => f.write_str("api_key"),
            Subject::Route => f.write_str("route"),
            Subject::User => f.write_str("user"),
            Subject::Tenant => f.write_str("tenant"),
            Subject::Plan => f.write_str("plan"),
            Subject::Claim(name) => write!(f, "{CLAIM}{name}"),
        }
    }
}

/// The parts of one key: for each subject a kind and at most two values.
pub(super) type Parts<'a> = ArrayVec<&'a [u8], { 3 * SUBJECTS_MAX }>;

const ABSENT: &[u8] = &[0];
const ONE: &[u8] = &[1];
const SEVERAL: &[u8] = &[2];
const BEARER: &[u8] = &[3];
const CHECKED: &[u8] = &[4];

/// The client's group as bytes, and how many of them are used.
pub(super) struct Octets([u8; 16], usize);

impl Octets {
    /// Of the exchange's client; none when there is none.
    #[inline]
    pub(super) fn of(exchange: &Exchange) -> Octets {
        let mut octets = [0; 16];
        match exchange.client.map(|client| client.group) {
            Some(std::net::IpAddr::V4(address)) => {
                octets[..4].copy_from_slice(&address.octets());
                Octets(octets, 4)
            }
            Some(std::net::IpAddr::V6(address)) => Octets(address.octets(), 16),
            None => Octets(octets, 0),
        }
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl Subject {
    /// Whether it can be read only once `identity` has said who is asking.
    pub(super) fn needs_identity(&self) -> bool {
        matches!(self, Subject::User | Subject::Tenant | Subject::Plan | Subject::Claim(_))
    }

    /// Appends what this subject says about the request.
    #[inline]
    pub(super) fn read<'a>(&self, exchange: &'a Exchange, octets: &'a Octets, parts: &mut Parts<'a>) {
        match self {
            // Its length tells the kind: 4, 16, or 0 where nobody found an address.
            Subject::Address => parts.push(octets.as_slice()),
            Subject::Header(name) => push_value(header(&exchange.headers, name), ONE, parts),
            Subject::ApiKey => match checked_key(exchange) {
                Some(key) => push_checked(exchange, Some(key), parts),
                None => api_key(&exchange.headers, parts),
            },
            Subject::User => push_checked(exchange, exchange.identity.as_ref().map(|identity| identity.user()), parts),
            Subject::Tenant => {
                push_checked(exchange, exchange.identity.as_ref().and_then(|identity| identity.tenant()), parts);
            }
            Subject::Plan => {
                push_checked(exchange, exchange.identity.as_ref().and_then(|identity| identity.plan()), parts);
            }
            Subject::Claim(name) => {
                push_checked(exchange, exchange.identity.as_ref().and_then(|identity| identity.claim(name)), parts);
            }
            Subject::Route => match &exchange.route {
                Some(route) => push_value(Value::One(route.name.as_bytes()), ONE, parts),
                None => push_value(Value::Absent, ONE, parts),
            },
        }
    }
}

/// The key of a request that `identity` knows by an API key.
fn checked_key(exchange: &Exchange) -> Option<&str> {
    let identity = exchange.identity.as_ref().filter(|identity| identity.kind() == CredentialKind::ApiKey)?;
    identity.credential()
}

/// A word of who is asking, which means something only together with who says it.
fn push_checked<'a>(exchange: &'a Exchange, word: Option<&'a str>, parts: &mut Parts<'a>) {
    match (&exchange.identity, word) {
        (Some(identity), Some(word)) => {
            parts.push(CHECKED);
            parts.push(identity.issuer().as_bytes());
            parts.push(word.as_bytes());
        }
        _ => parts.push(ABSENT),
    }
}

/// What stands in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'a> {
    Absent,
    One(&'a [u8]),
    /// More than one: which of them the upstream believes is not known, so none is.
    Several,
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Value<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Value::Absent,
        (Some(value), None) => Value::One(value.as_bytes()),
        (Some(_), Some(_)) => Value::Several,
    }
}

fn push_value<'a>(value: Value<'a>, kind: &'static [u8], parts: &mut Parts<'a>) {
    match value {
        Value::Absent => parts.push(ABSENT),
        Value::Several => parts.push(SEVERAL),
        Value::One(value) => {
            parts.push(kind);
            parts.push(value);
        }
    }
}

/// `X-API-Key` or the bearer text. A request with both has several: otherwise whoever authenticates with the one could
/// get a fresh limit by inventing the other.
fn api_key<'a>(headers: &'a HeaderMap, parts: &mut Parts<'a>) {
    let key = header(headers, &API_KEY);
    let bearer = match header(headers, &AUTHORIZATION) {
        Value::One(text) => bearer(text).map_or(Value::Absent, Value::One),
        other => other,
    };
    match (key, bearer) {
        (key, Value::Absent) => push_value(key, ONE, parts),
        (Value::Absent, bearer) => push_value(bearer, BEARER, parts),
        _ => parts.push(SEVERAL),
    }
}

/// The text after `Bearer`, in whatever case and with whatever space around it (RFC 9110, section 11.4).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let authorization = authorization.trim_ascii_start();
    let (scheme, text) = authorization.split_at_checked(6)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && text.first().is_none_or(u8::is_ascii_whitespace);
    is_bearer.then(|| text.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_back() {
        for word in ["address", "api_key", "route", "header:x-tenant", "user", "tenant", "plan", "claim:org.id"] {
            assert_eq!(word.parse::<Subject>().unwrap().to_string(), word);
        }
        assert_eq!("header:X-Tenant".parse::<Subject>().unwrap(), "header:x-tenant".parse().unwrap());
    }

    #[test]
    fn words_that_do_not_work_say_why() {
        for word in ["", "ip", "Address", "headers:x", "claim", "claim:", "User"] {
            assert_eq!(word.parse::<Subject>(), Err(WrongWord::Unknown(word.to_owned())));
        }
        for name in ["", "a b", "x:y", "é"] {
            assert_eq!(format!("header:{name}").parse::<Subject>(), Err(WrongWord::NoHeader(name.to_owned())));
        }
        assert!(matches!("header:X-Forwarded-For".parse::<Subject>(), Err(WrongWord::AnAddress(_))));
    }

    #[test]
    fn bearer_texts_are_found_however_they_are_written() {
        for text in ["Bearer abc", "bearer abc", "BEARER   abc ", " Bearer\tabc"] {
            assert_eq!(bearer(text.as_bytes()), Some(&b"abc"[..]), "{text}");
        }
        assert_eq!(bearer(b"Bearer"), Some(&b""[..]));
        for text in ["Basic abc", "Bearerabc", "Bear", ""] {
            assert_eq!(bearer(text.as_bytes()), None, "{text}");
        }
    }
}
