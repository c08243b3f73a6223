//! What every backend of a record must do alike, as checks that any backend's tests can run.
//!
//! A backend's test makes an empty store and calls the `check_all` of its kind of record. Checks panic with what was
//! done and what came back, as tests do. Behind the feature `conformance`; no part of the gateway.
//!
//! Invariant: a check states what a caller can see, never how a backend does it.

pub mod accounts;
pub mod acts;
pub mod bans;
pub mod counters;
pub mod permissions;
