//! The client's body on its way to the service: streamed, counted, never held.
//!
//! Ends with an error where it grows past the bound, and notes why, so that the answer is 413 whatever the handler makes
//! of that error. Trailers are dropped: they would be fields that no guard has seen.
//!
//! Invariant: a body that was stopped never looks complete, however often it is asked again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use portcullis_core::fault::Fault;
use portcullis_guards::exchange::Tap;
use portcullis_guards::limits::BodyMeter;

use crate::BoxError;

/// What has become of a client's body; shared with whoever reads it, on whatever task.
#[derive(Default)]
pub(crate) struct Upload {
    bytes: AtomicU64,
    is_done: AtomicBool,
    fault: AtomicU8,
}

const TOO_LARGE: u8 = 1;
const BROKEN: u8 = 2;

impl Upload {
    /// Of a request that has no body, `is_done` is true from the start.
    pub(crate) fn new(is_done: bool) -> Upload {
        Upload { is_done: AtomicBool::new(is_done), ..Upload::default() }
    }

    /// Bytes received.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the last byte has arrived.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    /// Why it will not arrive.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self.fault.load(Ordering::Relaxed) {
            TOO_LARGE => Some(Fault::RequestBodyTooLarge),
            BROKEN => Some(Fault::RequestBodyBroken),
            _ => None,
        }
    }
}

/// The client's body was stopped, because it is larger than the route allows.
#[derive(Debug, thiserror::Error)]
#[error("the request body is larger than this route allows")]
pub struct BodyTooLarge;

pin_project! {
    /// A request body that is counted and bounded while it is read.
    pub struct RequestBody<B> {
        #[pin]
        body: B,
        // Without bounds nothing is refused.
        meter: Option<BodyMeter>,
        // A guard that wants to see its beginning.
        tap: Option<Arc<Tap>>,
        upload: Arc<Upload>,
    }
}

impl<B> RequestBody<B> {
    pub(crate) fn new(body: B, meter: Option<BodyMeter>, tap: Option<Arc<Tap>>, upload: Arc<Upload>) -> RequestBody<B> {
        RequestBody { body, meter, tap, upload }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let upload = &**this.upload;
        if upload.fault() == Some(Fault::RequestBodyTooLarge) {
            return Poll::Ready(Some(Err(BodyTooLarge.into())));
        }
        match ready!(this.body.as_mut().poll_frame(context)) {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    // Trailers come last; dropping them ends the body.
                    upload.is_done.store(true, Ordering::Relaxed);
                    return Poll::Ready(None);
                };
                upload.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                if this.meter.as_mut().is_some_and(|meter| meter.count(data.len()).is_err()) {
                    upload.fault.store(TOO_LARGE, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyTooLarge.into())));
                }
                if let Some(tap) = this.tap {
                    tap.feed(&data);
                }
                if this.body.is_end_stream() {
                    upload.is_done.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => {
                upload.fault.store(BROKEN, Ordering::Relaxed);
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                upload.is_done.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.upload.fault().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
