//! What a request and its answer say about a login, as functions over what was seen of them.
//!
//! What cannot be read counts: a body that is cut, broken, compressed or of an unknown kind is taken to carry credentials,
//! because whoever guesses chooses its form. Only a whole JSON or form body without any credential field, or no body at all,
//! is none.
//!
//! Invariant: no clock, no counters, no I/O.

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

use super::config::{Rules, text_of};
use crate::exchange::Seen;
use crate::guard::ResponseHead;

/// The longest name of an account that is told from others, in bytes.
const LONGEST_ACCOUNT_BYTES: usize = 256;

/// What the `Authorization` field of a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    /// There is none.
    Absent,
    /// `Basic`, with its user where it can be read.
    Basic(Option<String>),
    /// A bearer token: the same one again is no new guess.
    Bearer,
    /// Anything else.
    Other,
}

/// In which form a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    UrlEncoded,
    Unknown,
}

/// What a request carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) are_there: bool,
    pub(super) account: Option<String>,
}

/// Reads the `Authorization` field.
pub(super) fn authorization(headers: &HeaderMap) -> Authorization {
    use base64::Engine as _;
    let Some(value) = headers.get(AUTHORIZATION) else { return Authorization::Absent };
    let bytes = value.as_bytes();
    let (scheme, rest) = match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) => (&bytes[..at], bytes[at + 1..].trim_ascii()),
        None => (bytes, &[][..]),
    };
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Authorization::Bearer;
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return if bytes.is_empty() { Authorization::Absent } else { Authorization::Other };
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest).ok();
    let user = decoded.and_then(|decoded| {
        let end = decoded.iter().position(|byte| *byte == b':')?;
        account(&String::from_utf8_lossy(&decoded[..end]))
    });
    Authorization::Basic(user)
}

/// The form of a request's body.
pub(super) fn form(headers: &HeaderMap) -> Form {
    if headers.contains_key(CONTENT_ENCODING) {
        return Form::Unknown;
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return Form::Unknown };
    let essence = only.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    if essence == b"application/json" || (essence.starts_with(b"application/") && essence.ends_with(b"+json")) {
        Form::Json
    } else if essence == b"application/x-www-form-urlencoded" {
        Form::UrlEncoded
    } else {
        Form::Unknown
    }
}

/// What the body of a request carries. `seen` is `None` when nobody looked at it.
pub(super) fn of_body(rules: &Rules, form: Form, seen: Option<&Seen>) -> Credentials {
    let unreadable = Credentials { are_there: true, account: None };
    let Some(seen) = seen else { return unreadable };
    if seen.bytes.is_empty() && !seen.is_cut {
        return Credentials::default();
    }
    match form {
        Form::Unknown => unreadable,
        _ if seen.is_cut => unreadable,
        Form::Json => match serde_json::from_slice::<Value>(&seen.bytes) {
            Ok(value) => {
                let named = rules.account_json.as_ref().and_then(|pointer| value.pointer(pointer)).map(text_of);
                let account = named.and_then(|name| account(&name));
                Credentials { are_there: account.is_some() || holds(&value, &rules.credentials), account }
            }
            Err(_) => unreadable,
        },
        Form::UrlEncoded => of_form(rules, &seen.bytes),
    }
}

/// Whether a field of one of these names stands anywhere in `value` and is not empty.
fn holds(value: &Value, names: &[String]) -> bool {
    let is_empty = |value: &Value| matches!(value, Value::Null) || value.as_str().is_some_and(str::is_empty);
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            (!is_empty(value) && names.contains(&name.to_ascii_lowercase())) || holds(value, names)
        }),
        Value::Array(items) => items.iter().any(|item| holds(item, names)),
        _ => false,
    }
}

fn of_form(rules: &Rules, bytes: &[u8]) -> Credentials {
    let mut found = Credentials::default();
    for pair in bytes.split(|byte| *byte == b'&') {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = (plain(&pair[..at]), plain(pair.get(at + 1..).unwrap_or_default()));
        if value.is_empty() {
            continue;
        }
        if rules.account_form.as_ref() == Some(&name) {
            found.account = account(&value);
        }
        // `user[password]`, as some frameworks write it, ends in the name.
        let last = name.trim_end_matches(']').rsplit(['[', '.']).next().unwrap_or_default().to_ascii_lowercase();
        found.are_there |= rules.credentials.contains(&last);
    }
    found.are_there |= found.account.is_some();
    found
}

/// A form's text without its encoding; what is encoded wrongly stays as it is.
fn plain(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut place = 0;
    while let Some(byte) = text.get(place) {
        place += 1;
        match (byte, digit(text.get(place)), digit(text.get(place + 1))) {
            (b'+', ..) => bytes.push(b' '),
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                place += 2;
            }
            (other, ..) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of an account in the form in which it is counted: services differ in how they treat case and spaces, and who
/// guesses must not get a fresh count by them.
fn account(name: &str) -> Option<String> {
    let mut name = name.trim().to_lowercase();
    let end = (0..=LONGEST_ACCOUNT_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name.truncate(end);
    (!name.is_empty()).then_some(name)
}

/// Whether an answer's head is that of a failed login, as far as it says so.
pub(super) fn may_have_failed(rules: &Rules, head: &ResponseHead) -> bool {
    let has_status = rules.statuses.is_empty() || rules.statuses.contains(&head.status.as_u16());
    let has_header = rules.header.as_ref().is_none_or(|(name, value)| {
        let mut lines = head.headers.get_all(name).iter();
        lines.any(|line| value.as_ref().is_none_or(|value| line == value))
    });
    has_status && has_header
}

/// Whether an answer's body is that of a failed login; `None` when it cannot be read.
pub(super) fn has_failed(rules: &Rules, seen: &Seen) -> Option<bool> {
    let Some((pointer, equals)) = &rules.json else { return Some(true) };
    if seen.is_cut {
        return None;
    }
    let value: Value = serde_json::from_slice(&seen.bytes).ok()?;
    let found = value.pointer(pointer).filter(|found| !found.is_null());
    Some(found.is_some_and(|found| equals.as_ref().is_none_or(|equals| *equals == text_of(found))))
}
