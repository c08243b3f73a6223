//! The client's body on its way to the upstream: streamed, counted, never held.
//!
//! Stops the upload when it grows past the route's bound; the upstream then sees an aborted request, never a shortened
//! one that looks complete. Trailers are dropped (ATTACKS row 15).
//!
//! Invariant: at most one frame is in memory at a time.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_core::fault::Fault;

use crate::visit::Upload;

/// What is sent to an upstream.
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// The client's body.
    Streamed {
        /// Its frames.
        incoming: Incoming,
        /// Bytes that may still come.
        left: u64,
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
        let RequestBody::Streamed { incoming, left, upload } = self.get_mut() else { return Poll::Ready(None) };
        let stop = |fault| {
            upload.fault.set(Some(fault));
            Poll::Ready(Some(Err(Stopped(fault))))
        };
        match ready!(Pin::new(&mut *incoming).poll_frame(context)) {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    // Trailers come last; dropping them ends the body.
                    upload.is_done.set(true);
                    return Poll::Ready(None);
                };
                let length = data.len() as u64;
                upload.bytes.set(upload.bytes.get() + length);
                if length > *left {
                    return stop(Fault::RequestBodyTooLarge);
                }
                *left -= length;
                if incoming.is_end_stream() {
                    upload.is_done.set(true);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(_)) => stop(Fault::RequestBodyBroken),
            None => {
                upload.is_done.set(true);
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
