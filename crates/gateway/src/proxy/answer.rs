//! The response body on its way to the client, and the end of the visit that owns it.
//!
//! Streams the upstream's frames without holding them, counts bytes, drops trailers, gives the upstream's connection back
//! when the body was read whole, and closes it when not.
//!
//! Invariant: a body that ends early ends with an error, so that the client's connection is cut and never looks complete.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_guards::guard::End;

use super::Held;
use crate::visit::Visit;

/// Where the bytes of an answer come from.
pub enum Stream {
    /// The gateway's own.
    Bytes(Bytes),
    /// The upstream's.
    Upstream(Incoming, Option<Held>),
}

impl Stream {
    /// The client gets something else instead.
    pub fn leave(self, visit: &Visit) {
        if let Stream::Upstream(_, Some(held)) = self {
            held.left(visit);
        }
    }
}

/// A response body with its visit.
#[expect(clippy::large_enum_variant, reason = "nearly every answer is told, and a box would be an allocation for each")]
pub enum Answer {
    /// The body of an answer.
    Told(Telling),
    /// No body: the connection was switched, and its visit goes on as a tunnel.
    Switched,
}

/// A response body on its way.
pub struct Telling {
    stream: Stream,
    visit: Box<Visit>,
}

/// The body ended early; the visit has noted why.
#[derive(Debug, thiserror::Error)]
#[error("the response body ended early: {0:?}")]
pub struct Cut(End);

impl Answer {
    /// The body of `visit`'s response.
    #[must_use]
    pub fn new(visit: Box<Visit>, stream: Stream) -> Answer {
        let mut telling = Telling { stream, visit };
        // hyper asks nothing of a body that is over before it began.
        if telling.is_over() {
            telling.complete();
        }
        Answer::Told(telling)
    }
}

impl Telling {
    fn is_over(&self) -> bool {
        match &self.stream {
            Stream::Bytes(bytes) => bytes.is_empty(),
            Stream::Upstream(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn complete(&mut self) {
        if self.visit.end == End::ClientGone {
            self.visit.end = End::Complete;
        }
        if let Stream::Upstream(_, held) = &mut self.stream
            && let Some(held) = held.take()
        {
            held.whole(&self.visit);
        }
    }

    fn cut(&mut self, end: End) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.visit.end = end;
        if let Stream::Upstream(_, held) = &mut self.stream
            && let Some(held) = held.take().filter(|_| end == End::UpstreamCut)
        {
            held.cut(&self.visit);
        }
        Poll::Ready(Some(Err(Cut(end))))
    }

    fn poll_upstream(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Stream::Upstream(incoming, _) = &mut self.stream else { return Poll::Ready(None) };
        match Pin::new(&mut *incoming).poll_frame(context) {
            Poll::Pending if self.visit.watch.has_passed() => self.cut(End::DeadlinePassed),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    self.visit.bytes_out += data.len() as u64;
                    if let Some(tap) = &self.visit.exchange.answer_tap {
                        tap.feed(&data);
                    }
                    if incoming.is_end_stream() {
                        self.complete();
                    }
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(_trailers) => {
                    self.complete();
                    Poll::Ready(None)
                }
            },
            Poll::Ready(Some(Err(_))) => self.cut(End::UpstreamCut),
            Poll::Ready(None) => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Answer::Told(this) = self.get_mut() else { return Poll::Ready(None) };
        match &mut this.stream {
            Stream::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.visit.bytes_out += bytes.len() as u64;
                this.complete();
                if bytes.is_empty() { Poll::Ready(None) } else { Poll::Ready(Some(Ok(Frame::data(bytes)))) }
            }
            Stream::Upstream(..) => this.poll_upstream(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Told(telling) => telling.is_over(),
            Answer::Switched => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Told(Telling { stream: Stream::Bytes(bytes), .. }) => SizeHint::with_exact(bytes.len() as u64),
            Answer::Told(Telling { stream: Stream::Upstream(incoming, _), .. }) => incoming.size_hint(),
            Answer::Switched => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        // A visit whose deadline passed while the client did not read is cut by the connection's driver.
        if self.visit.end == End::ClientGone && self.visit.watch.has_passed() {
            self.visit.end = End::DeadlinePassed;
        }
    }
}
