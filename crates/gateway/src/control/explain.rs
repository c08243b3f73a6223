//! `POST /api/v1/explain`: a made-up request down the path that runs, with its bans, counters and breakers as they are now.
//!
//! Invariant: a dry run; nothing changes.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use portcullis_core::clock::Clock;
use serde_json::Value;

use super::routes::{Answer, Call, Pending};
use crate::explain::{Question, explain};
use crate::life::Gate;

/// `{"method": "GET", "url": "/x", "headers": [["name", "value"]], "from": "203.0.113.9", "bodyBytes": 0}`
pub(super) fn ask(gate: Arc<Gate>, call: Call) -> Pending {
    match question_of(&call.body) {
        Ok(question) => Answer::ok(explain(&gate.running(), question, gate.clock.now()).to_json()),
        Err(why) => Answer::wrong(StatusCode::BAD_REQUEST, why),
    }
    .now()
}

fn question_of(body: &Value) -> Result<Question, String> {
    let text = |key: &str| body[key].as_str().ok_or_else(|| format!("`{key}` must be a text"));
    let mut headers = HeaderMap::new();
    for field in body["headers"].as_array().into_iter().flatten() {
        let (Some(name), Some(value)) = (field[0].as_str(), field[1].as_str()) else {
            return Err("`headers` must be pairs of texts".to_owned());
        };
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| format!("the value of {name} cannot stand in a header"))?;
        headers.append(name, value);
    }
    let method = text("method")?;
    let url = text("url")?;
    let from = text("from")?;
    Ok(Question {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no method"))?,
        uri: url.parse::<Uri>().map_err(|_| format!("`{url}` is no URL or path"))?,
        headers,
        from: from.parse().map_err(|_| format!("`{from}` is no address"))?,
        body_bytes: body["bodyBytes"].as_u64().unwrap_or(0),
    })
}
