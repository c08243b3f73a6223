//! What the store's backends promise, seen from outside.
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop the test")]

mod accounts;
mod acts;
mod bans;
mod counters;
mod permissions;
