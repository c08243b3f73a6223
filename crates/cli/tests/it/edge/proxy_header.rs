//! The PROXY protocol: from whom it is believed, and what a broken header gets.

use portcullis_testkit::client::Client;
use portcullis_testkit::gate::Folder;

use super::{echo, gate};

const FROM_HERE: &str = "{ address: \"127.0.0.1:0\", proxy_protocol: [\"127.0.0.0/8\"] }";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([0x21, 0x11, 0, 12]);
    header.extend(client);
    header.extend([198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb]);
    header
}

#[test]
fn a_listed_peer_names_the_client_in_both_versions() {
    let upstream = echo();
    let mut gate = gate(Folder::new(), &upstream, FROM_HERE, "");
    for (header, address) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(), "2001:db8::7"),
        (version_2([192, 0, 2, 9]), "192.0.2.9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let mut client = Client::connect(gate.data);
        client.send(&[&header[..], REQUEST].concat());
        assert_eq!(client.response().map(|response| response.status), Some(200), "{address}");
        gate.wait_for(address, |line| line["client"] == address);
    }
    let heads: Vec<_> = upstream.received().iter().map(|request| request.head.to_lowercase()).collect();
    assert!(heads[0].contains("x-forwarded-for: 192.0.2.7"), "{}", heads[0]);
}

#[test]
fn row_51_without_or_with_a_broken_header_a_listed_peer_is_closed_unanswered() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, FROM_HERE, "limits: { header_timeout: 1s }\n");
    let too_long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    for broken in [
        REQUEST.to_vec(),
        b"PROXY TCP4 nonsense\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        [b"PROXY TCP4 ".to_vec(), b"1".repeat(200)].concat(),
        too_long,
        version_2([1, 2, 3, 4])[..20].to_vec(),
    ] {
        let mut client = Client::connect(gate.data);
        client.send(&broken);
        while client.read_more() {}
        assert!(client.unread().is_empty(), "{:?}", client.unread());
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn row_51_from_anybody_else_a_proxy_header_is_a_bad_request() {
    let upstream = echo();
    let listen = "{ address: \"127.0.0.1:0\", proxy_protocol: [\"10.0.0.0/8\"] }";
    let gate = gate(Folder::new(), &upstream, listen, "");
    for header in [b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n".to_vec(), version_2([192, 0, 2, 9])] {
        let mut client = Client::connect(gate.data);
        client.send(&[&header[..], REQUEST].concat());
        assert_eq!(client.response().map(|response| response.status), Some(400));
        assert!(client.is_closed());
    }
    assert!(upstream.received().is_empty());
}
