//! The networks of the proxies in front of the gateway: `request_id` asks about the peer, `client_address` about every hop.
//!
//! Invariant: an empty list trusts nobody.

pub use crate::networks::Networks as TrustedProxies;
