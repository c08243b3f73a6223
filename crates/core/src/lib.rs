//! Words and rules that every room shares: facts, decisions, refusals, faults, units, secrets, clock, metrics.
//!
//! Invariant: no I/O, no tokio, no clock reads, no randomness. Everything here is a value or a pure function.

pub mod secret;
pub mod units;
