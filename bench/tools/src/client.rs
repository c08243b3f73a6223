//! The connections a generator holds: one request in flight on each at most, with TLS around it or without.
//!
//! Invariant: a session over TLS is checked when its handshake ends, before any answer on it counts.
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::Context;
use rustls::ClientConnection;

use crate::answer::{self, Answer};
use crate::reactor::Reactor;
use crate::tls::{self, Dialer};
use crate::upstream::BODY_BYTES;

/// What became of reading from a connection.
pub(crate) enum Received {
    /// Nothing complete yet.
    Part,
    /// The answer to the request in flight.
    Whole(Answer),
    /// The connection is of no more use; `reconnect` it.
    Lost,
}

/// One connection.
pub(crate) struct Client {
    target: SocketAddr,
    token: usize,
    stream: TcpStream,
    dialer: Option<Dialer>,
    session: Option<ClientConnection>,
    received: Vec<u8>,
}

impl Client {
    /// Connects and reports readiness to `reactor` as `token`. A handshake goes on while requests are sent and received.
    pub(crate) fn connect(
        target: SocketAddr,
        dialer: Option<Dialer>,
        reactor: &Reactor,
        token: usize,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target).with_context(|| format!("connecting to {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        reactor.add(&stream, token)?;
        let session = dialer.as_ref().map(Dialer::begin).transpose()?;
        Ok(Self { target, token, stream, dialer, session, received: Vec::new() })
    }

    /// Replaces the connection by a new one; the old one is closed as TLS asks for (RFC 8446, section 6.1).
    pub(crate) fn reconnect(&mut self, reactor: &Reactor) -> anyhow::Result<()> {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
            // The other side may have gone already; then there is nobody to tell.
            let _ = session.write_tls(&mut self.stream);
        }
        *self = Self::connect(self.target, self.dialer.take(), reactor, self.token)?;
        Ok(())
    }

    /// Sends a request; `false` when the other side has gone. During the handshake it waits in the session.
    pub(crate) fn send(&mut self, request: &[u8]) -> bool {
        let Self { session, stream, .. } = self;
        match session {
            None => stream.write_all(request).is_ok(),
            Some(session) => session.writer().write_all(request).is_ok() && flush(session, stream),
        }
    }

    /// Reads what is there.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<Received> {
        let read = match &mut self.session {
            None => self.stream.read(buffer),
            Some(session) => decrypt(session, &mut self.stream, buffer)?,
        };
        let read = match read {
            Ok(read) if read > 0 => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Part),
            _ => return Ok(Received::Lost),
        };
        if self.received.is_empty() {
            // Nearly always the whole answer arrives at once and nothing has to be kept.
            if let Some(answer) = answer::read(&buffer[..read])? {
                return Ok(Received::Whole(answer));
            }
        }
        self.received.extend_from_slice(&buffer[..read]);
        let Some(answer) = answer::read(&self.received)? else { return Ok(Received::Part) };
        self.received.clear();
        Ok(Received::Whole(answer))
    }
}

/// Hands everything the session wants to send to the socket; `false` when the other side has gone.
fn flush(session: &mut ClientConnection, stream: &mut TcpStream) -> bool {
    while session.wants_write() {
        if session.write_tls(stream).is_err() {
            return false;
        }
    }
    true
}

/// Reads once from the socket and gives the plain bytes that came out, as `read` does.
///
/// # Errors
/// When the other side breaks TLS or agreed on something that was not asked for.
fn decrypt(
    session: &mut ClientConnection,
    stream: &mut TcpStream,
    buffer: &mut [u8],
) -> anyhow::Result<std::io::Result<usize>> {
    let was_in_handshake = session.is_handshaking();
    match session.read_tls(stream) {
        Ok(read) if read > 0 => {}
        end => return Ok(end),
    }
    session.process_new_packets().context("TLS")?;
    if was_in_handshake && !session.is_handshaking() {
        tls::check(session)?;
    }
    if !flush(session, stream) {
        return Ok(Ok(0));
    }
    Ok(session.reader().read(buffer))
}

/// Whether an answer is the one this scenario must give.
pub(crate) fn is_right(answer: Answer, expected_status: u16) -> bool {
    answer.status == expected_status && if answer.status == 200 { answer.body_bytes == BODY_BYTES } else { true }
}

#[cfg(test)]
mod tests {
    use super::is_right;
    use crate::answer::Answer;

    #[test]
    fn a_short_body_and_another_status_are_wrong() {
        let answer = |status, body_bytes| Answer { status, head_bytes: 100, body_bytes };
        assert!(is_right(answer(200, 200), 200));
        assert!(!is_right(answer(200, 0), 200));
        assert!(!is_right(answer(502, 200), 200));
        assert!(is_right(answer(429, 230), 429));
    }
}
