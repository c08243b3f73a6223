//! Counts the bytes of a body that says its length only by ending. Used by the proxy, for every body it passes on.
//!
//! Invariant: once the limit is passed the answer stays no, so that a body that was cut cannot look complete.

use portcullis_core::fault::Fault;

use crate::exchange::Bounds;

/// How much of a body has come, against how much may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyMeter {
    limit: u64,
    bytes: u64,
}

impl BodyMeter {
    /// A meter at 0.
    #[must_use]
    pub fn new(bounds: &Bounds) -> BodyMeter {
        BodyMeter { limit: bounds.body_bytes, bytes: 0 }
    }

    /// Counts `bytes` that came, before they are passed on.
    ///
    /// # Errors
    /// [`Fault::RequestBodyTooLarge`] from the first byte past the limit on.
    pub fn count(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes > self.limit { Err(Fault::RequestBodyTooLarge) } else { Ok(()) }
    }

    /// How many bytes came, also past the limit.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
