//! The atomics and the lock that the breaker's state stands on: the standard library's.
//!
//! It is a file of its own so that the model test can compile `state.rs` and `window.rs` a second time over loom's
//! versions of the same types and try every interleaving, without build flags that would reach other crates.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};
