//! The socket of an HTTP/2 connection, with an ear for clients that talk and ask for nothing (ATTACKS row 43).
//!
//! h2 bounds what concerns streams (resets, CONTINUATION, empty DATA). SETTINGS, PING, PRIORITY and WINDOW_UPDATE it answers as
//! fast as they come. Here the nine bytes before each frame are read along (RFC 9113, section 4.1): talk is counted, and
//! every request, every piece of a body and every answer pays for some of it.
//!
//! Invariant: bytes pass unchanged; a client that sends requests or bodies, or reads answers, is never cut for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;

/// Bytes of talk that a client may be in debt for.
const MOST_TALK: usize = 64 * 1024;
/// What a request or a piece of a body pays for.
const PAID_BY_FRAME: usize = 1024;
/// An answer pays for one byte of talk with so many of its own, so that an echoed PING pays for nothing to speak of.
const ANSWER_BYTES_FOR_ONE: usize = 64;
/// What stands before the first frame.
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The socket.
pub(super) struct Heard {
    socket: Socket,
    ear: Ear,
}

/// Follows the frames of a client.
struct Ear {
    head: [u8; FRAME_HEAD_BYTES],
    /// Bytes of `head` that have come.
    come: usize,
    /// Bytes to pass over before the next frame's head.
    passing: usize,
    talk: usize,
}

impl Heard {
    /// Hears a connection from its preface on.
    pub(super) fn new(socket: Socket) -> Heard {
        Heard { socket, ear: Ear::new() }
    }
}

impl Ear {
    fn new() -> Ear {
        Ear { head: [0; FRAME_HEAD_BYTES], come: 0, passing: PREFACE_BYTES, talk: 0 }
    }

    /// Hears what has come; `false` when it was too much talk.
    fn hear(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let passed = self.passing.min(bytes.len());
            self.passing -= passed;
            bytes = &bytes[passed..];
            let taken = (FRAME_HEAD_BYTES - self.come).min(bytes.len());
            self.head[self.come..self.come + taken].copy_from_slice(&bytes[..taken]);
            self.come += taken;
            bytes = &bytes[taken..];
            if self.come == FRAME_HEAD_BYTES {
                self.come = 0;
                self.passing =
                    usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2]);
                self.count();
            }
        }
        self.talk <= MOST_TALK
    }

    /// A frame's head is complete.
    fn count(&mut self) {
        match self.head[3] {
            HEADERS => self.talk = self.talk.saturating_sub(PAID_BY_FRAME),
            DATA if self.passing > 0 => self.talk = self.talk.saturating_sub(PAID_BY_FRAME),
            // Bounded by h2 itself.
            DATA | CONTINUATION => {}
            _ => self.talk = self.talk.saturating_add(FRAME_HEAD_BYTES + self.passing),
        }
    }

    fn answered(&mut self, bytes: usize) {
        self.talk = self.talk.saturating_sub(bytes / ANSWER_BYTES_FOR_ONE);
    }
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if self.ear.hear(&buffer.filled()[before..]) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the client only talks")))
        }
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
        self.ear.answered(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, kind, 0, 0, 0, 0, 1];
        bytes.resize(FRAME_HEAD_BYTES + length, 0x41);
        bytes
    }

    /// An ear that has heard the preface.
    fn ear() -> Ear {
        let mut ear = Ear::new();
        assert!(ear.hear(&[0x50; PREFACE_BYTES]));
        ear
    }

    #[test]
    fn talk_alone_ends_and_requests_and_bodies_never_do() {
        let (mut talk, mut requests, mut body) = (ear(), ear(), ear());
        assert!((0..10_000).any(|_| !talk.hear(&frame(6, 8))), "PING for ever");
        assert!((0..10_000).all(|_| requests.hear(&frame(HEADERS, 50)) && requests.hear(&frame(8, 4))));
        assert!((0..10_000).all(|_| body.hear(&frame(DATA, 16_000))));
    }

    #[test]
    fn who_reads_a_long_answer_may_say_so_as_often_as_needed() {
        let mut ear = ear();
        for _ in 0..1_000_000 {
            ear.answered(1024);
            assert!(ear.hear(&frame(8, 4)));
        }
        // An echo is no answer to speak of.
        assert!((0..100_000).any(|_| {
            ear.answered(17);
            !ear.hear(&frame(6, 8))
        }));
    }

    #[test]
    fn frames_are_followed_wherever_they_are_cut() {
        let stream: Vec<u8> =
            [vec![0x50; PREFACE_BYTES], frame(4, 18), frame(HEADERS, 300), frame(DATA, 70_000), frame(8, 4)].concat();
        let mut whole = Ear::new();
        assert!(whole.hear(&stream));
        for size in [1, 2, 7, 9, 10, 4096] {
            let mut cut = Ear::new();
            assert!(stream.chunks(size).all(|piece| cut.hear(piece)));
            assert_eq!((cut.talk, cut.passing, cut.come), (whole.talk, whole.passing, whole.come), "{size}");
        }
    }
}
