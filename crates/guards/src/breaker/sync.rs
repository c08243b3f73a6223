//! What the breaker's state stands on: the standard library's atomics and lock, and a number for each thread.
//!
//! It is a file of its own so that the model test can compile `state.rs` and `window.rs` a second time over loom's
//! versions of the same and try every interleaving, without build flags that would reach other crates.
//!
//! Invariant: no two threads of the process ever have the same seat, also one after the other.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};

use std::cell::Cell;
use std::sync::atomic::AtomicUsize;

/// How many rings successes are counted in; see `window.rs`.
pub(super) const SEATS: usize = 16;

/// The seat of the calling thread, given when it first asks: 0, 1, 2 and so on.
#[inline]
pub(super) fn seat() -> usize {
    const NONE: usize = usize::MAX;
    thread_local! {
        static SEAT: Cell<usize> = const { Cell::new(NONE) };
    }
    #[cold]
    fn take() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let seat = NEXT.fetch_add(1, Ordering::Relaxed);
        SEAT.set(seat);
        seat
    }
    match SEAT.get() {
        NONE => take(),
        seat => seat,
    }
}
