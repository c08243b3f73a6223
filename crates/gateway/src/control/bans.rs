//! Bans over the control socket: list, show, add, remove.
//!
//! A call that changes something is answered when the change is written down, or with `kept: false` and why when it could
//! not be: the ban holds either way.
//!
//! Invariant: what a call says about a network is decided by the register, under the rules that run.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portcullis_core::clock::{Clock, rfc3339};
use portcullis_core::units::{Cidr, Duration as Time};
use portcullis_guards::ip_block::{Known, Order};
use portcullis_store::bans::{LONGEST_REASON_BYTES, Origin};
use serde_json::{Value, json};

use super::routes::{Answer, Call, Pending};
use crate::life::Gate;

/// Networks in one answer; the rest follows with `after`.
const MOST_LISTED: usize = 500;
/// How long a call waits for its ban to be written.
const PATIENCE: Duration = Duration::from_secs(8);
const YEARS: Duration = Duration::from_secs(100 * 366 * 86_400);

/// `GET /api/v1/bans?after=NETWORK&past=true`
pub(super) fn list(gate: Arc<Gate>, call: Call) -> Pending {
    let after = match call.asked("after").map(|after| after.parse::<Cidr>()).transpose() {
        Ok(after) => after,
        Err(error) => return Answer::wrong(StatusCode::BAD_REQUEST, format!("after: {error}")).now(),
    };
    let with_past = call.asked("past").as_deref() == Some("true");
    let found = gate.ground.bans.list(after.as_ref(), MOST_LISTED, with_past, &gate.clock.now());
    let next = found.last().filter(|_| found.len() == MOST_LISTED).map(|last| last.record.network.to_string());
    let bans: Vec<Value> = found.iter().map(shown).collect();
    Answer::ok(json!({ "bans": bans, "next": next })).now()
}

/// `GET /api/v1/bans/{network}`: what is known of it, and of the bans that hold for all of it.
pub(super) fn show(gate: Arc<Gate>, call: Call) -> Pending {
    let network = match network_of(&gate, &call.segment) {
        Ok((network, _)) => network,
        Err(refused) => return refused.now(),
    };
    let now = gate.clock.now();
    let known = gate.ground.bans.show(&network, &now);
    let around = gate.ground.bans.around(&network, &now);
    let is_banned = !around.is_empty();
    let around: Vec<Value> = around.iter().filter(|wider| wider.record.network != network).map(shown).collect();
    Answer::ok(json!({
        "network": network.to_string(),
        "banned": is_banned,
        "known": known.as_ref().map(shown),
        "inside": around,
    }))
    .now()
}

/// `POST /api/v1/bans` with `{"network": "203.0.113.9", "for": "1h", "reason": "..."}`; without `for` until it is lifted.
pub(super) fn add(gate: Arc<Gate>, call: Call) -> Pending {
    Box::pin(async move {
        let (order, is_widened) = match order_of(&gate, &call.body) {
            Ok(order) => order,
            Err(refused) => return refused,
        };
        match gate.ground.bans.add(order, &gate.clock.now()) {
            Ok(known) => {
                let mut answer = kept(&gate, &known).await;
                if is_widened {
                    answer["widened"] = Value::from(true);
                }
                Answer::ok(answer)
            }
            Err(why) => Answer::wrong(StatusCode::CONFLICT, why.to_string()),
        }
    })
}

/// `DELETE /api/v1/bans/{network}`
pub(super) fn remove(gate: Arc<Gate>, call: Call) -> Pending {
    Box::pin(async move {
        let network = match network_of(&gate, &call.segment) {
            Ok((network, _)) => network,
            Err(refused) => return refused,
        };
        let now = gate.clock.now();
        if let Some(known) = gate.ground.bans.remove(&network, &now) {
            return Answer::ok(kept(&gate, &known).await);
        }
        let wider: Vec<String> =
            gate.ground.bans.around(&network, &now).iter().map(|known| known.record.network.to_string()).collect();
        Answer::wrong(
            StatusCode::NOT_FOUND,
            if wider.is_empty() {
                format!("{network} is not banned")
            } else {
                format!("{network} is not banned itself, it is inside {}; remove that", wider.join(" and "))
            },
        )
    })
}

