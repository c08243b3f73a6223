//! An answer of the accounts: a status, JSON, cookies, and what must be written down before it is given.
//!
//! Invariant: an answer is never stored by anybody, and a cookie always has all of its attributes.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use portcullis_core::refusal::Refusal;
use portcullis_core::secret::Secret;
use portcullis_guards::guard::ResponseHead;
use portcullis_store::sessions::Digest;
use serde_json::Value;

/// An answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) cookies: Vec<Cookie>,
    /// The version of the register that must be written before it is given.
    pub(super) version: u64,
    /// A session that begins with it.
    pub(super) begun: Option<Digest>,
}

/// A cookie that is set, or taken away.
pub(super) struct Cookie {
    pub(super) name: &'static str,
    /// `None` takes it away.
    pub(super) value: Option<Secret>,
    pub(super) seconds: u64,
    /// `Strict` is for what no link from elsewhere needs.
    pub(super) is_strict: bool,
}

impl Reply {
    /// 200 with `body`, once everything up to `version` is written.
    pub(super) fn new(body: Value, version: u64) -> Reply {
        Reply { status: super::OK, body, cookies: Vec::new(), version, begun: None }
    }

    /// Head and body.
    pub(super) fn rendered(self) -> Result<(ResponseHead, Bytes), Refusal> {
        let body = Bytes::from(format!("{}\n", self.body));
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for cookie in &self.cookies {
            // Tokens are made of letters that a field may hold.
            let mut value = HeaderValue::try_from(cookie.rendered()).map_err(|_| Refusal::internal())?;
            value.set_sensitive(true);
            headers.append(SET_COOKIE, value);
        }
        Ok((ResponseHead { status: self.status, headers }, body))
    }
}

impl Cookie {
    fn rendered(&self) -> String {
        let value = self.value.as_ref().map_or("", |value| value.expose());
        let seconds = if self.value.is_some() { self.seconds } else { 0 };
        let site = if self.is_strict { "Strict" } else { "Lax" };
        format!("{}={value}; Path=/; Secure; HttpOnly; SameSite={site}; Max-Age={seconds}", self.name)
    }
}
