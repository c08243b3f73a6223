//! Which host a request is for: reads `Host` and the target's authority, and says no to what could be read in two ways.
//!
//! The name is compared without case, trailing dot and port (RFC 3986, section 3.2.2; RFC 9110, section 4.2.3), so that
//! `EXAMPLE.com.:80` and `example.com` are one host for every rule.
//!
//! Invariant: after [`of_request`] there is at most one host, and `Host`, rules, logs and the upstream all see that one.

use std::fmt::Write;
use std::net::Ipv6Addr;

use arrayvec::ArrayString;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri, Version};

pub(super) const MISSING: &str = "Host is missing";
pub(super) const REPEATED: &str = "Host is repeated";
pub(super) const INVALID: &str = "Host is not a valid name or address";
pub(super) const CONTRADICTED: &str = "Host and the authority of the request differ";

/// Most bytes of a host name (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;
/// Most bytes of one label of a name.
const MAX_LABEL_BYTES: usize = 63;

/// A host as rules know it: lower case, without port and trailing dot, IPv6 in its shortest form in brackets.
pub(super) type HostName = ArrayString<MAX_NAME_BYTES>;

/// The host of a request.
pub(super) struct Host<'a> {
    /// As it was sent, without port and trailing dot; `None` for HTTP/1.0 without `Host`.
    pub(super) name: Option<&'a str>,
    /// What `Host` must become, so that the upstream sees what the rules saw.
    pub(super) rewritten: Option<HeaderValue>,
}

/// Finds the host. In absolute form the target's authority wins over `Host` (RFC 9112, section 3.2.2).
pub(super) fn of_request<'a>(uri: &'a Uri, version: Version, headers: &'a HeaderMap) -> Result<Host<'a>, &'static str> {
    let mut fields = headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(REPEATED);
    }
    let written = field.map(|field| name_of(field.as_bytes())).transpose()?;
    let Some(authority) = uri.authority() else {
        return match written {
            None if version >= Version::HTTP_11 => Err(MISSING),
            name => Ok(Host { name, rewritten: None }),
        };
    };
    let authority = authority.as_str();
    let name = name_of(authority.as_bytes())?;
    let is_same = field.is_some_and(|field| field.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
    match field {
        None if version == Version::HTTP_11 => return Err(MISSING),
        // From HTTP/2 on the two may not differ (RFC 9113, section 8.3.1).
        Some(_) if version >= Version::HTTP_2 && !is_same => return Err(CONTRADICTED),
        _ => {}
    }
    let rewritten = if is_same { None } else { Some(HeaderValue::from_str(authority).map_err(|_| INVALID)?) };
    Ok(Host { name: Some(name), rewritten })
}

/// The name in `host[:port]`, without port and trailing dot.
pub(super) fn name_of(value: &[u8]) -> Result<&str, &'static str> {
    let value = std::str::from_utf8(value).map_err(|_| INVALID)?;
    if let Some(inside) = value.strip_prefix('[') {
        let (address, port) = inside.split_once(']').ok_or(INVALID)?;
        address.parse::<Ipv6Addr>().map_err(|_| INVALID)?;
        check_port(port)?;
        return Ok(&value[..address.len() + 2]);
    }
    let name = match value.bytes().position(|byte| byte == b':') {
        Some(colon) => {
            check_port(&value[colon..])?;
            &value[..colon]
        }
        None => value,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    check_name(name)?;
    Ok(name)
}

/// Nothing, a colon, or a colon with a port of 1 to 65535.
fn check_port(port: &str) -> Result<(), &'static str> {
    let digits = match port.strip_prefix(':') {
        Some("") => return Ok(()),
        Some(digits) => digits,
        None if port.is_empty() => return Ok(()),
        None => return Err(INVALID),
    };
    let is_plain = digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(1..) if is_plain => Ok(()),
        _ => Err(INVALID),
    }
}

/// Labels of letters, digits, `-` and `_` (which container names use), separated by single dots.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_NAME_BYTES {
        return Err(INVALID);
    }
    let mut label_bytes = 0;
    for byte in name.bytes() {
        match byte {
            b'.' if label_bytes > 0 => label_bytes = 0,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' if label_bytes < MAX_LABEL_BYTES => label_bytes += 1,
            _ => return Err(INVALID),
        }
    }
    if label_bytes > 0 { Ok(()) } else { Err(INVALID) }
}

/// The form in which names are compared. `name` must have come from [`name_of`].
pub(super) fn canonical(name: &str) -> HostName {
    let mut host = HostName::new();
    // `name_of` let through nothing longer than the array, so a push that fails cannot happen; an empty host would match
    // no rule.
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        if let Ok(address) = address.parse::<Ipv6Addr>() {
            let _ = write!(host, "[{address}]");
        }
    } else if host.try_push_str(name).is_ok() {
        host.make_ascii_lowercase();
    }
    host
}
