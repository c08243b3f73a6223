//! Finds the client's address: `(Rules, Facts) -> Decision`, nothing else.
//!
//! Invariant: an untrusted peer decides alone; what is believed of a trusted one was written by trusted hops only, which
//! is everything to the right of the first untrusted hop and nothing to the left of it.

use std::net::{IpAddr, Ipv6Addr};

use arrayvec::ArrayVec;
use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::config::{ForwardingHeader, Rules};
use super::hops::{Element, FromTheRight, node};
use crate::exchange::ClientAddress;

/// At most this many hops of a chain are read; when all of them are trusted, the last one read is the client.
pub const MAX_HOPS: usize = 32;

pub(super) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the decision is about.
pub(super) struct Facts<'a> {
    pub(super) peer: IpAddr,
    pub(super) headers: &'a HeaderMap,
}

/// Who the client is, and what is believed besides.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it never leaves the stack of one call; a box would cost an allocation")]
pub(super) enum Decision {
    /// The peer is the client.
    Direct(ClientAddress),
    /// The peer is a trusted proxy.
    Behind(Walk),
}

/// What a walk from the peer to the client found.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) client: ClientAddress,
    /// Every believed hop, the peer first, the client last.
    pub(super) hops: ArrayVec<IpAddr, { MAX_HOPS + 1 }>,
    /// How many of them are trusted proxies.
    pub(super) trusted: usize,
    /// Whether the client spoke TLS to the first of the proxies, when they say.
    pub(super) is_secure: Option<bool>,
    /// The host that the client asked for, when they say and are believed.
    pub(super) host: Option<HeaderValue>,
}

impl Decision {
    pub(super) fn client(&self) -> ClientAddress {
        match self {
            Decision::Direct(client) => *client,
            Decision::Behind(walk) => walk.client,
        }
    }
}

/// Decides by which address the client is known.
pub(super) fn decide(rules: &Rules, facts: &Facts<'_>) -> Decision {
    let peer = facts.peer.to_canonical();
    if rules.trusted.contains(peer) {
        Decision::Behind(walk(rules, facts, peer))
    } else {
        Decision::Direct(client(rules, peer, false))
    }
}

fn client(rules: &Rules, address: IpAddr, peer_is_trusted: bool) -> ClientAddress {
    ClientAddress { address, group: group(address, rules.ipv6_mask), peer_is_trusted }
}

/// Whom `address` counts with: itself, or all of its network where it is IPv6.
pub(crate) fn group(address: IpAddr, ipv6_mask: u128) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & ipv6_mask)),
    }
}

fn walk(rules: &Rules, facts: &Facts<'_>, peer: IpAddr) -> Walk {
    let mut hops = ArrayVec::new();
    hops.push(peer);
    let mut trusted = 1;
    let mut last: Option<Element<'_>> = None;
    let name = match rules.header {
        ForwardingHeader::XForwardedFor => &X_FORWARDED_FOR,
        ForwardingHeader::Forwarded => &FORWARDED,
    };
    for item in FromTheRight::new(facts.headers.get_all(name)).take(MAX_HOPS) {
        let element = match rules.header {
            ForwardingHeader::XForwardedFor => Some(Element::bare(item)),
            ForwardingHeader::Forwarded => Element::read(item),
        };
        let Some((element, hop)) = element.and_then(|element| Some((element, node(element.node)?))) else { break };
        last = Some(element);
        hops.push(hop);
        if !rules.trusted.contains(hop) {
            break;
        }
        trusted += 1;
    }
    let (proto, host) = match rules.header {
        // What stands furthest right was written by the peer itself.
        ForwardingHeader::XForwardedFor => (
            FromTheRight::new(facts.headers.get_all(&X_FORWARDED_PROTO)).next(),
            rules.believe_host.then(|| FromTheRight::new(facts.headers.get_all(&X_FORWARDED_HOST)).next()).flatten(),
        ),
        ForwardingHeader::Forwarded => (
            last.as_ref().and_then(|element| element.proto),
            last.as_ref().and_then(|element| element.host).filter(|_| rules.believe_host),
        ),
    };
    let address = hops.last().copied().unwrap_or(peer);
    Walk {
        client: client(rules, address, true),
        hops,
        trusted,
        is_secure: proto.and_then(is_secure),
        host: host.filter(|host| is_host(host)).and_then(|host| HeaderValue::from_bytes(host).ok()),
    }
}

fn is_secure(proto: &[u8]) -> Option<bool> {
    let is = |name: &str| proto.eq_ignore_ascii_case(name.as_bytes());
    if is("https") || is("wss") {
        Some(true)
    } else if is("http") || is("ws") {
        Some(false)
    } else {
        None
    }
}

/// Whether `host` is made of nothing but what hosts and ports are made of, and not longer than a name can be.
pub(super) fn is_host(host: &[u8]) -> bool {
    (1..=255 + 6).contains(&host.len()) && host.iter().all(|byte| HOST_BYTES[usize::from(*byte)])
}

static HOST_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        let value = byte as u8;
        bytes[byte] = value.is_ascii_alphanumeric() || matches!(value, b'.' | b'-' | b'_' | b':' | b'[' | b']');
        byte += 1;
    }
    bytes
};
