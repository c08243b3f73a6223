//! Writes the line about an exchange, as JSON or as text, by hand into a reused buffer.
//!
//! `time` is when the request's head had arrived. `duration_ms` counts from there to the last byte.
//!
//! Invariant: a JSON line is one valid object; no line is longer than some 20 KiB (a path of control characters), and
//! what is never written cannot leak: no query, no header but `Host` and `User-Agent`.

use portcullis_core::clock::rfc3339;

use super::decide::level;
use super::escape::put_escaped;
use crate::client_address::address_text;
use crate::exchange::Exchange;
use crate::guard::Outcome;
use crate::trail::{Decision, Step};

const PATH_BYTES: usize = 2048;
const HOST_BYTES: usize = 256;
const AGENT_BYTES: usize = 256;
const METHOD_BYTES: usize = 32;
const NAME_BYTES: usize = 128;

/// The last time that was written; within one second only the milliseconds are written anew.
pub(super) struct Stamp {
    second: u64,
    text: [u8; 24],
}

impl Stamp {
    /// Before the first line.
    pub(super) const NEVER: Stamp = Stamp { second: u64::MAX, text: [0; 24] };

    /// The time as RFC 3339.
    pub(super) fn at(&mut self, unix_millis: u64) -> &[u8; 24] {
        let second = unix_millis / 1000;
        if second == self.second {
            let millis = (unix_millis % 1000) as u16;
            self.text[20..23].copy_from_slice(&places(millis));
        } else {
            *self = Stamp { second, text: rfc3339(unix_millis) };
        }
        &self.text
    }
}

/// Appends the JSON object. `time` is that of the exchange.
pub(super) fn json(out: &mut Vec<u8>, time: &[u8; 24], exchange: &Exchange, outcome: &Outcome) {
    let refused = exchange.trail.refused();
    put(out, b"{\"time\":\"");
    put(out, time);
    put(out, b"\",\"level\":\"");
    put(out, level(refused.map(|(_, code)| code), outcome.end, outcome.status).name().as_bytes());
    put(out, b"\",\"msg\":\"request");
    if let Some(id) = &exchange.request_id {
        put(out, b"\",\"request_id\":\"");
        put(out, id.as_bytes());
    }
    if let Some(id) = &exchange.trace_id {
        put(out, b"\",\"trace_id\":\"");
        put(out, id.as_bytes());
    }
    if let Some(client) = &exchange.client {
        put(out, b"\",\"client\":\"");
        put(out, address_text(client.address).as_bytes());
    }
    put(out, b"\",\"peer\":\"");
    put_peer(out, exchange);
    if let Some(tls) = &exchange.tls {
        put(out, b"\",\"tls\":\"");
        put(out, tls.version.as_bytes());
        if let Some(client) = &tls.client {
            put(out, b"\",\"client_certificate\":\"");
            put_escaped(out, client.subject.as_bytes(), HOST_BYTES);
        }
    }
    if let Some(identity) = &exchange.identity {
        put(out, b"\",\"user\":\"");
        put_escaped(out, identity.user().as_bytes(), NAME_BYTES);
        if let Some(tenant) = identity.tenant() {
            put(out, b"\",\"tenant\":\"");
            put_escaped(out, tenant.as_bytes(), NAME_BYTES);
        }
    }
    put(out, b"\",\"method\":\"");
    put_escaped(out, exchange.method.as_str().as_bytes(), METHOD_BYTES);
    if let Some(host) = host(exchange) {
        put(out, b"\",\"host\":\"");
        put_escaped(out, host, HOST_BYTES);
    }
    put(out, b"\",\"path\":\"");
    put_escaped(out, path(exchange).as_bytes(), PATH_BYTES);
    put(out, b"\",\"status\":");
    put_number(out, outcome.status.into());
    put(out, b",\"end\":\"");
    put(out, outcome.end.name().as_bytes());
    put(out, b"\",\"bytes_in\":");
    put_number(out, outcome.bytes_in);
    put(out, b",\"bytes_out\":");
    put_number(out, outcome.bytes_out);
    put(out, b",\"duration_ms\":");
    put_millis(out, outcome.duration_nanos);
    if outcome.attempts > 0 {
        put(out, b",\"upstream_ms\":");
        put_millis(out, outcome.upstream_nanos);
    }
    put(out, b",\"attempts\":");
    put_number(out, outcome.attempts.into());
    if let Some(route) = &exchange.route {
        put(out, b",\"upstream\":\"");
        put_escaped(out, route.upstream.as_bytes(), NAME_BYTES);
        put(out, b"\",\"route\":\"");
        put_escaped(out, route.name.as_bytes(), NAME_BYTES);
        put(out, b"\"");
    }
    if let Some((step, code)) = refused {
        put(out, b",\"code\":\"");
        put(out, code.entry().name.as_bytes());
        put(out, b"\"");
        put_step(out, step);
    }
    if let Some(step) = exchange.trail.stood_in() {
        put(out, b",\"stood_in\":\"");
        put(out, step.guard.as_bytes());
        put(out, b"\"");
    }
    put_shadow(out, exchange);
    if let Some(agent) = &exchange.logged_agent {
        put(out, b",\"user_agent\":\"");
        put_escaped(out, agent.as_bytes(), AGENT_BYTES);
        put(out, b"\"");
    }
    put(out, b"}");
}

fn put_step(out: &mut Vec<u8>, step: &Step) {
    put(out, b",\"guard\":\"");
    put(out, step.guard.as_bytes());
    put(out, b"\"");
    if !step.rule.text().is_empty() {
        put(out, b",\"rule\":\"");
        put_escaped(out, step.rule.text().as_bytes(), NAME_BYTES);
        put(out, b"\"");
    }
}

