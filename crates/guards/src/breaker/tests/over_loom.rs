//! The breaker, compiled a second time over loom's atomics and lock: the code that is tried is the code that runs.
//!
//! `config.rs`, `decide.rs` and `observer.rs` hold no atomics and are shared with the first compilation.
//!
//! Invariant: nothing is written here but which types stand where `sync.rs` has the standard library's.
#![allow(clippy::duplicate_mod, reason = "on purpose, see above")]
#![allow(dead_code, unreachable_pub, reason = "the scenes use a part of what the breaker offers, and nobody else any")]

use super::super::{config, decide, observer};

pub(super) mod sync {
    pub(in super::super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(in super::super) use loom::sync::{Mutex, MutexGuard};

    use std::cell::Cell;

    /// One ring for a thread alone, one that is shared: each more makes every count longer and every scene slower.
    pub(in super::super) const SEATS: usize = 2;

    std::thread_local! {
        /// The seat of the next thread. A scene begins by setting it: to 0, and the first thread counts alone; to 1, and
        /// all share. (loom runs the threads of a scene on one real thread, so this one is the scene's.)
        pub(in super::super) static NEXT_SEAT: Cell<usize> = const { Cell::new(0) };
    }

    loom::thread_local! {
        static SEAT: Cell<Option<usize>> = Cell::new(None);
    }

    pub(in super::super) fn seat() -> usize {
        SEAT.with(|seat| {
            let number = seat.get().unwrap_or_else(|| NEXT_SEAT.replace(NEXT_SEAT.get() + 1));
            seat.set(Some(number));
            number
        })
    }
}

#[path = "../permit.rs"]
pub(super) mod permit;
#[path = "../state.rs"]
pub(super) mod state;
#[path = "../window.rs"]
mod window;
