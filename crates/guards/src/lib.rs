//! What may pass: the guards, the list they stand on, and the one runner.
//!
//! A newcomer reads [`request_path`] (the list), then a guard's `mod.rs`, then its `decide.rs`. [`guard`] is the contract,
//! [`exchange`] what guards read and give, [`path`] the runner, [`trail`] what they decided.
//!
//! Invariant: no I/O and no clock reads. State is behind the store's traits, time arrives with the exchange.

pub mod all;
pub mod config;
pub mod exchange;
pub mod guard;
pub mod path;
#[cfg(test)]
pub(crate) mod rehearsal;
pub mod request_path;
mod short_field;
pub mod trail;

pub mod access_log;
pub mod breaker;
pub mod client_address;
pub mod limits;
pub mod overload;
pub mod rate_limit;
pub mod read_only;
pub mod request_id;
pub mod route;
pub mod security_headers;
