//! Forwarded headers: who the client is, and what the upstream is told about it, for any fields a peer may send.
//!
//! The first byte chooses the peer and the config, the rest are lines `name: value`.
//!
//! Invariant: a peer that is not trusted is the client, whatever it says; behind a trusted one, nothing that stands left
//! of the first untrusted hop changes who the client is.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_guards::client_address::{Client, Config, ForwardingHeader, MAX_HOPS, build};
use portcullis_guards::config::PathConfig;
use portcullis_guards::exchange::Exchange;
use portcullis_guards::guard::{Guard, Verdict};

const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");
const XFP: HeaderName = HeaderName::from_static("x-forwarded-proto");
const XFH: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRUSTED: [&str; 3] = ["10.0.0.0/8", "fd00::/8", "::1/128"];
const STRANGER: &str = "203.0.113.77";
/// What no upstream may see from a client, however it is spelt.
const NEVER: [&str; 12] = [
    "x-real-ip",
    "true-client-ip",
    "x-client-ip",
    "cf-connecting-ip",
    "client-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "proxy",
    "x-portcullis-user",
];

struct Gate {
    client: Client,
    header: HeaderName,
}

fn gates() -> &'static [Gate; 3] {
    static GATES: OnceLock<[Gate; 3]> = OnceLock::new();
    GATES.get_or_init(|| {
        let standing = crate::standing();
        let gate = |header, believe_host| {
            let config = PathConfig {
                trusted_proxies: TRUSTED.iter().map(|cidr| cidr.parse().expect("a network")).collect(),
                client_address: Config { header: Some(header), ipv6_prefix: None, believe_host: Some(believe_host) },
                ..PathConfig::default()
            };
            let client = build(&config, standing.ground()).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
            let header = HeaderName::from_static(header.name());
            Gate { client, header }
        };
        [
            gate(ForwardingHeader::XForwardedFor, false),
            gate(ForwardingHeader::XForwardedFor, true),
            gate(ForwardingHeader::Forwarded, true),
        ]
    })
}

fn is_trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.octets()[0] == 0xFD || v6.is_loopback(),
    }
}

/// A choice, then lines.
pub fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let gate = &gates()[usize::from(choice & 0x0F) % 3];
    let peer: IpAddr = match choice >> 4 & 3 {
        0 => IpAddr::from([198, 51, 100, 7]),
        1 => IpAddr::from([10, 1, 2, 3]),
        2 => "::ffff:10.1.2.3".parse().expect("an address"),
        _ => "fd00::1".parse().expect("an address"),
    };
    let headers = fields(rest);
    let exchange = passed(gate, peer, headers.clone());
    let peer = peer.to_canonical();
    let client = exchange.client.expect("the guard gives it");
    assert_eq!(client.peer_is_trusted, is_trusted(peer));
    let hops = told(&exchange, client.address, peer);
    if !is_trusted(peer) {
        assert_eq!((client.address, hops.len()), (peer, 1), "an untrusted peer chose its address");
        return;
    }
    if gate.header == XFF {
        if let Some(expected) = walked(&headers, peer) {
            assert_eq!(client.address, expected, "{headers:?}");
        }
    }
    prefixed(gate, peer, headers);
    round_trip(&exchange, client.address, hops.len());
}

fn fields(rest: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in rest.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn passed(gate: &Gate, peer: IpAddr, headers: HeaderMap) -> Exchange {
    let mut exchange = crate::exchange(SocketAddr::new(peer, 50_000), headers);
    assert!(matches!(gate.client.request(&mut exchange), Verdict::Pass), "it never refuses");
    exchange
}

/// Holds what the upstream is told, and gives the hops it is told.
fn told(exchange: &Exchange, client: IpAddr, peer: IpAddr) -> Vec<IpAddr> {
    let headers = &exchange.headers;
    let only = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().unwrap_or_else(|| panic!("no {name}"));
        assert!(values.next().is_none(), "two {name}");
        value.to_str().unwrap_or_else(|_| panic!("{name} is not plain text")).to_owned()
    };
    for name in headers.keys() {
        let folded: String = name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let is_real = folded == name.as_str();
        assert!(!NEVER.contains(&folded.as_str()) && !folded.starts_with("x-portcullis"), "{name} passed");
        if folded.starts_with("x-forwarded")
            || ["forwarded", "content-length", "transfer-encoding", "x-request-id"].contains(&&*folded)
        {
            assert!(is_real, "the twin {name} passed");
        }
        let is_rebuilt = [XFF, XFP, XFH].contains(name);
        assert!(!folded.starts_with("x-forwarded") || is_rebuilt || is_trusted(peer), "{name} passed");
    }
    assert!(["http", "https"].contains(&only(&XFP).as_str()));
    if headers.contains_key(&XFH) {
        assert!(only(&XFH).bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)));
    }
    let hops: Vec<IpAddr> =
        only(&XFF).split(", ").map(|hop| hop.parse().unwrap_or_else(|_| panic!("{hop:?} is no address"))).collect();
    assert!(hops.len() <= MAX_HOPS + 1);
    assert_eq!((hops.first(), hops.last()), (Some(&client), Some(&peer)));
    assert!(hops[1..].iter().all(|hop| is_trusted(*hop)), "an untrusted hop is believed: {hops:?}");
    let elements = only(&FORWARDED);
    assert_eq!(elements.matches("for=").count(), hops.len(), "{elements:?}");
    hops
}

/// The client as a plain walk finds it, for chains of plain addresses.
fn walked(headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
    let lines: Vec<&str> = headers.get_all(&XFF).iter().map(|line| line.to_str().ok()).collect::<Option<_>>()?;
    let joined = lines.join(",");
    if joined.contains('"') {
        return None;
    }
    let mut client = peer;
    if lines.is_empty() {
        return Some(client);
    }
    for hop in joined.rsplit(',').take(MAX_HOPS) {
        let hop: IpAddr = hop.trim_matches([' ', '\t']).parse::<IpAddr>().ok()?.to_canonical();
        if hop.is_unspecified() {
            return None;
        }
        client = hop;
        if !is_trusted(hop) {
            break;
        }
    }
    Some(client)
}

/// Whatever stands left of an address that nobody trusts, that address is the client.
fn prefixed(gate: &Gate, peer: IpAddr, mut headers: HeaderMap) {
    let own = if gate.header == XFF { STRANGER.to_owned() } else { format!("for={STRANGER}") };
    let last = headers.get_all(&gate.header).iter().next_back().map(|value| value.as_bytes().to_vec());
    let line = [last.unwrap_or_default(), b", ".to_vec(), own.into_bytes()].concat();
    headers.append(&gate.header, HeaderValue::from_bytes(&line).expect("valid parts make a valid value"));
    let client = passed(gate, peer, headers).client.expect("the guard gives it");
    assert_eq!(client.address.to_string(), STRANGER, "bytes on the left changed who the client is");
}

/// A second gateway behind this one finds the same client, by either header.
fn round_trip(exchange: &Exchange, client: IpAddr, hops: usize) {
    if hops >= MAX_HOPS {
        return;
    }
    for gate in gates() {
        let next = passed(gate, IpAddr::from([10, 9, 9, 9]), exchange.headers.clone());
        assert_eq!(next.client.expect("the guard gives it").address, client, "{:?}", exchange.headers);
    }
}
