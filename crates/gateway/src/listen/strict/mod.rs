//! A second reader of what clients send, in front of the parser: it follows the same bytes and lets nothing pass that the
//! parser is too kind to (ATTACKS rows 11, 13 and 59).
//!
//! The parser drops a fragment from a target, takes space behind a chunk size and a bare line feed in trailers. [`Strict`]
//! sees each byte before the parser does and *spoils* what must not pass: it puts a byte there that the parser refuses, so
//! that the answer and the close come by the one way there is for broken requests.
//!
//! Invariant: it never holds bytes back and never changes one that the parser may accept. Where it cannot follow, it spoils:
//! two readers that disagree about where a request ends never both go on.

mod reader;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::reader::Reader;

/// A client's socket whose bytes are followed.
pub struct Strict<S> {
    socket: S,
    reader: Reader,
}

impl<S> Strict<S> {
    /// Follows `socket`, which stands in front of a request.
    pub fn new(socket: S) -> Strict<S> {
        Strict { socket, reader: Reader::default() }
    }

    /// The socket, and `unread` (the last bytes that were read) as they came.
    pub fn into_inner(self, unread: Bytes) -> (S, Bytes) {
        (self.socket, self.reader.as_it_came(unread))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(context, buffer);
        this.reader.follow(&mut buffer.filled_mut()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
