//! The moment by which an exchange must be over, and waiting for something no longer than that.
//!
//! Set from the bounds that `limits` gives; without them there is none. Waits by tokio's timer.
//!
//! Invariant: once it has passed it stays passed.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// A deadline, or none.
#[derive(Default)]
pub(crate) struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    has_passed: bool,
}

/// It has passed.
pub(crate) struct Late;

impl Deadline {
    /// Begins to wait, if it has not begun.
    pub(crate) fn arm(&mut self, left: Duration) {
        if self.sleep.is_none() {
            self.sleep = Some(Box::pin(tokio::time::sleep(left)));
        }
    }

    /// Never again.
    pub(crate) fn lift(&mut self) {
        *self = Deadline::default();
    }

    /// Ready once it has passed.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        if !self.has_passed && sleep.as_mut().poll(context).is_ready() {
            self.has_passed = true;
        }
        if self.has_passed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits for `future`, but no longer than this.
    pub(crate) async fn before<F: Future>(&mut self, future: F) -> Result<F::Output, Late> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(context).map(|()| Err(Late)),
        })
        .await
    }
}
