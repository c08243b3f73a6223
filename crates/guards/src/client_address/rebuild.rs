//! Writes the forwarding fields for the upstream: what the gateway itself saw, and the hops it believes.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) list the believed hops, the client first, the peer last. `-Proto` and
//! `-Host` tell what the client used. `Forwarded` says host and protocol in the client's element only.
//!
//! Invariant: whatever stood in these four fields is gone, also when there is nothing to put in its place.

use std::io::Write;
use std::net::IpAddr;

use arrayvec::{ArrayString, ArrayVec};
use http::HeaderValue;
use http::header::{FORWARDED, HOST};

use super::decide::{Decision, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, is_host};
use crate::exchange::Exchange;

/// An address as text; 39 bytes are the longest IPv6 address.
pub(crate) type AddressText = ArrayString<40>;

/// 33 hops at most 49 bytes each, a host and a protocol.
type Line = ArrayVec<u8, 2048>;

/// Overwrites the four fields.
pub(super) fn write(exchange: &mut Exchange, decision: &Decision) {
    let (is_secure, believed_host) = match decision {
        Decision::Direct(_) => (exchange.is_secure, None),
        Decision::Behind(walk) => (walk.is_secure.unwrap_or(exchange.is_secure), walk.host.clone()),
    };
    let proto = if is_secure { "https" } else { "http" };
    let host = believed_host.or_else(|| stated_host(exchange));
    let mut chain = Line::new();
    let mut elements = Line::new();
    match decision {
        Decision::Direct(client) => {
            let text = address_text(client.address);
            put(&mut chain, text.as_bytes());
            put_element(&mut elements, &text);
            put_asked_for(&mut elements, proto, host.as_ref());
        }
        Decision::Behind(walk) => {
            for (index, hop) in walk.hops.iter().rev().enumerate() {
                let text = address_text(*hop);
                if index > 0 {
                    put(&mut chain, b", ");
                    put(&mut elements, b", ");
                }
                put(&mut chain, text.as_bytes());
                put_element(&mut elements, &text);
                if index == 0 {
                    put_asked_for(&mut elements, proto, host.as_ref());
                }
            }
        }
    }
    let headers = &mut exchange.headers;
    headers.insert(&X_FORWARDED_FOR, field(&chain));
    headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    match host {
        Some(host) => headers.insert(&X_FORWARDED_HOST, host),
        None => headers.remove(&X_FORWARDED_HOST),
    };
    headers.insert(FORWARDED, field(&elements));
}

/// The host that this request names: the target's before the field's (RFC 9112, section 3.2.2). `None` when it is not
/// made of what hosts are made of; the route guard refuses such a request.
fn stated_host(exchange: &Exchange) -> Option<HeaderValue> {
    match exchange.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => exchange.headers.get(HOST).cloned(),
    }
    .filter(|host| is_host(host.as_bytes()))
}

fn put(line: &mut Line, text: &[u8]) {
    // The bounds of hops and host make a full line impossible; should they ever not, the line ends early.
    let _ = line.try_extend_from_slice(text);
}

fn put_element(line: &mut Line, address: &str) {
    put(line, b"for=");
    if address.contains(':') {
        put(line, b"\"[");
        put(line, address.as_bytes());
        put(line, b"]\"");
    } else {
        put(line, address.as_bytes());
    }
}

fn put_asked_for(line: &mut Line, proto: &str, host: Option<&HeaderValue>) {
    if let Some(host) = host {
        // Always quoted: a port's colon is no token character.
        put(line, b";host=\"");
        put(line, host.as_bytes());
        put(line, b"\"");
    }
    put(line, b";proto=");
    put(line, proto.as_bytes());
}

fn field(line: &Line) -> HeaderValue {
    HeaderValue::from_bytes(line).expect("addresses and checked hosts are visible ASCII")
}

/// Writes an address; IPv4 by hand, because every request does it.
pub(crate) fn address_text(address: IpAddr) -> AddressText {
    let mut bytes: ArrayVec<u8, 40> = ArrayVec::new();
    match address {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    bytes.push(b'.');
                }
                if octet >= 100 {
                    bytes.push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    bytes.push(b'0' + octet / 10 % 10);
                }
                bytes.push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(bytes, "{v6}");
        }
    }
    let text = std::str::from_utf8(&bytes).expect("addresses are written in ASCII");
    AddressText::from(text).expect("as long as the bytes were")
}
