//! What may pass: the guards, the list they stand on, and the one runner.
//!
//! A newcomer reads [`request_path`] (the list), then a guard's `mod.rs`, then its `decide.rs`. [`guard`] is the contract,
//! [`exchange`] what guards read and give, [`path`] the runner, [`trail`] what they decided.
//!
//! Invariant: no clock reads, and no I/O but reading files that the config names, while it is compiled. State is behind the store's traits, time arrives with the exchange.

pub mod all;
pub mod config;
pub mod exchange;
pub mod guard;
pub mod networks;
pub mod path;
#[cfg(test)]
pub(crate) mod rehearsal;
pub mod request_path;
mod short_field;
pub mod trail;

pub mod access_log;
pub mod breaker;
pub mod client_address;
pub mod identity;
pub mod ip_block;
pub mod limits;
pub mod login_watch;
pub mod overload;
pub mod permissions;
pub mod rate_limit;
pub mod read_only;
pub mod request_id;
pub mod route;
pub mod security_headers;
pub mod stale_if_error;
