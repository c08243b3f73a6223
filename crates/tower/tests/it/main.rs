//! Tests of the layers as an axum service uses them.
//!
//! `stage` is what they stand on. Where sockets matter a real server is asked by a real client on the loopback; elsewhere
//! the service is called as it is, and time is pretended.
//!
//! Invariant: no test sleeps, and none waits for a clock.

mod bodies;
mod calls;
mod ends;
mod facts;
mod refusals;
mod same_runner;
mod stage;
