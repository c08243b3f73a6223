//! Reads chains of addresses from the right: `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! The right end was written by the nearest proxy. Reading from there means that no byte a client put on the left can
//! change how the bytes to its right are understood: an opened quote, for example, swallows nothing that follows.
//!
//! Invariant: nothing panics on any bytes; what is not understood exactly is no hop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderValue;
use http::header::GetAll;

/// The items of a list header, the last item of the last line first, without the space around them. An empty item is an item.
pub(super) struct FromTheRight<'a, L> {
    lines: L,
    rest: Option<&'a [u8]>,
}

impl<'a> FromTheRight<'a, std::iter::Rev<http::header::ValueIter<'a, HeaderValue>>> {
    pub(super) fn new(lines: GetAll<'a, HeaderValue>) -> Self {
        FromTheRight { lines: lines.into_iter().rev(), rest: None }
    }
}

impl<'a, L: Iterator<Item = &'a HeaderValue>> Iterator for FromTheRight<'a, L> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = match self.rest.take() {
            Some(rest) => rest,
            None => self.lines.next()?.as_bytes(),
        };
        let mut is_quoted = false;
        for (index, byte) in text.iter().enumerate().rev() {
            match byte {
                b'"' => is_quoted = !is_quoted,
                b',' if !is_quoted => {
                    self.rest = Some(&text[..index]);
                    return Some(text[index + 1..].trim_ascii());
                }
                _ => {}
            }
        }
        Some(text.trim_ascii())
    }
}

/// One hop as `Forwarded` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// `for`: who asked.
    pub(super) node: &'a [u8],
    pub(super) proto: Option<&'a [u8]>,
    pub(super) host: Option<&'a [u8]>,
}

impl<'a> Element<'a> {
    /// A hop of which only the address is told.
    pub(super) fn bare(node: &'a [u8]) -> Element<'a> {
        Element { node, proto: None, host: None }
    }

    /// Reads `for=...;proto=...;host=...;by=...` in any order. `None` without `for`, with a parameter twice, and with
    /// quoted pairs (`\x`), which no address needs.
    pub(super) fn read(text: &'a [u8]) -> Option<Element<'a>> {
        let (mut node, mut proto, mut host) = (None, None, None);
        let mut rest = text;
        loop {
            let (pair, behind) = up_to_semicolon(rest);
            let pair = pair.trim_ascii();
            if !pair.is_empty() {
                let equals = pair.iter().position(|byte| *byte == b'=')?;
                let (name, value) = (&pair[..equals], unquoted(&pair[equals + 1..])?);
                let slot = [(&b"for"[..], &mut node), (b"proto", &mut proto), (b"host", &mut host)]
                    .into_iter()
                    .find(|(known, _)| name.eq_ignore_ascii_case(known));
                if slot.is_some_and(|(_, slot)| slot.replace(value).is_some()) {
                    return None;
                }
            }
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        Some(Element { node: node?, proto, host })
    }
}

/// Cuts at the first semicolon outside quotes.
fn up_to_semicolon(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut is_quoted = false;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b';' if !is_quoted => return (&text[..index], Some(&text[index + 1..])),
            _ => {}
        }
    }
    (text, None)
}

/// The inside of a quoted string, or the text itself when it has no quotes.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    let inside = match value {
        [b'"', inside @ .., b'"'] => inside,
        bare => bare,
    };
    (!inside.iter().any(|byte| matches!(byte, b'"' | b'\\'))).then_some(inside)
}

/// The address of a hop: `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`, also with a zone id,
/// which only means something on the machine that wrote it and is left out. `None` for `unknown`, `_hidden`, the
/// unspecified address, and whatever else is no address.
pub(super) fn node(text: &[u8]) -> Option<IpAddr> {
    // An address, a zone id, brackets and a port; nothing longer is worth reading.
    if text.len() > 39 + 1 + 32 + 2 + 6 {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let address = match text.strip_prefix('[') {
        Some(behind) => {
            let (inside, port) = behind.split_once(']')?;
            if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
                return None;
            }
            IpAddr::V6(v6(inside)?)
        }
        None => match text.split_once(':') {
            None => IpAddr::V4(text.parse::<Ipv4Addr>().ok()?),
            Some((address, port)) if !port.contains(':') => {
                if !is_port(port) {
                    return None;
                }
                IpAddr::V4(address.parse::<Ipv4Addr>().ok()?)
            }
            Some(_) => IpAddr::V6(v6(text)?),
        },
    };
    let address = address.to_canonical();
    (!address.is_unspecified()).then_some(address)
}

fn v6(text: &str) -> Option<Ipv6Addr> {
    let address = match text.split_once('%') {
        None => text,
        Some((address, zone)) => {
            let is_zone = (1..=32).contains(&zone.len()) && zone.bytes().all(is_name_byte);
            is_zone.then_some(address)?
        }
    };
    address.parse().ok()
}

/// A port number, or a hidden one (RFC 7239, section 6.2).
fn is_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(hidden) => !hidden.is_empty() && hidden.bytes().all(is_name_byte),
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}
