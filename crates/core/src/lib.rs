//! Words and rules that every room shares: facts, decisions, refusals, faults, units, secrets, the clock, metrics.
//!
//! Everything here is a value or a pure function. Rooms above agree with each other by using these words.
//!
//! Invariant: no I/O, no async runtime, no clock reads, no randomness.

pub mod clock;
pub mod fault;
pub mod identity;
pub mod metric;
pub mod refusal;
pub mod secret;
pub mod units;
