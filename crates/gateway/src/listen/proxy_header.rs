//! The PROXY protocol, versions 1 and 2 (haproxy.org, "The PROXY protocol", sections 2.1 and 2.2): a load balancer tells
//! whose connection it passes on.
//!
//! The grammar is a library's; here is only how many bytes may be taken.
//!
//! Invariant: not a byte behind the header is read.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A header of version 1 is at most this long, its end of line included.
const LONGEST_TEXT: usize = 107;
/// The part of a header of version 2 that tells its length.
const FIXED: usize = 16;
/// The signature of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and extensions of a header of version 2. The extensions are skipped, so they only need a bound.
const LONGEST_REST: usize = 4096;

/// Reads the header. `None` when the balancer speaks for itself (`UNKNOWN`, `LOCAL`), as health checks do.
///
/// # Errors
/// When there is none, or it is broken or too long, or the connection ends.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::with_capacity(LONGEST_TEXT);
    // The shortest header of version 1 is `PROXY UNKNOWN\r\n`: 15 bytes, more than the signature of version 2.
    take(socket, &mut header, SIGNATURE.len()).await?;
    if header == SIGNATURE {
        take(socket, &mut header, FIXED).await?;
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if rest > LONGEST_REST {
            return Err(broken("a PROXY header is too long"));
        }
        take(socket, &mut header, FIXED + rest).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() >= LONGEST_TEXT {
                return Err(broken("a PROXY header is too long"));
            }
            let next = header.len() + 1;
            take(socket, &mut header, next).await?;
        }
    } else {
        return Err(broken("there is no PROXY header"));
    }
    source(&header)
}

/// Fills `header` up to `length` bytes.
async fn take(socket: &mut TcpStream, header: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let have = header.len();
    header.resize(length, 0);
    socket.read_exact(&mut header[have..]).await.map(|_| ())
}

fn source(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let parsed = HeaderResult::parse(header);
    if parsed.is_incomplete() {
        return Err(broken("a PROXY header is cut short"));
    }
    match parsed {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(pair) => Some((IpAddr::from(pair.source_address), pair.source_port).into()),
            v1::Addresses::Tcp6(pair) => Some((IpAddr::from(pair.source_address), pair.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(pair) => Some((IpAddr::from(pair.source_address), pair.source_port).into()),
            v2::Addresses::IPv6(pair) => Some((IpAddr::from(pair.source_address), pair.source_port).into()),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(broken("a PROXY header is malformed")),
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: &str) -> Option<Option<String>> {
        source(header.as_bytes()).ok().map(|source| source.map(|source| source.to_string()))
    }

    #[test]
    fn version_1_names_the_client() {
        assert_eq!(text("PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"), Some(Some("192.0.2.7:4711".to_owned())));
        assert_eq!(
            text("PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"),
            Some(Some("[2001:db8::7]:4711".to_owned()))
        );
        assert_eq!(text("PROXY UNKNOWN\r\n"), Some(None));
        for broken in [
            "PROXY TCP4 192.0.2.7\r\n",
            "PROXY TCP4 a b 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            "PROXY X\r\n",
        ] {
            assert_eq!(text(broken), None, "{broken}");
        }
    }

    #[test]
    fn version_2_names_the_client() {
        let addresses: (SocketAddr, SocketAddr) =
            ("192.0.2.7:4711".parse().expect("valid"), "198.51.100.1:443".parse().expect("valid"));
        let header =
            v2::Builder::with_addresses(v2::Version::Two | v2::Command::Proxy, v2::Protocol::Stream, addresses)
                .build()
                .expect("it fits");
        assert_eq!(source(&header).expect("valid"), Some(addresses.0));
        let local = v2::Builder::new(v2::Version::Two | v2::Command::Local, 0).build().expect("it fits");
        assert_eq!(source(&local).expect("valid"), None);
        assert!(source(&header[..20]).is_err());
    }
}
