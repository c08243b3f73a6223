//! Any bytes, any peers: nothing panics, and nobody chooses its own address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::super::address_text;
use super::super::config::ForwardingHeader::{self, Forwarded, XForwardedFor};
use super::super::hops::{Element, node};
use super::{by, run};
use crate::rehearsal::{get, values};

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        // Close to what is trusted, and inside.
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits & 0x01ff_ffff | 0x0a00_0000))),
        any::<u16>().prop_map(|bits| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, bits))),
    ]
}

fn is_proxy(address: IpAddr) -> bool {
    let networks =
        ["10.0.0.0/8", "2001:db8:a::/48"].map(|network| network.parse::<portcullis_core::units::Cidr>().unwrap());
    networks.iter().any(|network| network.contains(address))
}

fn is_client(address: &IpAddr) -> bool {
    !is_proxy(*address) && !address.to_canonical().is_unspecified()
}

/// Bytes that a header field can hold.
fn field_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec((0x20u8..=0xff).prop_filter("DEL", |byte| *byte != 0x7f), 0..80),
        // Made of the pieces that mean something.
        proptest::collection::vec(
            prop_oneof![
                Just("for="),
                Just("For=\""),
                Just("\""),
                Just("\\"),
                Just(","),
                Just(", "),
                Just(";"),
                Just("="),
                Just("["),
                Just("]"),
                Just("%eth0"),
                Just(":80"),
                Just("unknown"),
                Just("_x"),
                Just("10.1.1.1"),
                Just("6.6.6.6"),
                Just("2001:db8:a::1"),
                Just("2001:db8:b::1"),
                Just("proto=https"),
                Just("host=\"a\""),
                Just(" "),
                Just("\t"),
            ],
            0..24
        )
        .prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

fn field_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("x-forwarded-for"),
        Just("forwarded"),
        Just("x-forwarded-proto"),
        Just("x-forwarded-host"),
        Just("x_forwarded_for"),
        Just("host"),
        Just("x-real-ip"),
        Just("x-portcullis-user"),
        Just("x_portcullis_user"),
        Just("connection"),
    ]
    .prop_map(str::to_owned)
}

/// How an honest proxy writes down who connected to it.
fn honest(header: ForwardingHeader, address: IpAddr, port: Option<u16>) -> String {
    let bracketed = match (address, port) {
        (IpAddr::V4(v4), None) => v4.to_string(),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), None) => format!("[{v6}]"),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
    };
    match (header, address, port) {
        (XForwardedFor, IpAddr::V6(v6), None) => v6.to_string(),
        (XForwardedFor, ..) => bracketed,
        (Forwarded, ..) => format!("for=\"{bracketed}\";proto=http;by=_proxy"),
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_foreign_field_is_left(
        fields in proptest::collection::vec((field_name(), field_bytes()), 0..12),
        peer in any_ip(),
        forwarded in any::<bool>(),
    ) {
        let header = if forwarded { Forwarded } else { XForwardedFor };
        let ask = fields.iter().fold(get("/").from(&peer.to_string()), |ask, (name, value)| ask.with(name, value));
        let exchange = run(&by(header), ask);
        let client = exchange.client.unwrap();
        prop_assert_eq!(client.peer_is_trusted, is_proxy(peer));
        if !client.peer_is_trusted {
            // Nothing that was sent has any say.
            prop_assert_eq!(client.address, peer.to_canonical());
            prop_assert_eq!(values(&exchange.headers, "x-forwarded-for"), [client.address.to_string()]);
            prop_assert!(!exchange.told_secure);
        }
        for name in ["x_forwarded_for", "x-real-ip", "x-portcullis-user", "x_portcullis_user"] {
            prop_assert!(!exchange.headers.contains_key(name), "{}", name);
        }
        for name in ["x-forwarded-for", "x-forwarded-proto", "forwarded"] {
            prop_assert_eq!(values(&exchange.headers, name).len(), 1);
        }
        // Whoever reads it next, by either header, finds the same client.
        for (header, name) in [(XForwardedFor, "x-forwarded-for"), (Forwarded, "forwarded")] {
            let first = values(&exchange.headers, name)[0].clone();
            let first = first.split(", ").next().unwrap();
            let shown = match header {
                XForwardedFor => Some(Element::bare(first.as_bytes())),
                Forwarded => Element::read(first.as_bytes()),
            };
            let shown = node(shown.unwrap().node);
            prop_assert!(shown == Some(client.address) || client.address.is_unspecified(), "{}: {:?}", name, shown);
        }
    }

    /// The property that all the rest is for: behind honest proxies, whatever the client itself sends (any lines, in
    /// front of what the proxies append), its address is the one from which it connected to the first of them.
    #[test]
    fn a_client_cannot_choose_its_address(
        sent in proptest::collection::vec(field_bytes(), 0..4),
        client in any_ip().prop_filter("a client", is_client),
        port in proptest::option::of(any::<u16>()),
        proxies in proptest::collection::vec(any_ip().prop_filter("a proxy", |address| is_proxy(*address)), 1..8),
        forwarded in any::<bool>(),
        appends_to_line in any::<bool>(),
    ) {
        let header = if forwarded { Forwarded } else { XForwardedFor };
        let mut lines = sent;
        // Each proxy appends whom it heard from, to the last line or in a line of its own.
        let heard_from = std::iter::once((client, port)).chain(proxies.iter().map(|proxy| (*proxy, None)));
        for (address, port) in heard_from.take(proxies.len()) {
            let element = honest(header, address, port);
            match lines.last_mut() {
                Some(line) if appends_to_line => line.extend_from_slice(format!(", {element}").as_bytes()),
                _ => lines.push(element.into_bytes()),
            }
        }
        let peer = proxies[proxies.len() - 1];
        let ask = lines.iter().fold(get("/").from(&peer.to_string()), |ask, line| ask.with(header.name(), line));
        prop_assert_eq!(run(&by(header), ask).client.unwrap().address, client.to_canonical());
    }

    #[test]
    fn hops_that_are_read_are_addresses_that_were_written(address in any_ip(), port in any::<u16>()) {
        let canonical = address.to_canonical();
        prop_assume!(!canonical.is_unspecified());
        for port in [None, Some(port)] {
            prop_assert_eq!(node(honest(XForwardedFor, address, port).as_bytes()), Some(canonical));
        }
        let text = address_text(canonical);
        prop_assert_eq!(String::from_utf8_lossy(text.as_bytes()), canonical.to_string());
    }
}
