//! Header hygiene between two connections: what concerns only one hop never crosses (RFC 9110, section 7.6.1).
//!
//! `remove_nominated` runs before the guards, so that a client's `Connection` can never name away what they set
//! (ATTACKS row 36); the fixed hop-by-hop fields go when the request leaves and when the response comes.
//!
//! Invariant: framing is hyper's alone; no `Transfer-Encoding` is ever copied from one side to the other.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_guards::guard::ResponseHead;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes the fields that the client's `Connection` names, but never those that frame or address the message.
pub fn remove_nominated(headers: &mut HeaderMap) {
    let Some(connection) = headers.get(CONNECTION) else { return };
    if is_plain(connection.as_bytes()) && headers.get_all(CONNECTION).iter().nth(1).is_none() {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

fn is_plain(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// Removes what concerns only the client's connection. `Expect` is answered here, not by the upstream.
pub fn clean_request(headers: &mut HeaderMap) {
    remove_if(headers, |name| {
        is_hop_by_hop(name) || matches!(*name, EXPECT | PROXY_AUTHORIZATION) || *name == HTTP2_SETTINGS
    });
}

/// Removes what concerns only the upstream's connection, what its `Connection` names included.
pub fn clean_response(headers: &mut HeaderMap) {
    remove_nominated(headers);
    remove_if(headers, |name| is_hop_by_hop(name) || *name == PROXY_AUTHENTICATE);
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TRANSFER_ENCODING | TE | TRAILER | UPGRADE)
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// Most messages carry at most one such field, so one look at all names is cheaper than asking for each.
fn remove_if(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_unwanted(name)).cloned() {
        headers.remove(name);
    }
}

/// Whether a response says two different things about its length (ATTACKS row 38).
#[must_use]
pub fn is_ambiguous(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    (first.is_some() && headers.contains_key(TRANSFER_ENCODING)) || lengths.any(|other| Some(other) != first)
}

/// `Date` as RFC 9110, section 5.6.7 writes it.
#[must_use]
pub fn date(unix_millis: u64) -> HeaderValue {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_millis);
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).expect("a date is visible ASCII")
}

/// A whole response as bytes, for what is answered without hyper.
#[must_use]
pub fn render(head: &ResponseHead, body: &Bytes) -> Vec<u8> {
    let mut text = String::with_capacity(1024);
    let reason = head.status.canonical_reason().unwrap_or("");
    // Writing to a String cannot fail.
    let _ = write!(text, "HTTP/1.1 {} {reason}\r\n", head.status.as_u16());
    let mut bytes = text.into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut map, (name, value)| {
                map.append(name, value);
                map
            },
        )
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn row_36_a_client_cannot_name_away_host_or_framing() {
        let mut headers = map(&[
            ("connection", "close, Content-Length, X-Secret, host"),
            ("connection", "x-other"),
            ("content-length", "3"),
            ("host", "a"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-kept", "1"),
        ]);
        remove_nominated(&mut headers);
        assert_eq!(names(&headers), ["connection", "content-length", "host", "x-kept"]);
    }

    #[test]
    fn row_37_hop_by_hop_fields_stay_on_their_hop() {
        let mut headers = map(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x-checksum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic eA=="),
            ("accept", "*/*"),
        ]);
        clean_request(&mut headers);
        assert_eq!(names(&headers), ["accept"]);
    }

    #[test]
    fn row_38_two_lengths_are_ambiguous() {
        assert!(is_ambiguous(&map(&[("content-length", "3"), ("transfer-encoding", "chunked")])));
        assert!(is_ambiguous(&map(&[("content-length", "3"), ("content-length", "4")])));
        assert!(!is_ambiguous(&map(&[("content-length", "3")])));
        assert!(!is_ambiguous(&map(&[("transfer-encoding", "chunked")])));
    }
}
