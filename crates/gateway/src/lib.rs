//! The gate itself: listeners, the proxy at the end of the request path, config, telemetry, reload and shutdown.
//!
//! A request enters in [`listen`], becomes a [`visit`], goes down the guards' request path, is answered by [`proxy`] and
//! goes up again. [`running`] is one validated config in its compiled form; [`life`] swaps it and ends the process.
//!
//! Invariant: one current-thread runtime a core; nothing that a core needs for a request is shared under a lock.

pub mod accounts;
pub mod acme;
pub mod admin;
pub mod clock;
pub mod config;
pub mod control;
pub mod explain;
pub mod keeper;
pub mod keys;
pub mod life;
pub mod listen;
pub mod permissions;
pub mod pressure;
pub mod proxy;
pub mod running;
pub mod serve;
pub mod telemetry;
pub mod trial;
pub mod visit;
