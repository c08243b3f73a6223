//! Makes header values out of short texts without an allocation for each.
//!
//! Request ids and addresses become fields of every request. They are written one after the other into a block that each
//! thread keeps; a value is a counted piece of its block, and a block is used again when all of its pieces are gone.
//!
//! Invariant: a value keeps at most one block of [`BLOCK_BYTES`] alive, and none that another thread writes to.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// Room for the fields of some twenty requests.
const BLOCK_BYTES: usize = 2048;

/// Longer texts get an allocation of their own, so that they cannot empty a block at once.
const SHORT_BYTES: usize = 256;

thread_local! {
    static BLOCK: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BLOCK_BYTES));
}

/// `text` as a header value; `None` when it holds a byte that cannot stand in one.
pub(crate) fn short_field(text: &[u8]) -> Option<HeaderValue> {
    if text.len() > SHORT_BYTES {
        return HeaderValue::from_bytes(text).ok();
    }
    HeaderValue::from_maybe_shared(piece(text)).ok()
}

fn piece(text: &[u8]) -> Bytes {
    BLOCK.with_borrow_mut(|block| {
        // Takes the same block from its beginning when nobody holds a piece of it any more, or else a new one.
        block.reserve(text.len());
        block.extend_from_slice(text);
        block.split().freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_was_written_and_stay_so() {
        let texts: Vec<String> = (0..2000).map(|index| format!("value-{index}-{}", "x".repeat(index % 300))).collect();
        let values: Vec<HeaderValue> = texts.iter().map(|text| short_field(text.as_bytes()).unwrap()).collect();
        for (text, value) in texts.iter().zip(&values) {
            assert_eq!(value, text.as_str());
        }
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_no_value() {
        for text in [&b"a\nb"[..], b"a\0b", b"\x7f", &[b'\n'; 300]] {
            assert_eq!(short_field(text), None);
        }
    }

    #[test]
    fn a_block_whose_pieces_are_gone_is_used_again() {
        let first = piece(b"0123456789");
        let begin = first.as_ptr() as usize;
        drop(first);
        let mut seen_again = false;
        for _ in 0..BLOCK_BYTES {
            seen_again |= piece(b"0123456789").as_ptr() as usize == begin;
        }
        assert!(seen_again);
    }
}
