//! A new connection on its way through the door: PROXY protocol, TLS, and which protocol it speaks.
//!
//! All of it under one deadline, that of the first head: a client that dawdles in the handshake gets no extra time.
//!
//! Invariant: nothing of what arrives here is answered as HTTP; what is wrong is closed, and counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_guards::exchange::{ClientCertificate, Tls};
use rustls::server::ServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::door::Door;
use super::metrics::Handshakes;
use super::proxy_header;
use super::socket::Socket;
use crate::acme;

/// What a client that speaks HTTP/2 says first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that has come through the door.
pub(super) struct Arrived {
    /// The socket, ready for HTTP.
    pub socket: Socket,
    /// The other end; with the PROXY protocol the one that the proxy names.
    pub peer: SocketAddr,
    /// What TLS found out.
    pub tls: Option<Arc<Tls>>,
    /// HTTP/2 rather than HTTP/1.
    pub is_http2: bool,
}

/// Walks a connection through the door.
///
/// # Errors
/// When it ends, breaks the PROXY protocol, or fails the handshake.
pub(super) async fn arrive(
    door: &Door,
    mut socket: TcpStream,
    mut peer: SocketAddr,
    handshakes: &Handshakes,
) -> io::Result<Arrived> {
    if door.expects_proxy_header(peer.ip()) {
        peer = proxy_header::read(&mut socket).await?.unwrap_or(peer);
    }
    let Some(config) = &door.tls else {
        let (is_http2, ahead) = if door.http2 { looks_like_http2(&mut socket).await? } else { (false, Bytes::new()) };
        return Ok(Arrived { socket: Socket::plain(socket, ahead), peer, tls: None, is_http2 });
    };
    let accepted = TlsAcceptor::from(Arc::clone(config)).accept(socket).await;
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            handshakes.failed.inc();
            return Err(error);
        }
    };
    let session = stream.get_ref().1;
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    if resumed { &handshakes.resumed } else { &handshakes.full }.inc();
    if session.alpn_protocol() == Some(acme::PROTOCOL) {
        // The authority has seen the certificate it came for.
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let tls = Some(Arc::new(facts(session)));
    Ok(Arrived { socket: Socket::tls(stream), peer, tls, is_http2 })
}

/// Whether the client begins with the preface of HTTP/2. Only a first byte of `P` is ever taken out of the kernel's hands:
/// `GET` and most others are left for the parser to read once.
async fn looks_like_http2(socket: &mut TcpStream) -> io::Result<(bool, Bytes)> {
    let mut head = [0_u8; PREFACE.len()];
    if socket.peek(&mut head[..1]).await? == 0 || head[0] != PREFACE[0] {
        return Ok((false, Bytes::new()));
    }
    let mut read = 0;
    while read < PREFACE.len() && PREFACE.starts_with(&head[..read]) {
        match socket.read(&mut head[read..]).await? {
            0 => break,
            more => read += more,
        }
    }
    Ok((head[..read] == PREFACE[..], Bytes::copy_from_slice(&head[..read])))
}

fn facts(session: &ServerConnection) -> Tls {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    Tls {
        version,
        server_name: session.server_name().map(Box::from),
        client: leaf.and_then(|leaf| {
            // It was verified in the handshake, so it parses; if it did not, nobody is named.
            let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
            Some(ClientCertificate {
                subject: parsed.subject().to_string().into_boxed_str(),
                issuer: parsed.issuer().to_string().into_boxed_str(),
                fingerprint: hex(digest.as_ref()),
            })
        }),
    }
}

fn hex(bytes: &[u8]) -> Box<str> {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into_boxed_str()
}
