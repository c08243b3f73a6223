//! Tests of the guard: lists, the ladder, the register against a model, files, and the whole path.
//!
//! Invariant: no test reads a clock or sleeps; times are made up.

mod lists;
mod path;
mod register;

use std::time::Duration;

use portcullis_core::clock::Now;
use portcullis_core::metric::Registry;
use portcullis_core::units::Cidr;
use portcullis_store::bans::Origin;
use serde_json::{Value, json};

use super::config::{Rules, compile};
use super::{Bans, Known, NotPlaced, Order};
use crate::config::PathConfig;

const HOUR: Duration = Duration::from_secs(3600);
/// 2026-01-01T10:00:00Z, when the pretend process is an hour old.
const EPOCH_MILLIS: u64 = 1_767_261_600_000;

/// So many seconds after the beginning, on both clocks.
fn at(seconds: u64) -> Now {
    Now { monotonic_nanos: (3600 + seconds) * 1_000_000_000, unix_millis: EPOCH_MILLIS + seconds * 1000 }
}

fn net(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn config(value: Value) -> PathConfig {
    serde_json::from_value(value).unwrap()
}

fn rules(value: Value) -> Rules {
    compile(&config(value)).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

fn register(value: Value) -> Bans {
    let bans = Bans::new(&Registry::new("p"));
    bans.adopt(&std::sync::Arc::new(rules(value)));
    bans
}

fn order(network: &str, origin: Origin, time: Option<Duration>) -> Order {
    Order { network: net(network), origin, reason: "test".to_owned(), time }
}

fn by_watch(network: &str) -> Order {
    order(network, Origin::LoginWatch, Some(HOUR))
}

fn is_banned(bans: &Bans, address: &str, now: &Now) -> bool {
    bans.find(address.parse().unwrap(), now).is_some()
}

fn hours(known: Result<Known, NotPlaced>) -> u64 {
    known.expect("it is placed").left.expect("it has an end").as_secs().div_ceil(3600)
}
