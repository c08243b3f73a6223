//! Header fields that only the gateway may write, taken away from what clients send.
//!
//! Many upstreams fold `-`, `_` and worse together (CGI, WSGI, Rack and PHP), so that `X_Forwarded_For` is as good as the
//! real name to them: every spelling goes. What `Connection` nominates is taken away by whoever receives the request, before any
//! guard writes a field, so that no client can nominate those away.
//!
//! Invariant: afterwards no field of these names is left that a client wrote, except the four that `rebuild` overwrites.
//! A name added to the lists must pass the first look in [`is_foreign`]; a test walks the lists.

use arrayvec::ArrayVec;
use http::{HeaderMap, HeaderName};

/// Fields of the gateway itself, and words in front of or behind them.
const OWN_PREFIX: &[u8] = b"x-portcullis";

/// Everything that tells about earlier hops and is not rebuilt.
const FORWARDED_PREFIX: &[u8] = b"x-forwarded";

/// Written anew by `rebuild` for every request, so there is nothing to take away.
const REBUILT: [&[u8]; 4] = [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"];

/// Gone in every spelling, whoever the peer is: other names for the client's address, and words that make an upstream
/// see another path or method than the one that was checked here.
const FOREIGN: &[&[u8]] = &[
    b"cf-connecting-ip",
    b"cf-connecting-ipv6",
    b"client-ip",
    b"fastly-client-ip",
    b"proxy",
    b"proxy-client-ip",
    b"true-client-ip",
    b"wl-proxy-client-ip",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
    b"x-original-forwarded-for",
    b"x-original-host",
    b"x-original-method",
    b"x-original-uri",
    b"x-original-url",
    b"x-originating-ip",
    b"x-real-ip",
    b"x-remote-addr",
    b"x-remote-ip",
    b"x-rewrite-url",
];

/// Gone only when spelt differently: the real names are checked elsewhere or frame the message.
const TWINS: &[&[u8]] = &[b"content-length", b"transfer-encoding", b"x-request-id"];

/// A bit for each length that a name of these lists has.
const LENGTHS: u64 = lengths(FOREIGN) | lengths(TWINS);

const fn lengths(names: &[&[u8]]) -> u64 {
    let mut lengths = 0;
    let mut index = 0;
    while index < names.len() {
        lengths |= 1 << names[index].len();
        index += 1;
    }
    lengths
}

/// Takes away what a client may not say.
pub(super) fn remove(headers: &mut HeaderMap, peer_is_trusted: bool) {
    loop {
        let mut doomed: ArrayVec<HeaderName, 8> = ArrayVec::new();
        for name in headers.keys() {
            if is_foreign(name.as_str().as_bytes(), peer_is_trusted) {
                doomed.push(name.clone());
                if doomed.is_full() {
                    break;
                }
            }
        }
        for name in &doomed {
            headers.remove(name);
        }
        if !doomed.is_full() {
            return;
        }
    }
}

/// Whether a field of this (lower-case) name is not the client's to send.
pub(super) fn is_foreign(name: &[u8], peer_is_trusted: bool) -> bool {
    // Most names are none of ours, and the first two bytes tell. The gateway's own request id is always there.
    match name {
        b"x-request-id" => return false,
        [b'x', second, ..] if !second.is_ascii_alphanumeric() => {}
        [b'c', b'f' | b'l', ..] | [b'f', b'a', ..] | [b't', b'r', ..] | [b'p', b'r', ..] | [b'w', b'l', ..] => {}
        [b'c', b'o', ..] if !is_hyphenated(name) => {}
        _ => return false,
    }
    if starts_folded(name, OWN_PREFIX) {
        return true;
    }
    if starts_folded(name, FORWARDED_PREFIX) {
        // A trusted proxy may tell more than is rebuilt here (`X-Forwarded-Port`, `-Prefix`), in the real spelling.
        let is_told = peer_is_trusted && is_hyphenated(name);
        return !is_told && !REBUILT.contains(&name);
    }
    LENGTHS & 1u64.checked_shl(name.len() as u32).unwrap_or(0) != 0
        && (FOREIGN.iter().any(|foreign| is_folded(name, foreign))
            || (!is_hyphenated(name) && TWINS.iter().any(|twin| is_folded(name, twin))))
}

fn is_hyphenated(name: &[u8]) -> bool {
    name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn is_folded(name: &[u8], hyphenated: &[u8]) -> bool {
    name.len() == hyphenated.len() && starts_folded(name, hyphenated)
}

/// Whether `name` starts with `hyphenated`, where every separator counts as `-`.
fn starts_folded(name: &[u8], hyphenated: &[u8]) -> bool {
    name.len() >= hyphenated.len()
        && name
            .iter()
            .zip(hyphenated)
            .all(|(byte, wanted)| byte == wanted || (*wanted == b'-' && !byte.is_ascii_alphanumeric()))
}

/// Every name that is taken away by its whole name.
#[cfg(test)]
pub(super) fn listed() -> impl Iterator<Item = &'static str> {
    FOREIGN.iter().map(|name| std::str::from_utf8(name).expect("names are ASCII"))
}
