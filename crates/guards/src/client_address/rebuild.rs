//! Writes the forwarding fields for the upstream: what the gateway itself saw, and the hops it believes.
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) list the believed hops, the client first, the peer last. `-Proto` and
//! `-Host` tell what the client used. `Forwarded` says host and protocol in the client's element only.
//!
//! Invariant: whatever stood in these four fields is gone, also when there is nothing to put in its place.

use std::io::Write;
use std::net::IpAddr;

use arrayvec::ArrayVec;
use http::HeaderValue;
use http::header::{FORWARDED, HOST};

use super::decide::{Decision, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, is_host};
use crate::exchange::Exchange;
use crate::short_field::short_field;

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
            put_element(&mut elements, client.address, &text);
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
                put_element(&mut elements, *hop, &text);
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

fn put_element(line: &mut Line, address: IpAddr, text: &AddressText) {
    put(line, b"for=");
    if address.is_ipv6() {
        put(line, b"\"[");
        put(line, text.as_bytes());
        put(line, b"]\"");
    } else {
        put(line, text.as_bytes());
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
    short_field(line).expect("addresses and checked hosts are visible ASCII")
}

/// An address as text.
pub(crate) struct AddressText {
    /// 39 bytes are the longest IPv6 address.
    bytes: [u8; 40],
    length: usize,
}

impl AddressText {
    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes an address; IPv4 by hand, because every request does it.
pub(crate) fn address_text(address: IpAddr) -> AddressText {
    let mut text = AddressText { bytes: [0; 40], length: 0 };
    match address {
        IpAddr::V4(v4) => {
            for octet in v4.octets() {
                // Three digits and a dot are written always, and what is too much is written over.
                let (digits, length) = OCTETS[usize::from(octet)];
                text.bytes[text.length..text.length + 4].copy_from_slice(&digits);
                text.length += length;
            }
            text.length -= 1;
        }
        IpAddr::V6(v6) => {
            let mut rest = &mut text.bytes[..];
            write!(rest, "{v6}").expect("an IPv6 address has at most 39 bytes");
            text.length = 40 - rest.len();
        }
    }
    text
}

/// Each octet with a dot behind it, and how long that is.
static OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut value = 0;
    while value < octets.len() {
        let digits = [b'0' + (value / 100) as u8, b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8];
        octets[value] = match value {
            0..10 => ([digits[2], b'.', 0, 0], 2),
            10..100 => ([digits[1], digits[2], b'.', 0], 3),
            _ => ([digits[0], digits[1], digits[2], b'.'], 4),
        };
        value += 1;
    }
    octets
};
