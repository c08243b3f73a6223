//! A client's socket: plain, or with TLS around it.
//!
//! Bytes that were read before it was known what they are (half a head, the beginning of a preface) go first.
//!
//! Invariant: what was read ahead is read again exactly once, in order, before anything else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's socket.
pub struct Socket {
    inner: Inner,
    ahead: Bytes,
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// A socket without TLS, of which `ahead` has been read already.
    #[must_use]
    pub fn plain(socket: TcpStream, ahead: Bytes) -> Socket {
        Socket { inner: Inner::Plain(socket), ahead }
    }

    /// A socket with TLS.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>) -> Socket {
        Socket { inner: Inner::Tls(Box::new(stream)), ahead: Bytes::new() }
    }

    /// Puts back what was read ahead.
    pub fn unread(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// The socket below TLS.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match &self.inner {
            Inner::Plain(socket) => socket,
            Inner::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Whether there may be something to read that the kernel no longer knows of.
    #[must_use]
    pub fn has_read_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.has_remaining() {
            let length = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead[..length]);
            this.ahead.advance(length);
            if this.ahead.is_empty() {
                this.ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut this.inner {
            Inner::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_flush(context),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
