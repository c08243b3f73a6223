//! What must hold for any bytes from outside: one module a fuzz target, each with its properties.
//!
//! A property is stronger than "does not crash": what comes out is read again by code that shares nothing with what wrote
//! it, and must mean the same. `cargo xtask fuzz` runs all targets, `seeds/` holds where they begin.
//!
//! Invariant: every check is deterministic: the same bytes give the same verdict.

pub mod config;
pub mod forwarded;
pub mod path;
pub mod token;
pub mod wire;

use std::net::SocketAddr;

use http::{HeaderMap, Method, Uri, Version};
use portcullis_core::clock::Now;
use portcullis_core::units::ByteSize;
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};
use portcullis_tower::Standing;

/// When every request arrives: 2026-01-01T10:00:00.000Z.
pub const NOW: Now = Now { monotonic_nanos: 1_000_000_000, unix_millis: 1_767_261_600_000 };

/// A ground in memory whose log goes nowhere.
#[must_use]
pub fn standing() -> Standing {
    let builder = Standing::builder().counters(ByteSize::from_mib(1)).log(|_| {});
    builder.build().expect("a mebibyte and some randomness can be had")
}

/// `GET /` from `peer` with these fields.
#[must_use]
pub fn exchange(peer: SocketAddr, headers: HeaderMap) -> Exchange {
    let arrival = Arrival {
        method: Method::GET,
        uri: Uri::from_static("/"),
        version: Version::HTTP_11,
        headers,
        body: Body::Absent,
        peer,
        is_secure: false,
    };
    Exchange::new(arrival, NOW, Touch::Take)
}
