//! What can be asked over the control socket and the admin listener: one table of method, path, action and handler.
//!
//! The scope that a token needs, and the record of who did it, are named by each row's `action`. A new row needs nothing but a handler: `fn(Arc<Gate>, Call) -> Pending`.
//!
//! Invariant: every row is reached by exactly one method and path.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{accounts, acts, bans, explain, life, openapi, permissions, read_only, tokens};
use crate::life::Gate;

/// What can be asked.
pub static ROUTES: &[Row] = &[
    Row { method: Method::GET, path: "/api/v1/audit", action: "audit.list", handle: acts::list },
    Row { method: Method::GET, path: "/api/v1/openapi.json", action: "openapi.read", handle: openapi::show },
    Row { method: Method::GET, path: "/api/v1/life", action: "life.read", handle: life::show },
    Row { method: Method::GET, path: "/api/v1/read-only", action: "read_only.list", handle: read_only::list },
    Row { method: Method::PUT, path: "/api/v1/read-only/{}", action: "read_only.set", handle: read_only::set },
    Row { method: Method::POST, path: "/api/v1/explain", action: "explain.read", handle: explain::ask },
    Row { method: Method::GET, path: "/api/v1/bans", action: "bans.list", handle: bans::list },
    Row { method: Method::POST, path: "/api/v1/bans", action: "bans.add", handle: bans::add },
    Row { method: Method::GET, path: "/api/v1/bans/{}", action: "bans.show", handle: bans::show },
    Row { method: Method::DELETE, path: "/api/v1/bans/{}", action: "bans.remove", handle: bans::remove },
    Row { method: Method::GET, path: "/api/v1/permissions", action: "permissions.list", handle: permissions::list },
    Row {
        method: Method::POST,
        path: "/api/v1/permissions/changes",
        action: "permissions.change",
        handle: permissions::make,
    },
    Row {
        method: Method::POST,
        path: "/api/v1/permissions/check",
        action: "permissions.check",
        handle: permissions::check,
    },
    Row { method: Method::GET, path: "/api/v1/accounts", action: "accounts.list", handle: accounts::list },
    Row { method: Method::POST, path: "/api/v1/accounts", action: "accounts.add", handle: accounts::add },
    Row { method: Method::GET, path: "/api/v1/accounts/{}", action: "accounts.show", handle: accounts::show },
    Row { method: Method::POST, path: "/api/v1/accounts/{}", action: "accounts.update", handle: accounts::update },
    Row { method: Method::GET, path: "/api/v1/sessions/{}", action: "sessions.list", handle: accounts::list_sessions },
    Row {
        method: Method::DELETE,
        path: "/api/v1/sessions/{}",
        action: "sessions.remove",
        handle: accounts::end_sessions,
    },
    Row { method: Method::GET, path: "/api/v1/keys/{}", action: "keys.list", handle: accounts::list_keys },
    Row { method: Method::POST, path: "/api/v1/keys/{}", action: "keys.add", handle: accounts::add_key },
    Row { method: Method::DELETE, path: "/api/v1/keys/{}", action: "keys.remove", handle: accounts::revoke_key },
    Row { method: Method::GET, path: "/api/v1/tokens/revoked", action: "tokens.list", handle: tokens::list },
    Row { method: Method::POST, path: "/api/v1/tokens/revoked", action: "tokens.revoke", handle: tokens::revoke },
];

/// One thing that can be asked.
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path. A last segment `{}` stands for any one segment, which the handler gets decoded.
    pub path: &'static str,
    /// Its name for permissions and audit, as `bans.add`.
    pub action: &'static str,
    /// Who answers.
    pub handle: fn(Arc<Gate>, Call) -> Pending,
}

impl Row {
    /// Whether it changes something, so that it is written down who asked for it. The last word of the action says it.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(self.action.rsplit('.').next(), Some("read" | "list" | "show" | "check" | "validate"))
    }
}

/// An answer that may take a while. It runs on the calling thread, so it must never block.
pub type Pending = Pin<Box<dyn Future<Output = Answer>>>;

/// What was asked.
pub struct Call {
    /// The last segment of the path, decoded, where the row's path ends in `{}`; else empty.
    pub segment: String,
    /// The query as it was sent, without the `?`.
    pub query: String,
    /// The body as JSON; `null` without one.
    pub body: Value,
}

impl Call {
    /// The value of `name` in the query, decoded; the first where there are several.
    #[must_use]
    pub fn asked(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| decoded(value))
    }
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// 200 with `body`.
    #[must_use]
    pub fn ok(body: Value) -> Answer {
        Answer { status: StatusCode::OK, body }
    }

    /// A "no" with its reason, which the command prints.
    #[must_use]
    pub fn wrong(status: StatusCode, why: impl Into<String>) -> Answer {
        Answer { status, body: json!({ "error": why.into() }) }
    }

    /// The same, for a handler that is done at once.
    #[must_use]
    pub fn now(self) -> Pending {
        Box::pin(std::future::ready(self))
    }
}

/// What stands at a path.
pub enum Found {
    /// A row, and the segment that its `{}` stands for.
    Row(&'static Row, String),
    /// Rows of other methods only, in the form of the `Allow` field.
    OtherMethods(String),
    /// Nothing.
    Nothing,
}

/// Looks for the row of `method` and `path`.
#[must_use]
pub fn find(method: &Method, path: &str) -> Found {
    let mut others = Vec::new();
    for row in ROUTES {
        let Some(segment) = matched(row.path, path) else { continue };
        if row.method == *method {
            return Found::Row(row, segment);
        }
        others.push(row.method.as_str());
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

/// What `{}` at the end of `pattern` stands for in `path`, or nothing at all when they are equal.
fn matched(pattern: &str, path: &str) -> Option<String> {
    match pattern.strip_suffix("{}") {
        Some(before) => {
            let segment = path.strip_prefix(before)?;
            (!segment.is_empty() && !segment.contains('/')).then(|| decoded(segment)).flatten()
        }
        None => (pattern == path).then(String::new),
    }
}

/// Percent-decodes a segment or value; `None` when it is broken or no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        // `from_str_radix` takes a sign, which no percent-encoding has.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_found_by_its_method_and_path_and_nothing_else() {
        for (place, row) in ROUTES.iter().enumerate() {
            let path = row.path.replace("{}", "a%2Fb");
            let Found::Row(found, segment) = find(&row.method, &path) else { panic!("{path} is not found") };
            assert!(std::ptr::eq(found, &ROUTES[place]), "{path} is found as {}", found.path);
            assert_eq!(segment, if row.path.ends_with("{}") { "a/b" } else { "" });
            assert!(row.path.starts_with("/api/v1/") && row.action.contains('.'), "{path}");
            assert!(row.method != Method::GET || !row.changes(), "{}: what GET does is not written down", row.action);
        }
        assert!(matches!(find(&Method::GET, "/api/v1/nothing"), Found::Nothing));
        assert!(matches!(find(&Method::PATCH, "/api/v1/life"), Found::OtherMethods(allowed) if allowed == "GET"));
    }

    #[test]
    fn what_is_encoded_wrongly_is_not_guessed_at() {
        for (text, expected) in [("a%2fb", Some("a/b")), ("%", None), ("%2", None), ("%+1", None), ("%ff", None)] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_query_is_read_by_name() {
        let call = Call { segment: String::new(), query: "a=1&after=x%2Fy&after=z".to_owned(), body: Value::Null };
        assert_eq!((call.asked("after").as_deref(), call.asked("b")), (Some("x/y"), None));
    }
}
