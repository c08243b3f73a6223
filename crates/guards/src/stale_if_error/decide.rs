//! Which answers may be kept, for how long they may be used, and what ends them: RFC 9111 for shared caches, and stricter.
//!
//! Invariant: pure; nothing here knows what is kept.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, DATE, EXPIRES, RANGE, SET_COOKIE, TRAILER, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use portcullis_core::refusal::Code;

use super::cache_control::CacheControl;
use crate::exchange::Body;
use crate::guard::ResponseHead;

/// Most fields that `Vary` may name.
const MOST_NOMINATED: usize = 8;
/// Most bytes of the header fields of an answer that is kept.
const MOST_FIELD_BYTES: usize = 16 * 1024;
/// Most bytes of the request fields that chose it.
const MOST_NOMINATED_BYTES: usize = 2 * 1024;
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// What a request is to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Its answer may be kept, and it may get a kept one.
    Keeps,
    /// It may only get a kept one.
    Serves,
    /// Its success ends what is kept (RFC 9111, section 4.4).
    Ends,
}

impl Use {
    /// What a request is to the guard, or why it is nothing.
    pub(super) fn of(
        method: &Method,
        headers: &HeaderMap,
        body: Body,
        has_credentials: bool,
    ) -> Result<Use, &'static str> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return if method.is_safe() { Err("method") } else { Ok(Use::Ends) };
        }
        if has_credentials || headers.contains_key(AUTHORIZATION) {
            return Err("credentials");
        }
        if body != Body::Absent || headers.contains_key(UPGRADE) {
            return Err("body");
        }
        // A kept answer is no secret to anybody; a request that must not be remembered may still be given one.
        let is_secret = headers.get_all(CACHE_CONTROL).iter().any(|line| {
            line.to_str().is_ok_and(|line| line.split(',').any(|word| word.trim().eq_ignore_ascii_case("no-store")))
        });
        let is_kept = *method == Method::GET && !is_secret && !headers.contains_key(RANGE);
        Ok(if is_kept { Use::Keeps } else { Use::Serves })
    }
}

/// Under which terms an answer is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// How old it was when it came.
    pub(super) age_at_first: Duration,
    /// How old it may be before it is stale.
    pub(super) fresh_for: Duration,
    /// How long after that it may be used by its own word.
    pub(super) stale_for: Duration,
    /// The request fields that chose it, with the values they had.
    pub(super) nominated: Nominated,
}

/// Request fields that `Vary` names, with all their values.
type Nominated = Box<[(HeaderName, Vec<HeaderValue>)]>;

impl Terms {
    /// For how many seconds it will be fresh, or negative: has been stale. `None` when it may not be used any more.
    pub(super) fn ttl_seconds(&self, age: Duration, stale_for: Duration) -> Option<i64> {
        let most = self.fresh_for.saturating_add(self.stale_for.min(stale_for));
        if age >= most {
            return None;
        }
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Some(seconds(self.fresh_for) - seconds(age))
    }

    /// Whether it is the answer to a request with these fields (RFC 9111, section 4.1).
    pub(super) fn is_for(&self, fields: &HeaderMap) -> bool {
        self.nominated.iter().all(|(name, values)| fields.get_all(name).iter().eq(values.iter()))
    }
}

/// Whether this is a failure of the upstream that a kept answer may stand in for (RFC 5861, section 4). `refused` is why
/// the gateway itself said it.
pub(super) fn is_failure(status: StatusCode, refused: Option<Code>) -> bool {
    // A defect of the gateway's own is to be seen.
    matches!(status.as_u16(), 500 | 502 | 503 | 504) && refused != Some(Code::Internal)
}

/// Whether an answer that is not kept tells that an older one is no longer right. Other failures and 304 tell nothing.
///
/// 401 and 403 speak about who asks, and so does every answer to a request with a cookie.
pub(super) fn ends_what_is_kept(request: &HeaderMap, status: StatusCode) -> bool {
    let is_changed = matches!(status.as_u16(), 200..=303 | 305..=399 | 404 | 410);
    is_changed && !request.contains_key(COOKIE)
}

