//! Who changed what: the record of acts.
//!
//! Invariant: changes nothing.

use std::sync::Arc;

use http::StatusCode;
use portcullis_core::clock::rfc3339;
use serde_json::{Value, json};

use super::routes::{Answer, Call, Pending};
use crate::life::Gate;

/// Acts in one answer; the rest follows with `before`.
const MOST_LISTED: u32 = 500;

/// `GET /api/v1/audit?before=NUMBER`: newest first.
pub(super) fn list(gate: Arc<Gate>, call: Call) -> Pending {
    let before = match call.asked("before").map(|before| before.parse::<u64>()).transpose() {
        Ok(before) => before.unwrap_or(u64::MAX),
        Err(_) => return Answer::wrong(StatusCode::BAD_REQUEST, "before: must be the number of an act").now(),
    };
    Box::pin(async move {
        let acts = match gate.acts.list(before, MOST_LISTED).await {
            Ok(acts) => acts,
            Err(error) => return Answer::wrong(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
        let next = acts.last().filter(|_| acts.len() == MOST_LISTED as usize).map(|last| last.number);
        let acts: Vec<Value> = acts
            .iter()
            .map(|known| {
                json!({
                    "number": known.number,
                    "time": String::from_utf8_lossy(&rfc3339(known.act.at_unix_millis)),
                    "who": known.act.who,
                    "action": known.act.action,
                    "target": known.act.target,
                    "requestId": known.act.request_id,
                    "status": known.act.status,
                })
            })
            .collect();
        Answer::ok(json!({ "acts": acts, "next": next }))
    })
}
