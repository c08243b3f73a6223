//! The store room: what Portcullis remembers, one trait file per kind of record and one folder per backend.
//!
//! Guards and the rooms above read and write records through the traits here and never see which backend answers.
//! Every backend of a kind passes the same suite in [`conformance`], so that embedded and clustered mode count alike.
//!
//! Invariant: no backend here reads a clock or draws time from anywhere; `now` is always passed in.

pub mod accounts;
pub mod acts;
pub mod api_keys;
pub mod bans;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod counters;
pub mod memory;
pub mod permissions;
pub mod sessions;
#[cfg(feature = "sql")]
pub mod sql;
