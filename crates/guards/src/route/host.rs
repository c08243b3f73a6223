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

/// The name in `host[:port]`, without port and trailing dot: labels of letters, digits, `-` and `_` (which container names
/// use), separated by single dots, or an IPv6 address in brackets.
pub(super) fn name_of(value: &[u8]) -> Result<&str, &'static str> {
    if value.first() == Some(&b'[') {
        return address_of(value);
    }
    let mut label_bytes = 0;
    let mut end = value.len();
    for (place, byte) in value.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label_bytes += 1,
            b'.' if (1..=MAX_LABEL_BYTES).contains(&label_bytes) => label_bytes = 0,
            b':' => {
                check_port(&value[place + 1..])?;
                end = place;
                break;
            }
            _ => return Err(INVALID),
        }
    }
    // A name may end in one dot; the loop let no dot through that follows another or stands first.
    let has_dot = label_bytes == 0 && end > 1;
    let name = &value[..end - usize::from(has_dot)];
    let is_name = (has_dot || (1..=MAX_LABEL_BYTES).contains(&label_bytes)) && name.len() <= MAX_NAME_BYTES;
    if is_name { std::str::from_utf8(name).map_err(|_| INVALID) } else { Err(INVALID) }
}

/// An IPv6 address with its brackets.
fn address_of(value: &[u8]) -> Result<&str, &'static str> {
    let close = value.iter().position(|byte| *byte == b']').ok_or(INVALID)?;
    let text = std::str::from_utf8(&value[..=close]).map_err(|_| INVALID)?;
    text[1..close].parse::<Ipv6Addr>().map_err(|_| INVALID)?;
    match &value[close + 1..] {
        [] => {}
        [b':', port @ ..] => check_port(port)?,
        _ => return Err(INVALID),
    }
    Ok(text)
}

/// What follows the colon: nothing, or 1 to 65535.
fn check_port(digits: &[u8]) -> Result<(), &'static str> {
    let is_plain = digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    let port = digits.iter().take(5).fold(0, |port, digit| port * 10 + u32::from(digit.wrapping_sub(b'0')));
    if is_plain && (digits.is_empty() || (1..=65_535).contains(&port)) { Ok(()) } else { Err(INVALID) }
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
