//! A request to go on in another protocol (`Upgrade`, RFC 9110 section 7.8; WebSocket, RFC 6455): who may ask, and when it is
//! granted.
//!
//! The request is passed on with `Upgrade` only where the route allows the protocol. Only an upstream's 101 that names the
//! same protocol switches; then `tunnel` carries bytes. After any other answer the client's connection closes, so that what
//! the client sent ahead is never read as a request (RFC 9931).
//!
//! Invariant: not a byte is tunnelled before the upstream has agreed.

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use hyper::upgrade::Upgraded;

use super::pool::Lease;

/// What a route lets switch when it says nothing.
const WEBSOCKET: &str = "websocket";

const SEC_WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
/// Sixteen bytes in base64.
const KEY_LENGTH: usize = 24;

/// One request's wish to switch, and what became of it.
#[derive(Default)]
pub struct Switch {
    wanted: Option<HeaderValue>,
    /// The route allows it, and the upstream was asked.
    is_asked: bool,
    /// The upstream's end, once it has agreed.
    pub other_end: Option<Upgraded>,
    /// What keeps the tunnel counted among the requests in flight to its target.
    pub lease: Option<Lease>,
}

impl Switch {
    /// Reads the wish from a head as it arrived. What is no well-formed wish (ATTACKS row 34) is none, and `Upgrade` is then
    /// dropped like every other field of one hop.
    #[must_use]
    pub fn wanted(head: &Parts) -> Switch {
        let mut fields = head.headers.get_all(UPGRADE).iter();
        let wanted = match (fields.next(), fields.next()) {
            (Some(protocol), None) if is_wish(head, protocol) => Some(protocol.clone()),
            _ => None,
        };
        Switch { wanted, is_asked: false, other_end: None, lease: None }
    }

    /// Whether the client may already be sending another protocol.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// The protocol to ask the upstream for, where the route allows it. `allowed` is the route's list, if it has one. Only
    /// what was granted can be answered by a 101.
    pub fn grant(&mut self, allowed: Option<&[String]>) -> Option<&HeaderValue> {
        let is_allowed = |protocol: &&HeaderValue| match allowed {
            None => protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()),
            Some(allowed) => allowed.iter().any(|name| protocol.as_bytes().eq_ignore_ascii_case(name.as_bytes())),
        };
        let granted = self.wanted.as_ref().filter(is_allowed);
        self.is_asked = granted.is_some();
        granted
    }

    /// Whether an upstream's 101 is the answer to this wish.
    #[must_use]
    pub fn is_answered_by(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(UPGRADE).iter();
        match (&self.wanted, fields.next(), fields.next()) {
            (Some(wanted), Some(agreed), None) if self.is_asked => {
                agreed.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()) && names_upgrade(headers)
            }
            _ => false,
        }
    }
}

/// The two fields that ask for a switch, or agree to one.
pub fn write(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

fn is_wish(head: &Parts, protocol: &HeaderValue) -> bool {
    // HTTP/2 has no such field, HTTP/1.0 may not use it, and `h2c` was dropped from HTTP/2 (RFC 9113, section 3.1).
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && names_upgrade(&head.headers)
        && is_one_protocol(protocol.as_bytes())
        && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c")
        && (!protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()) || is_websocket(&head.headers))
}

/// One name, with or without a version.
fn is_one_protocol(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._/+".contains(byte))
}

/// What every WebSocket client sends (RFC 6455, section 4.1).
fn is_websocket(headers: &HeaderMap) -> bool {
    let only = |name: &HeaderName| {
        let mut fields = headers.get_all(name).iter();
        fields.next().filter(|_| fields.next().is_none())
    };
    only(&SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")
        && only(&SEC_WEBSOCKET_KEY).is_some_and(|key| key.len() == KEY_LENGTH)
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(method: &str, version: Version, fields: &[(&'static str, &'static str)]) -> Switch {
        let mut request = http::Request::new(());
        *request.method_mut() = method.parse().expect("valid");
        *request.version_mut() = version;
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        Switch::wanted(&request.into_parts().0)
    }

    const WHOLE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn row_34_only_a_whole_wish_is_one() {
        assert!(wish("GET", Version::HTTP_11, &WHOLE).is_wanted());
        assert!(!wish("POST", Version::HTTP_11, &WHOLE).is_wanted());
        assert!(!wish("GET", Version::HTTP_10, &WHOLE).is_wanted());
        for missing in WHOLE {
            let fields: Vec<_> = WHOLE.iter().copied().filter(|field| *field != missing).collect();
            assert!(!wish("GET", Version::HTTP_11, &fields).is_wanted(), "without {missing:?}");
        }
        for (name, value) in [("upgrade", "h2c"), ("sec-websocket-version", "12"), ("sec-websocket-key", "short")] {
            let fields = WHOLE.map(|field| if field.0 == name { (name, value) } else { field });
            assert!(!wish("GET", Version::HTTP_11, &fields).is_wanted(), "{name}: {value}");
        }
        let twice: Vec<_> = WHOLE.iter().copied().chain([("upgrade", "websocket")]).collect();
        assert!(!wish("GET", Version::HTTP_11, &twice).is_wanted());
    }

    #[test]
    fn a_route_says_what_may_switch() {
        let mut switch = wish("GET", Version::HTTP_11, &WHOLE);
        assert!(switch.grant(None).is_some());
        assert!(switch.grant(Some(&["websocket".to_owned()])).is_some());
        assert!(switch.grant(Some(&[])).is_none());
        let mut other = wish("GET", Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "imap/4")]);
        assert!(other.is_wanted() && other.grant(None).is_none());
        assert!(other.grant(Some(&["IMAP/4".to_owned()])).is_some());
    }

    #[test]
    fn only_the_same_protocol_is_an_answer() {
        let mut switch = wish("GET", Version::HTTP_11, &WHOLE);
        let agreed = |switch: &Switch, protocol: &'static str| {
            let mut headers = HeaderMap::new();
            write(&mut headers, &HeaderValue::from_static(protocol));
            switch.is_answered_by(&headers)
        };
        assert!(!agreed(&switch, "websocket"), "nobody was asked");
        assert!(switch.grant(None).is_some());
        assert!(agreed(&switch, "websocket"));
        assert!(!agreed(&switch, "h2c"));
        assert!(!switch.is_answered_by(&HeaderMap::new()));
    }
}
