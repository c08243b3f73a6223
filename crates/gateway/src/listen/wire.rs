//! The client's connection as hyper sees it: a socket that knows what the connection is doing.
//!
//! Between two requests hyper answers broken heads by itself, with a bare status. The wire recognises such an answer (it
//! is the only thing that is ever written while no visit is open and all is flushed) and sends the catalogue's instead.
//!
//! Invariant: bytes of a visit are never touched.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::socket::Socket;
use super::strict::Strict;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the first byte of a request.
    Idle,
    /// Some bytes of a head have arrived.
    Head,
    /// A visit is open and its response head is not out yet.
    Asking,
    /// A visit is open and its response is being sent.
    Answering,
}

/// What the wire and the connection's driver tell each other.
pub struct Line {
    /// What the connection is doing.
    pub phase: Cell<Phase>,
    /// Everything of the last visit has left.
    pub is_flushed: Cell<bool>,
    /// The last visit ended before the client's body did: what still comes is no head.
    pub is_mid_body: Cell<bool>,
    /// The last answer was cut, and its client can only see that by a reset.
    pub must_reset: Cell<bool>,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            phase: Cell::new(Phase::Idle),
            is_flushed: Cell::new(true),
            is_mid_body: Cell::new(false),
            must_reset: Cell::new(false),
        }
    }
}

/// Called by the wire; the connection's driver implements it.
pub trait Keeper {
    /// The line of this connection.
    fn line(&self) -> &Line;
    /// The first bytes of a request have arrived.
    fn head_begins(&self);
    /// Everything of the last visit has left.
    fn rests(&self);
    /// The whole response to send in place of the protocol library's bare `status`.
    fn instead_of(&self, status: u16) -> Vec<u8>;
}

/// A client's socket.
pub struct Wire<K> {
    socket: TokioIo<Strict<Socket>>,
    keeper: Rc<K>,
    substitute: Option<Substitute>,
}

struct Substitute {
    bytes: Vec<u8>,
    written: usize,
    stands_for: usize,
}

impl<K: Keeper> Wire<K> {
    /// Wraps a socket.
    pub fn new(socket: Socket, keeper: Rc<K>) -> Wire<K> {
        Wire { socket: TokioIo::new(Strict::new(socket)), keeper, substitute: None }
    }

    /// The socket itself, once hyper is done with it, and what hyper has read too far, as it came.
    pub fn into_socket(self, unread: Bytes) -> (Socket, Bytes) {
        self.socket.into_inner().into_inner(unread)
    }

    fn is_between_visits(&self) -> bool {
        let line = self.keeper.line();
        line.is_flushed.get() && matches!(line.phase.get(), Phase::Idle | Phase::Head)
    }

    fn write_substitute(&mut self, context: &mut Context<'_>, mut substitute: Substitute) -> Poll<io::Result<usize>> {
        while substitute.written < substitute.bytes.len() {
            match Pin::new(&mut self.socket).poll_write(context, &substitute.bytes[substitute.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => substitute.written += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.substitute = Some(substitute);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(substitute.stands_for))
    }
}

/// The status of a bare answer that hyper makes by itself.
fn status_of_bare_answer(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"HTTP/1.1 4").or_else(|| bytes.strip_prefix(b"HTTP/1.0 4"))?;
    match digits {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', ..] => {
            Some(400 + u16::from(tens - b'0') * 10 + u16::from(ones - b'0'))
        }
        _ => None,
    }
}

impl<K: Keeper> Read for Wire<K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        if self.keeper.line().phase.get() == Phase::Idle && !self.keeper.line().is_mid_body.get() {
            self.keeper.line().phase.set(Phase::Head);
            self.keeper.head_begins();
        }
        Poll::Ready(read)
    }
}

impl<K: Keeper> Write for Wire<K> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(substitute) = self.substitute.take() {
            return self.write_substitute(context, substitute);
        }
        if self.is_between_visits()
            && let Some(status) = status_of_bare_answer(bytes)
        {
            let substitute = Substitute { bytes: self.keeper.instead_of(status), written: 0, stands_for: bytes.len() };
            return self.write_substitute(context, substitute);
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket only once its own buffer is empty.
        ready!(Pin::new(&mut self.socket).poll_flush(context))?;
        let line = self.keeper.line();
        if matches!(line.phase.get(), Phase::Idle | Phase::Head) && !line.is_flushed.replace(true) {
            self.keeper.rests();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::status_of_bare_answer;

    #[test]
    fn only_a_client_error_head_counts_as_a_bare_answer() {
        assert_eq!(status_of_bare_answer(b"HTTP/1.1 400 Bad Request\r\n"), Some(400));
        assert_eq!(status_of_bare_answer(b"HTTP/1.1 431 Request Header Fields Too Large\r\n"), Some(431));
        assert_eq!(status_of_bare_answer(b"HTTP/1.0 414 URI Too Long\r\n"), Some(414));
        for other in [&b"HTTP/1.1 100 Continue\r\n"[..], b"HTTP/1.1 200 OK", b"HTTP/1.1 4", b"HTTP/1.1 4x0 ", b""] {
            assert_eq!(status_of_bare_answer(other), None);
        }
    }
}
