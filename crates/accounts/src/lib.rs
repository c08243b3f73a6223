//! The accounts room: who people are, how they prove it, and for how long that holds.
//!
//! `password`, `hashers`, `policy`, `common`, `totp`, `token` and `lockout` are the parts of a proof, each a pure function or a
//! small bounded table; `config` is what the operator writes about them.
//!
//! Nothing here knows HTTP, reads a clock, or waits for a disk.

pub mod common;
pub mod config;
pub mod hashers;
pub mod lockout;
pub mod password;
pub mod policy;
pub mod token;
pub mod totp;
