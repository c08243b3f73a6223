//! The response body on its way to the client, and the end of the visit that owns it.
//!
//! Streams the service's frames, trailers included, counts bytes, and ends with an error where the deadline passes, so
//! that a cut answer never looks complete.
//!
//! Invariant: the visit ends when the server lets go of this body, whatever was read of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use portcullis_guards::guard::{End, ResponseHead};

use crate::BoxError;
use crate::visit::Visit;

/// The body of an answer was cut off.
#[derive(Debug, thiserror::Error)]
#[error("the response body was cut: {}", .0.name())]
pub struct Cut(End);

pin_project! {
    /// A response body that is counted, and bounded in time.
    pub struct Answer<R> {
        // The service's; none for the layer's own answers and after a panic.
        #[pin]
        service: Option<R>,
        own: Bytes,
        visit: Box<Visit>,
        // Bytes that are still to come, where the head says how many. A server stops asking when it has them.
        left: Option<u64>,
    }
}

impl<R: Body> Answer<R> {
    pub(crate) fn new(mut visit: Box<Visit>, head: &ResponseHead, body: Result<R, Bytes>) -> Answer<R> {
        let (service, own) = match body {
            Ok(service) => (Some(service), Bytes::new()),
            Err(own) => (None, own),
        };
        let announced = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let known = service.as_ref().map_or(Some(own.len() as u64), |service| service.size_hint().exact());
        let left = announced.or(known);
        // A server asks nothing of a body that is over before it began, nor of one that is not sent.
        let is_over = service.as_ref().map_or(own.is_empty(), Body::is_end_stream);
        if is_over || left == Some(0) || is_not_sent(visit.method(), head.status) {
            complete(&mut visit);
        }
        Answer { service, own, visit, left }
    }
}

/// RFC 9110, section 6.4.1.
fn is_not_sent(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn complete(visit: &mut Visit) {
    if visit.end == End::ClientGone {
        visit.end = End::Complete;
    }
    visit.deadline.lift();
}

fn cut(visit: &mut Visit, end: End) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    visit.end = end;
    visit.deadline.lift();
    Poll::Ready(Some(Err(Cut(end).into())))
}

impl<R> Body for Answer<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let visit = &mut **this.visit;
        let Some(mut service) = this.service.as_mut().as_pin_mut() else {
            let own = std::mem::take(this.own);
            visit.bytes_out += own.len() as u64;
            complete(visit);
            return Poll::Ready((!own.is_empty()).then(|| Ok(Frame::data(own))));
        };
        // Asked first: a body that always has more would never let it be asked.
        if visit.deadline.poll(context).is_ready() {
            this.service.set(None);
            return cut(visit, End::DeadlinePassed);
        }
        // Asserted: after a panic the body is dropped and not asked again.
        match catch_unwind(AssertUnwindSafe(|| service.as_mut().poll_frame(context))) {
            Err(_) => {
                this.service.set(None);
                cut(visit, End::Panicked)
            }
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(None)) => {
                complete(visit);
                Poll::Ready(None)
            }
            Ok(Poll::Ready(Some(Err(error)))) => {
                visit.end = End::UpstreamCut;
                Poll::Ready(Some(Err(error.into())))
            }
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                visit.bytes_out += bytes;
                if let (Some(tap), Some(data)) = (&visit.exchange.answer_tap, frame.data_ref()) {
                    tap.feed(data);
                }
                if let Some(left) = this.left {
                    *left = left.saturating_sub(bytes);
                }
                if frame.is_trailers() || service.is_end_stream() || *this.left == Some(0) {
                    complete(visit);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.service.as_ref().map_or(self.own.is_empty(), Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.service.as_ref().map_or_else(|| SizeHint::with_exact(self.own.len() as u64), Body::size_hint)
    }
}
