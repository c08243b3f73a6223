//! The accounts room: who people are, how they prove it, and for how long that holds.
//!
//! `register` keeps accounts, sessions and API keys in memory, is asked on the way of requests, and marks what must be written
//! down; the gateway writes it to the store. `password`, `hashers`, `policy`, `common`, `names`, `totp`, `token` and `lockout`
//! are the parts of a proof, each a pure function or a small bounded table; `service` puts them together into what people do;
//! `config` is what the operator writes about all of it.
//!
//! Nothing here knows HTTP, reads a clock, or waits for a disk.

pub mod common;
pub mod config;
pub mod hashers;
pub mod lockout;
pub mod metrics;
pub mod names;
pub mod password;
pub mod policy;
pub mod register;
pub mod service;
pub mod token;
pub mod totp;