/// A network, or an address: an IPv6 address stands for its whole group, as everywhere. Whether it was made wider.
fn network_of(gate: &Gate, text: &str) -> Result<(Cidr, bool), Answer> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let network = gate.ground.bans.client_network(address);
        return Ok((network, network != Cidr::from(address)));
    }
    let parsed = text.parse().map_err(|error| Answer::wrong(StatusCode::BAD_REQUEST, format!("{error}")))?;
    Ok((parsed, false))
}

fn order_of(gate: &Gate, body: &Value) -> Result<(Order, bool), Answer> {
    let wrong = |why: String| Answer::wrong(StatusCode::BAD_REQUEST, why);
    let fields = body.as_object().ok_or_else(|| wrong("an object with `network` is expected".to_owned()))?;
    if let Some(unknown) = fields.keys().find(|key| !matches!(key.as_str(), "network" | "for" | "reason")) {
        return Err(wrong(format!("`{unknown}` is not known; there are `network`, `for`, `reason`")));
    }
    let text = |key: &str| match &body[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(wrong(format!("`{key}` must be a text"))),
    };
    let network = text("network")?.ok_or_else(|| wrong("`network` is missing".to_owned()))?;
    let (network, is_widened) = network_of(gate, &network)?;
    let time = match text("for")? {
        None => None,
        Some(time) => Some(*time.parse::<Time>().map_err(|error| wrong(format!("for: {error}")))?),
    };
    if time.is_some_and(|time| !(Duration::from_secs(1)..=YEARS).contains(&time)) {
        return Err(wrong("for: must be between 1s and a hundred years".to_owned()));
    }
    let reason = text("reason")?.unwrap_or_default();
    if reason.len() > LONGEST_REASON_BYTES || reason.chars().any(char::is_control) {
        return Err(wrong(format!("reason: at most {LONGEST_REASON_BYTES} bytes without control characters")));
    }
    Ok((Order { network, origin: Origin::Operator, reason, time }, is_widened))
}

/// What is told about a change: the record, and whether it is written down.
async fn kept(gate: &Gate, known: &Known) -> Value {
    let mut answer = json!({ "ban": shown(known), "durable": gate.keeper.is_durable(), "kept": true });
    let failed = match tokio::time::timeout(PATIENCE, gate.keeper.write(&gate.clock)).await {
        Ok(Ok(())) => return answer,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the store did not answer within {} s", PATIENCE.as_secs()),
    };
    answer["kept"] = Value::from(false);
    answer["why"] = Value::from(failed);
    answer
}

fn shown(known: &Known) -> Value {
    let record = &known.record;
    let ban = record.ban.as_ref().map(|ban| {
        json!({
            "by": ban.origin.name(),
            "reason": ban.reason,
            "since": time(ban.since_unix_millis),
            "until": ban.until_unix_millis.map(time),
            "secondsLeft": known.left.map(|left| left.as_millis().div_ceil(1000) as u64),
        })
    });
    let past: Vec<Value> = record
        .past
        .iter()
        .map(|past| {
            json!({
                "by": past.ban.origin.name(),
                "reason": past.ban.reason,
                "since": time(past.ban.since_unix_millis),
                "until": past.ban.until_unix_millis.map(time),
                "ended": time(past.ended_unix_millis),
                "end": past.ending.name(),
            })
        })
        .collect();
    json!({ "network": record.network.to_string(), "ban": ban, "past": past })
}

fn time(unix_millis: u64) -> String {
    String::from_utf8_lossy(&rfc3339(unix_millis)).into_owned()
}
