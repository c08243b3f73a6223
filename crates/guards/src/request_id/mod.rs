//! `request_id`: one name for a request, from the client's answer through every log to the upstream.
//!
//! # What it does
//! Gives every request an id, writes it on the answer and on the request to the upstream. A trusted proxy's `X-Request-Id`
//! is kept when it is well-formed (1 to 64 of `A-Z a-z 0-9 . _ -`); everybody else gets a new one (UUID, version 4). A
//! valid W3C `traceparent` is passed on and its trace id logged; a broken one is removed together with `tracestate`.
//! Where there is none, `traceparent: start` begins a trace.
//!
//! # Refuses when
//! Never.
//!
//! # Remembers
//! Nothing.
//!
//! # If a dependency fails
//! It has none.
//!
//! # Cost
//! A random number from a per-thread generator, and one small allocation for each of the two fields.
//!
//! Invariant: below this guard, exactly one `X-Request-Id` is in the request, and it is made of harmless characters.

mod config;
mod decide;
#[cfg(test)]
mod tests;

pub use config::{Config, Rules, Traceparent};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::client_address::TrustedProxies;
use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, Touch};
use crate::guard::{Fact, Guard, ResponseHead, Verdict};
use crate::request_path::Ground;
use crate::short_field::short_field;
use crate::trail::Rule;
use decide::{Fresh, Sent, Trace, decide_id, decide_trace};

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The most members a `tracestate` may have (W3C Trace Context, section 3.3.1.1).
const TRACESTATE_MEMBERS: usize = 32;

/// The guard.
pub struct RequestId {
    rules: Rules,
    trusted: TrustedProxies,
}

/// Builds the guard.
///
/// # Errors
/// None of its own; `client_address` tells about mistakes in `trusted_proxies`.
pub fn build(config: &PathConfig, _ground: &Ground) -> Result<RequestId, Vec<Mistake>> {
    let rules = config.request_id.over(&Config::defaults()).compile();
    Ok(RequestId { rules, trusted: TrustedProxies::new(&config.trusted_proxies) })
}

impl Guard for RequestId {
    fn name(&self) -> &'static str {
        "request_id"
    }

    fn gives(&self) -> &'static [Fact] {
        &[Fact::RequestId]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let peer_is_trusted = self.trusted.contains(exchange.peer.ip());
        let fresh = match exchange.touch {
            Touch::Take => Fresh::random(),
            Touch::Peek => Fresh::FIXED,
        };
        let sent = if peer_is_trusted { sent(&exchange.headers, &X_REQUEST_ID) } else { Sent::Absent };
        let (id, is_taken) = decide_id(sent, &fresh);
        let field = field(&id);
        if is_taken {
            exchange.by_rule(Rule::Fixed("trusted proxy"));
        } else {
            exchange.headers.insert(&X_REQUEST_ID, field.clone());
        }
        exchange.request_id = Some(id);
        exchange.request_id_field = Some(field);
        self.trace(exchange, &fresh);
        Verdict::Pass
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        if let Some(field) = exchange.request_id_field.take() {
            head.headers.insert(&X_REQUEST_ID, field);
        }
    }
}

impl RequestId {
    fn trace(&self, exchange: &mut Exchange, fresh: &Fresh) {
        let headers = &mut exchange.headers;
        if self.rules.traceparent == Traceparent::Pass && !mentions_trace(headers) {
            return;
        }
        match decide_trace(self.rules.traceparent, sent(headers, &TRACEPARENT), fresh) {
            Trace::Keep(trace_id) => {
                exchange.trace_id = Some(trace_id);
                if headers.get_all(&TRACESTATE).iter().map(members).sum::<usize>() > TRACESTATE_MEMBERS {
                    headers.remove(&TRACESTATE);
                }
            }
            Trace::Start(trace_id, traceparent) => {
                headers.remove(&TRACESTATE);
                headers.insert(&TRACEPARENT, field(&traceparent));
                exchange.trace_id = Some(trace_id);
            }
            // The state of a trace that is not known means nothing.
            Trace::Absent => {
                headers.remove(&TRACESTATE);
            }
            Trace::Drop => {
                headers.remove(&TRACEPARENT);
                headers.remove(&TRACESTATE);
            }
        }
    }
}

/// Whether any trace field is there. Most requests have none, and a look at the few names costs less than two look-ups.
fn mentions_trace(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("trace"))
}

fn members(value: &HeaderValue) -> usize {
    value.as_bytes().split(|byte| *byte == b',').count()
}

fn sent<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Sent<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Sent::Absent,
        (Some(only), None) => Sent::Once(only.as_bytes()),
        (Some(_), Some(_)) => Sent::Repeated,
    }
}

fn field(text: &str) -> HeaderValue {
    short_field(text.as_bytes()).expect("ids are made of visible ASCII")
}