/// The terms under which the answer may be kept, if it may. `stale_for` is the operator's; the answer may shorten it.
/// `always` are request fields that choose the answer whatever `Vary` says.
pub(super) fn terms(
    request: &HeaderMap,
    head: &ResponseHead,
    unix_millis: u64,
    stale_for: Duration,
    always: &[HeaderName],
) -> Option<Terms> {
    let headers = &head.headers;
    let said = CacheControl::of(headers);
    let is_out = said.is_forbidden || headers.contains_key(SET_COOKIE) || headers.contains_key(TRAILER);
    // Words to other caches that stand between a service and everybody.
    let is_targeted = [CDN_CACHE_CONTROL, SURROGATE_CONTROL]
        .iter()
        .any(|field| headers.contains_key(field) && CacheControl::read(headers, field).is_forbidden);
    let is_out = is_out || is_targeted;
    if head.status != StatusCode::OK || is_out || bytes_of(headers) > MOST_FIELD_BYTES {
        return None;
    }
    if request.contains_key(COOKIE) && !said.is_public && said.s_maxage.is_none() {
        return None;
    }
    let date = date(headers.get(DATE)).unwrap_or(unix_millis / 1000);
    // What is no date is in the past (RFC 9111, section 5.3).
    let expires = headers.get(EXPIRES).map(|field| self::date(Some(field)).unwrap_or(0).saturating_sub(date));
    let lifetime = said.s_maxage.or(said.max_age).or(expires);
    if lifetime.is_none() && !said.is_public {
        return None;
    }
    // RFC 9111, section 5.2.2.10: `s-maxage` also says that it must not be used once it is stale.
    // Only where it names another time for failures, that holds.
    let is_strict = said.must_revalidate || (said.s_maxage.is_some() && said.stale_if_error.is_none());
    let own = said.stale_if_error.map_or(stale_for, Duration::from_secs);
    let mut age = 0;
    for line in headers.get_all(AGE) {
        // An age that cannot be read may be any.
        age = age.max(line.to_str().ok()?.parse::<u64>().ok()?);
    }
    let apparent = (unix_millis / 1000).saturating_sub(date);
    Some(Terms {
        age_at_first: Duration::from_secs(apparent.max(age)),
        fresh_for: Duration::from_secs(lifetime.unwrap_or(0)),
        stale_for: if is_strict { Duration::ZERO } else { own },
        nominated: nominated(request, headers, always)?,
    })
}

/// The fields that `Vary` names, as the request has them. `None` for `*`, and where there are too many.
fn nominated(request: &HeaderMap, answer: &HeaderMap, always: &[HeaderName]) -> Option<Nominated> {
    let mut nominated: Vec<(HeaderName, Vec<HeaderValue>)> =
        always.iter().map(|name| (name.clone(), values_of(request, name))).collect();
    let most = always.len() + MOST_NOMINATED;
    for line in answer.get_all(VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| name != "*")?;
            if nominated.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if nominated.len() == most {
                return None;
            }
            let values = values_of(request, &name);
            nominated.push((copied_name(&name), values));
        }
    }
    // A service that takes `_` for `-` was told something by a field that `Vary` does not name.
    let is_twin = |sent: &HeaderName| {
        sent.as_str().contains('_')
            && nominated.iter().any(|(name, _)| sent.as_str().replace('_', "-") == name.as_str())
    };
    let bytes: usize = nominated.iter().flat_map(|(_, values)| values).map(HeaderValue::len).sum();
    (bytes <= MOST_NOMINATED_BYTES && !request.keys().any(is_twin)).then(|| nominated.into_boxed_slice())
}

fn values_of(request: &HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    request.get_all(name).iter().map(copied).collect()
}

/// A value with memory of its own. The one that came is a piece of the buffer that its whole head was read into.
fn copied(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

fn copied_name(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

/// Header fields with memory of their own.
pub(super) fn copied_fields(headers: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        fields.append(copied_name(name), copied(value));
    }
    fields
}

/// Seconds since 1970.
fn date(field: Option<&HeaderValue>) -> Option<u64> {
    let date = httpdate::parse_http_date(field?.to_str().ok()?).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// What header fields take in memory, about.
pub(super) fn bytes_of(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum()
}

/// How long the body is, as the head says it.
pub(super) fn length_of(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
