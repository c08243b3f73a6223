//! The whole gateway, as a process, from outside: what a client sees, what an upstream sees, what the operator sees.

mod accounts;
mod admin;
mod attacked;
mod bans;
mod commands;
mod control;
mod differential;
mod edge;
mod faults;
mod hostile;
mod identity;
mod life;
mod misbehaving;
mod overload;
mod permissions;
mod safe_failure;
mod scenarios;
mod secrets;
mod services;
mod streams;
mod telemetry;
mod upstreams;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
