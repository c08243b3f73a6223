//! The connections a generator holds: one request in flight on each at most.
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::Context;

use crate::answer::{self, Answer};
use crate::reactor::Reactor;
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
    received: Vec<u8>,
}

impl Client {
    /// Connects and reports readiness to `reactor` as `token`.
    pub(crate) fn connect(target: SocketAddr, reactor: &Reactor, token: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target).with_context(|| format!("connecting to {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        reactor.add(&stream, token)?;
        Ok(Self { target, token, stream, received: Vec::new() })
    }

    /// Replaces a lost connection by a new one.
    pub(crate) fn reconnect(&mut self, reactor: &Reactor) -> anyhow::Result<()> {
        *self = Self::connect(self.target, reactor, self.token)?;
        Ok(())
    }

    /// Sends a request; `false` when the other side has gone.
    pub(crate) fn send(&mut self, request: &[u8]) -> bool {
        self.stream.write_all(request).is_ok()
    }

    /// Reads what is there.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<Received> {
        let read = match self.stream.read(buffer) {
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