/// `would_refuse`: what rules in shadow mode would have done.
fn put_shadow(out: &mut Vec<u8>, exchange: &Exchange) {
    let mut is_first = true;
    for step in exchange.trail.steps() {
        let Decision::WouldRefuse(code) = step.decision else { continue };
        put(out, if is_first { b",\"would_refuse\":[{\"code\":\"" } else { b",{\"code\":\"" });
        put(out, code.entry().name.as_bytes());
        put(out, b"\"");
        put_step(out, step);
        put(out, b"}");
        is_first = false;
    }
    if !is_first {
        put(out, b"]");
    }
}

/// Appends the text line: time, level, method, host and path, status, duration, client, then names with values.
pub(super) fn text(out: &mut Vec<u8>, time: &[u8; 24], exchange: &Exchange, outcome: &Outcome) {
    let refused = exchange.trail.refused();
    put(out, time);
    put(out, b" ");
    put(out, level(refused.map(|(_, code)| code), outcome.end, outcome.status).name().as_bytes());
    put(out, b" ");
    put_escaped(out, exchange.method.as_str().as_bytes(), METHOD_BYTES);
    put(out, b" ");
    put_word(out, host(exchange).unwrap_or_default(), HOST_BYTES);
    put_word(out, path(exchange).as_bytes(), PATH_BYTES);
    put(out, b" ");
    put_number(out, outcome.status.into());
    put(out, b" ");
    put_millis(out, outcome.duration_nanos);
    put(out, b"ms");
    if let Some(client) = &exchange.client {
        put(out, b" client=");
        put(out, address_text(client.address).as_bytes());
    }
    put(out, b" peer=");
    put_peer(out, exchange);
    if let Some(tls) = &exchange.tls {
        put_name(out, b" tls=", tls.version);
        if let Some(client) = &tls.client {
            put(out, b" client_certificate=\"");
            put_escaped(out, client.subject.as_bytes(), HOST_BYTES);
            put(out, b"\"");
        }
    }
    if let Some(identity) = &exchange.identity {
        put_name(out, b" user=", identity.user());
        put_name(out, b" tenant=", identity.tenant().unwrap_or("-"));
    }
    put(out, b" end=");
    put(out, outcome.end.name().as_bytes());
    put(out, b" in=");
    put_number(out, outcome.bytes_in);
    put(out, b" out=");
    put_number(out, outcome.bytes_out);
    if outcome.attempts > 0 {
        put(out, b" upstream_ms=");
        put_millis(out, outcome.upstream_nanos);
    }
    put(out, b" attempts=");
    put_number(out, outcome.attempts.into());
    if let Some(route) = &exchange.route {
        put_name(out, b" upstream=", &route.upstream);
        put_name(out, b" route=", &route.name);
    }
    let shadow = exchange.trail.steps().iter().filter(|step| matches!(step.decision, Decision::WouldRefuse(_)));
    for step in refused.into_iter().map(|(step, _)| step).chain(shadow) {
        put(out, b" ");
        put(out, step.decision.name().as_bytes());
        put_name(out, b"=", step.decision.code().map_or("", |code| code.entry().name));
        put_name(out, b" guard=", step.guard);
        if !step.rule.text().is_empty() {
            put_name(out, b" rule=", step.rule.text());
        }
    }
    if let Some(id) = &exchange.request_id {
        put_name(out, b" id=", id);
    }
    if let Some(id) = &exchange.trace_id {
        put_name(out, b" trace=", id);
    }
    if let Some(agent) = &exchange.logged_agent {
        put(out, b" agent=\"");
        put_escaped(out, agent.as_bytes(), AGENT_BYTES);
        put(out, b"\"");
    }
}

fn put_name(out: &mut Vec<u8>, label: &[u8], value: &str) {
    put(out, label);
    put_word(out, value.as_bytes(), NAME_BYTES);
}

/// In quotes when it is more than one word, so that it cannot pass for words of ours.
fn put_word(out: &mut Vec<u8>, value: &[u8], max: usize) {
    let is_one_word = !value.iter().any(|byte| matches!(byte, b' ' | b'"'));
    put(out, if is_one_word { b"" } else { b"\"" });
    put_escaped(out, value, max);
    put(out, if is_one_word { b"" } else { b"\"" });
}

/// The normalised path, or the one that was sent when it could not be read. Never the query.
fn path(exchange: &Exchange) -> &str {
    match &exchange.path {
        Some(path) => path.matched(&exchange.uri),
        None => exchange.uri.path(),
    }
}

/// The host that the request names, the target's before the field's (RFC 9112, section 3.2.2), without a password.
fn host(exchange: &Exchange) -> Option<&[u8]> {
    let named = match (exchange.uri.authority(), &exchange.logged_host) {
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, host) => host.as_ref()?.as_bytes(),
    };
    named.rsplit(|byte| *byte == b'@').next()
}

fn put_peer(out: &mut Vec<u8>, exchange: &Exchange) {
    let address = exchange.peer.ip().to_canonical();
    if address.is_ipv6() {
        put(out, b"[");
    }
    put(out, address_text(address).as_bytes());
    put(out, if address.is_ipv6() { b"]:" } else { b":" });
    put_number(out, exchange.peer.port().into());
}

/// Nanoseconds as milliseconds with three places: microseconds are kept.
fn put_millis(out: &mut Vec<u8>, nanos: u64) {
    let micros = nanos / 1000;
    put_number(out, micros / 1000);
    put(out, b".");
    put(out, &places((micros % 1000) as u16));
}

/// The three digits of a number below 1000.
fn places(number: u16) -> [u8; 3] {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    [digit(number / 100), digit(number / 10), digit(number)]
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    put(out, itoa::Buffer::new().format(number).as_bytes());
}

fn put(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
}
