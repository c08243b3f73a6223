//! The client's body on its way to the upstream: streamed, counted, never held.
//!
//! Stops the upload when it grows past the route's bound; the upstream then sees an aborted request, never a shortened
//! one that looks complete. Trailers are dropped (ATTACKS row 15).
//!
//! Invariant: at most one frame is in memory at a time.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_core::fault::Fault;
use portcullis_guards::exchange::Tap;
use portcullis_guards::limits::BodyMeter;

/// What has become of the client's body; shared with the request that is streamed to the upstream.
#[derive(Default)]
pub struct Upload {
    /// Bytes received.
    pub bytes: Cell<u64>,
    /// The last byte has arrived.
    pub is_done: Cell<bool>,
    /// Why it will not arrive.
    pub fault: Cell<Option<Fault>>,
    /// The upstream would take more of it, and the client does not send it.
    pub waits_for_client: Cell<bool>,
    /// Who waits for its end.
    pub waker: RefCell<Option<Waker>>,
}

impl Upload {
    /// The last byte has arrived.
    pub fn finish(&self) {
        self.is_done.set(true);
        self.waits_for_client.set(false);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What is sent to an upstream.
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// The client's body.
    Streamed {
        /// Its frames.
        incoming: Incoming,
        /// Counts it against the route's bound.
        meter: BodyMeter,
        /// A guard that wants to see its beginning.
        tap: Option<Arc<Tap>>,
        /// Where its fate is noted.
        upload: Rc<Upload>,
    },
}

/// The upload was stopped; why is noted in the [`Upload`].
#[derive(Debug, thiserror::Error)]
#[error("the client's body was stopped: {0:?}")]
pub struct Stopped(Fault);

impl RequestBody {
    /// Whether not a byte of it has been asked for.
    pub fn is_untouched(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streamed { upload, .. } => upload.bytes.get() == 0 && upload.fault.get().is_none(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        let RequestBody::Streamed { incoming, meter, tap, upload } = self.get_mut() else { return Poll::Ready(None) };
        let stop = |fault| {
            upload.fault.set(Some(fault));
            Poll::Ready(Some(Err(Stopped(fault))))
        };
        let polled = Pin::new(&mut *incoming).poll_frame(context);
        upload.waits_for_client.set(polled.is_pending());
        match ready!(polled) {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    // Trailers come last; dropping them ends the body.
                    upload.finish();
                    return Poll::Ready(None);
                };
                let counted = meter.count(data.len());
                upload.bytes.set(meter.bytes());
                if let Err(fault) = counted {
                    return stop(fault);
                }
                if let Some(tap) = tap {
                    tap.feed(&data);
                }
                if incoming.is_end_stream() {
                    upload.finish();
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(_)) => stop(Fault::RequestBodyBroken),
            None => {
                upload.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}
