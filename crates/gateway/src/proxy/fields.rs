//! Header hygiene between two connections: what concerns only one hop never crosses (RFC 9110, section 7.6.1).
//!
//! `remove_nominated` runs before the guards, so that a client's `Connection` can never name away what they set
//! (ATTACKS row 36); the fixed hop-by-hop fields go when the request leaves and when the response comes.
//!
//! Invariant: framing is hyper's alone; no `Transfer-Encoding` is ever copied from one side to the other.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_guards::guard::ResponseHead;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes the fields that the client's `Connection` names, but never those that frame or address the message, and never
/// those by which proxies name the client.
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
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH | TRANSFER_ENCODING) && !is_of_proxies(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// Fields that trusted proxies set and the guards read or rewrite; naming them away would hide the client.
fn is_of_proxies(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "forwarded" | "x-request-id")
}

fn is_plain(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// Whether a value begins or ends with white space. HTTP/1 parsers cut it away; in HTTP/2 it is malformed (RFC 9113, section
/// 8.2.1), and passed on it would be one value to the guards and another to the upstream.
#[must_use]
pub fn has_blank_edges(headers: &HeaderMap) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    headers.values().any(|value| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last()))
}

/// Makes one `Cookie` of several: HTTP/2 clients may send each pair in a field of its own, HTTP/1 servers read one field
/// (RFC 9113, section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let pairs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Each part is a valid value, so they are one together.
    if let Ok(joined) = HeaderValue::from_bytes(&pairs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
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

/// Whether a response says something about its length that two readers could understand differently (ATTACKS row 38):
/// a length beside chunks, lengths that differ or are no plain decimal, a coding that is not exactly `chunked`.
#[must_use]
pub fn is_ambiguous(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    let is_odd_length = length.is_some_and(|length| !is_plain_decimal(length.as_bytes()));
    let is_odd_coding = coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    (length.is_some() && coding.is_some())
        || is_odd_length
        || is_odd_coding
        || codings.next().is_some()
        || lengths.any(|other| Some(other) != length)
}

fn is_plain_decimal(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text.first().is_some_and(|first| *first != b'0'))
}

/// Whether an answer has an end of its own. Without one it ends with its connection (RFC 9112, section 6.3), also where it was cut.
#[must_use]
pub fn has_end(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING)
}

/// Whether a response head speaks of a body.
#[must_use]
pub fn names_a_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// Removes what only looks like one of `fields`: servers that fold `_` and `.` into `-` (CGI, WSGI) could not tell it from
/// the gateway's own (ATTACKS row 49).
pub fn remove_twins(headers: &mut HeaderMap, fields: &[(HeaderName, HeaderValue)]) {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    let is_twin = |name: &HeaderName| {
        fields
            .iter()
            .any(|(field, _)| name != field && name.as_str().bytes().map(fold).eq(field.as_str().bytes().map(fold)))
    };
    remove_if(headers, is_twin);
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
    fn row_49_a_twin_of_the_gateways_own_field_is_removed() {
        let mut headers =
            map(&[("x_gateway_user", "admin"), ("x.gateway.user", "admin"), ("x-gateway-user", "c"), ("x-other", "1")]);
        let own = [(HeaderName::from_static("x-gateway-user"), HeaderValue::from_static("gw"))];
        remove_twins(&mut headers, &own);
        assert_eq!(names(&headers), ["x-gateway-user", "x-other"]);
    }

    #[test]
    fn cookies_of_several_fields_become_one() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        let all: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(all, ["a=1; b=2; c=3"]);
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
        for odd in ["5, 5", "0005", "+5", ""] {
            assert!(is_ambiguous(&map(&[("content-length", odd)])), "{odd}");
        }
        for odd in ["gzip", "gzip, chunked", "identity"] {
            assert!(is_ambiguous(&map(&[("transfer-encoding", odd)])), "{odd}");
        }
        assert!(!is_ambiguous(&map(&[("content-length", "0")])));
        assert!(!is_ambiguous(&map(&[("content-length", "3")])));
        assert!(!is_ambiguous(&map(&[("transfer-encoding", "chunked")])));
    }
}
