//! `explain`: one made-up request down the real path in a dry run, and what each guard said about it.
//!
//! Uses the same runner and the same deciders as a real request; state is peeked at, never taken.
//!
//! Invariant: nothing changes, not a counter, not a breaker, not a log line.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, Uri, Version};
use portcullis_core::clock::Now;
use portcullis_guards::exchange::{Arrival, Body, Exchange, Touch};
use serde_json::{Value, json};

use crate::running::Running;

/// The request to explain.
pub struct Question {
    /// Its method.
    pub method: Method,
    /// Its target: a path, or a URL whose host becomes `Host`.
    pub uri: Uri,
    /// Its header fields.
    pub headers: HeaderMap,
    /// The address it comes from.
    pub from: IpAddr,
    /// How many body bytes it carries.
    pub body_bytes: u64,
}

/// What would happen.
pub struct Explanation {
    /// What each guard decided, in order.
    pub steps: Vec<ExplainedStep>,
    /// The route it matched.
    pub route: Option<String>,
    /// Where it would go.
    pub upstream: Option<String>,
    /// The status of the refusal, or `None` when the upstream would be asked.
    pub refused_with: Option<u16>,
}

/// One guard's decision.
pub struct ExplainedStep {
    /// The guard.
    pub guard: &'static str,
    /// `passed`, `skipped`, `refused`, `would_refuse` or `not reached`.
    pub decision: &'static str,
    /// By which rule; may be empty.
    pub rule: String,
    /// In words; may be empty.
    pub detail: String,
}

/// Sends `question` down the path of `running`.
#[must_use]
pub fn explain(running: &Running, question: Question, now: Now) -> Explanation {
    let Question { method, uri, mut headers, from, body_bytes } = question;
    if let Some(host) = uri.authority().and_then(|host| http::HeaderValue::from_str(host.as_str()).ok()) {
        headers.entry(http::header::HOST).or_insert(host);
    }
    headers.entry(http::header::HOST).or_insert(http::HeaderValue::from_static("localhost"));
    let path = uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    crate::proxy::fields::remove_nominated(&mut headers);
    let arrival = Arrival {
        method,
        uri: Uri::from(path),
        version: Version::HTTP_11,
        headers,
        body: if body_bytes == 0 { Body::Absent } else { Body::Sized(body_bytes) },
        peer: SocketAddr::new(from, 0),
        is_secure: false,
    };
    let mut exchange = Exchange::new(arrival, now, Touch::Peek);
    let refused_with = match running.path.descend(&mut exchange) {
        portcullis_guards::path::Descent::Refused(refusal) => Some(refusal.code.entry().status),
        _ => None,
    };
    let mut steps: Vec<ExplainedStep> = exchange
        .trail
        .steps()
        .iter()
        .map(|step| ExplainedStep {
            guard: step.guard,
            decision: step.decision.name(),
            rule: step.rule.text().to_owned(),
            detail: explained(step),
        })
        .collect();
    for guard in running.path.names() {
        if !steps.iter().any(|step| step.guard == guard) {
            steps.push(ExplainedStep { guard, decision: "not reached", rule: String::new(), detail: String::new() });
        }
    }
    Explanation {
        steps,
        route: exchange.route.as_ref().map(|route| route.name.to_string()),
        upstream: running.upstream_of(&exchange).map(|upstream| upstream.name.to_string()),
        refused_with,
    }
}

fn explained(step: &portcullis_guards::trail::Step) -> String {
    let code = step.decision.code().map_or("", |code| code.entry().name);
    match (step.detail.as_deref(), code) {
        (Some(detail), "") => detail.to_owned(),
        (Some(detail), code) => format!("{code}: {detail}"),
        (None, code) => code.to_owned(),
    }
}

impl Explanation {
    /// For machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                json!({ "guard": step.guard, "decision": step.decision, "rule": step.rule, "detail": step.detail })
            })
            .collect();
        json!({ "steps": steps, "route": self.route, "upstream": self.upstream, "refusedWith": self.refused_with })
    }
}
