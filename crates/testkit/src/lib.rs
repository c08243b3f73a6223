//! What tests of the whole gateway stand on: the real binary as a process, upstreams that misbehave on purpose, a client
//! that sends exactly the bytes it is told, and the scenario runner.
//!
//! A dev-dependency only. Real services and clients are used wherever they can show what a test needs; the scripted
//! upstream is for what no real one can be made to do.
//!
//! Invariant: whatever a test starts ends with the test.

pub mod authority;
pub mod client;
pub mod gate;
pub mod reread;
pub mod scenario;
pub mod upstream;
