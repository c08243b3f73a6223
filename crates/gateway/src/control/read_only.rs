//! `/api/v1/read-only`: which routes refuse writes and why, and saying so by hand.
//!
//! Invariant: only routes of the running config can be named; what is said by hand holds until the next start.

use std::sync::Arc;

use http::StatusCode;
use portcullis_core::clock::Clock;
use portcullis_guards::read_only::{ByHand, Mode, Why};
use serde_json::{Value, json};

use super::routes::{Answer, Call, Pending};
use crate::life::Gate;

/// Every route, and how it stands.
pub(super) fn list(gate: Arc<Gate>, _call: Call) -> Pending {
    Answer::ok(json!({ "routes": routes(&gate) })).now()
}

/// `{"state": "on" | "off" | "auto"}` for one route, or for all where the segment is `*`.
pub(super) fn set(gate: Arc<Gate>, call: Call) -> Pending {
    let by_hand = match call.body["state"].as_str() {
        Some("on") => ByHand::On,
        Some("off") => ByHand::Off,
        Some("auto") => ByHand::Nothing,
        _ => return Answer::wrong(StatusCode::BAD_REQUEST, "`state` must be on, off or auto").now(),
    };
    let names = names(&gate);
    let meant: Vec<&String> = names.iter().filter(|name| call.segment == "*" || call.segment == **name).collect();
    if meant.is_empty() {
        let known = names.join(", ");
        let told = format!("there is no route `{}`; there are {known}", call.segment);
        return Answer::wrong(StatusCode::NOT_FOUND, told).now();
    }
    for name in meant {
        gate.ground.read_only.of(name).set(by_hand);
        gate.log.event("warn", "read_only", &[("route", name), ("by_hand", word(by_hand))]);
    }
    Answer::ok(json!({ "routes": routes(&gate) })).now()
}

/// What health pages and commands tell of each route.
pub fn routes(gate: &Gate) -> Value {
    let now = gate.clock.now().monotonic_nanos;
    let told = |name: &String| {
        let standing = gate.ground.read_only.of(name).standing(now);
        let mode = match standing.mode {
            Mode::Never => "never",
            Mode::Always => "always",
            Mode::Auto => "auto",
        };
        json!({
            "route": name,
            "read_only": standing.why.is_some(),
            "why": standing.why.map(Why::name),
            "mode": mode,
            "by_hand": (standing.by_hand != ByHand::Nothing).then(|| word(standing.by_hand)),
        })
    };
    Value::Array(names(gate).iter().map(told).collect())
}

fn names(gate: &Gate) -> Vec<String> {
    let running = gate.running();
    let names: Vec<String> = running.config.path.routes.iter().map(|route| route.name.clone()).collect();
    // Without routes there is one.
    if names.is_empty() { vec![portcullis_guards::route::IMPLICIT.to_owned()] } else { names }
}

fn word(by_hand: ByHand) -> &'static str {
    match by_hand {
        ByHand::Nothing => "auto",
        ByHand::On => "on",
        ByHand::Off => "off",
    }
}
