//! Answers with the last good answer when the upstream fails.
//!
//! # What it does
//! Where an upstream has `stale_if_error`, and a route does not say `on_outage.upstream: closed`, the answers to GET that any
//! shared cache may keep (RFC 9111) are kept in memory. When the upstream later fails (500, 502, 503 or 504, no connection, no
//! answer in time, an open breaker, no place), the client gets the kept answer instead, as long as it is fresh by its own
//! word or went stale no longer ago than `stale_if_error` (RFC 5861, section 4). It carries `Age` and
//! `Cache-Status: portcullis; ...; detail=stale-if-error` (RFC 9211). While the upstream answers, nothing is ever served from
//! memory. The rules are stricter than the RFC where a mistake would show one user's page to another: an answer must allow
//! it in words (`public`, `max-age`, `s-maxage` or `Expires`); requests with `Authorization`, a client certificate or
//! an identity are left alone; with `Cookie` it needs `public` or `s-maxage`; answers with `Set-Cookie` are never kept. `Vary` holds.
//!
//! # Refuses when
//! Never.
//!
//! # Remembers
//! Answers, by upstream, scheme, host, path, query and what proxies in front say, up to `stale_if_error.memory` in all and
//! `stale_if_error.answer` each, and a quarter more for those on their way. A write that succeeds, and an answer to a request
//! without a cookie that says that the old one is no longer right (another 200 that may not be kept, a redirect, 404, 410),
//! ends what is kept for its URL. It outlives a reload that leaves all upstreams as they are, not the process.
//!
//! # If a dependency fails
//! That is what it is for. Without a kept answer the client hears the failure.
//!
//! # Cost
//! Nothing where it is off. Where it is on, a GET costs a copy of its header fields, and its answer is copied once, at most
//! once a second for each URL.
//!
//! Invariant: what is served was given to somebody whole, under this upstream, scheme, host, path, query and nominated fields.

mod cache_control;
mod config;
mod decide;
pub mod metrics;
mod shelf;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use portcullis_core::metric::Counter;

pub use config::{Config, Outage, OutageConfig};
pub use shelf::Shelf;

use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute, Touch};
use crate::guard::{End, Fact, Guard, Outcome, ResponseHead, Verdict};
use crate::request_path::Ground;
use crate::trail::{Decision, Rule, Step};
use config::Bounds;
use decide::{Terms, Use};
use shelf::{Answer, Key};

const NAME: &str = "stale_if_error";
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The guard.
pub struct StaleIfError {
    routes: PerRoute<Option<Keeping>>,
    /// Fields by which routes are told apart: they choose an answer, whatever its `Vary` says.
    chosen_by: Box<[HeaderName]>,
    shelf: Arc<Shelf>,
    bounds: Bounds,
}

/// What one route keeps.
struct Keeping {
    /// How long after it went stale an answer is still served.
    stale_for: Duration,
    served: Counter,
}

/// What is known of a request whose answer may be kept or replaced.
pub(crate) struct Pending {
    key: Key,
    what: Use,
    /// How often what is kept for its URL had been ended when it came.
    ends: u64,
    /// What `Vary` may name. The proxy takes the exchange's own away.
    fields: HeaderMap,
    /// The answer on its way, where it is worth keeping.
    kept: Option<Kept>,
}

struct Kept {
    headers: HeaderMap,
    terms: Terms,
}

/// Builds the guard from `stale_if_error`, the upstreams and `on_outage.upstream` of every route.
///
/// # Errors
/// Every value out of bounds, and every route that asks for what its upstream does not keep.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<StaleIfError, Vec<Mistake>> {
    let (bounds, times) = config::compile(config)?;
    let keeping = |name: &str, time: Option<Duration>| {
        time.map(|stale_for| Keeping { stale_for, served: ground.metrics.counter(&metrics::SERVED, &[name]) })
    };
    let only = keeping("default", times.fallback.filter(|_| config.routes.is_empty()));
    let routes = config.routes.iter().zip(times.routes).map(|(route, time)| keeping(&route.name, time)).collect();
    let chosen_by = config::chosen_by(config);
    Ok(StaleIfError { routes: PerRoute::new(only, routes), chosen_by, shelf: Arc::clone(&ground.shelf), bounds })
}

impl Guard for StaleIfError {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::Route]
    }

    fn begins(&self) {
        self.shelf.bound(self.bounds.memory);
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let Some(keeping) = self.routes.of(exchange) else { return Verdict::Skip };
        // Whoever `identity` knows is answered for himself, also where the service does not get the credential.
        let has_credentials =
            exchange.identity.is_some() || exchange.tls.as_ref().is_some_and(|tls| tls.client.is_some());
        // What passes a watched login is between the client and the service.
        let what = match Use::of(&exchange.method, &exchange.headers, exchange.body, has_credentials) {
            Ok(what) if exchange.login.is_none() => what,
            Ok(_) => return Verdict::Skip,
            Err(why) => {
                exchange.by_rule(Rule::Fixed(why));
                return Verdict::Skip;
            }
        };
        let key = key(exchange);
        if exchange.touch == Touch::Peek {
            let found = self.shelf.find(&key, &exchange.headers);
            let age = found.map(|found| found.age(exchange.now.monotonic_nanos).as_secs());
            exchange.explain(|_| explanation(age, keeping.stale_for));
            return Verdict::Pass;
        }
        let fields = if what == Use::Ends { HeaderMap::new() } else { exchange.headers.clone() };
        let ends = self.shelf.ends(&key);
        exchange.stale = Some(Box::new(Pending { key, what, ends, fields, kept: None }));
        Verdict::Pass
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        let Some(keeping) = self.routes.of(exchange) else { return };
        let Some(mut pending) = exchange.stale.take() else { return };
        let is_failure = decide::is_failure(head.status, exchange.trail.refused().map(|(_, code)| code));
        match pending.what {
            Use::Ends if head.status.is_success() || head.status.is_redirection() => {
                self.shelf.remove(&pending.key, true);
            }
            Use::Ends => {}
            Use::Keeps | Use::Serves if is_failure => self.serve(keeping, exchange, &pending, head),
            Use::Serves => {}
            // A refusal of the gateway's own says nothing about what is kept.
            Use::Keeps if exchange.trail.refused().is_some() => {}
            Use::Keeps => {
                self.consider(keeping, exchange, &mut pending, head);
                exchange.stale = pending.kept.is_some().then_some(pending);
            }
        }
    }

    fn finish(&self, exchange: &Exchange, outcome: &Outcome) {
        let Some(pending) = exchange.stale.as_deref().filter(|_| outcome.end == End::Complete) else { return };
        let (Some(kept), Some(tap)) = (&pending.kept, &exchange.answer_tap) else { return };
        let seen = tap.take();
        let length = decide::length_of(&kept.headers);
        if seen.is_cut {
            self.shelf.no_room();
        }
        if seen.is_cut || length.is_some_and(|length| length != seen.bytes.len()) {
            return;
        }
        let answer = Answer {
            headers: kept.headers.clone(),
            // Not a byte more than it has.
            body: Bytes::from(seen.bytes.into_boxed_slice()),
            since_nanos: exchange.now.monotonic_nanos,
            terms: kept.terms.clone(),
            uses: AtomicU32::new(0),
        };
        self.shelf.add(&pending.key, answer, pending.ends, &pending.fields);
    }
}

impl StaleIfError {
    /// Answers with what is kept, if there is something that may still be used.
    fn serve(&self, keeping: &Keeping, exchange: &mut Exchange, pending: &Pending, head: &mut ResponseHead) {
        let Some(found) = self.shelf.find(&pending.key, &pending.fields) else { return };
        let age = found.age(exchange.answer_nanos.unwrap_or(exchange.now.monotonic_nanos));
        let Some(ttl_seconds) = found.terms.ttl_seconds(age, keeping.stale_for) else { return };
        let status = cache_status(exchange, head.status, ttl_seconds);
        let closing = head.headers.remove(CONNECTION);
        head.status = StatusCode::OK;
        head.headers = found.headers.clone();
        head.headers.insert(AGE, HeaderValue::from(age.as_secs()));
        if let Ok(status) = HeaderValue::try_from(status) {
            head.headers.append(CACHE_STATUS, status);
        }
        if let Some(closing) = closing {
            head.headers.insert(CONNECTION, closing);
        }
        exchange.instead = Some(if exchange.method == Method::HEAD { Bytes::new() } else { found.body.clone() });
        let rule = if ttl_seconds > 0 { "fresh" } else { "stale" };
        exchange.trail.push(Step { guard: NAME, decision: Decision::StoodIn, rule: Rule::Fixed(rule), detail: None });
        keeping.served.inc();
    }

    /// Whether this answer of the upstream is worth keeping, and whether it ends what is kept.
    fn consider(&self, keeping: &Keeping, exchange: &mut Exchange, pending: &mut Pending, head: &ResponseHead) {
        let (fields, millis) = (&pending.fields, exchange.now.unix_millis);
        let Some(terms) = decide::terms(fields, head, millis, keeping.stale_for, &self.chosen_by) else {
            if decide::ends_what_is_kept(fields, head.status) {
                self.shelf.remove(&pending.key, false);
            }
            return;
        };
        // Where the end of the connection is the end of the answer, nobody can tell whether it is whole.
        if exchange.ends_with_connection {
            return;
        }
        if !self.shelf.wants(&pending.key, &pending.fields, exchange.now.monotonic_nanos) {
            return;
        }
        let most = decide::length_of(&head.headers).unwrap_or(self.bounds.answer);
        if most > self.bounds.answer {
            self.shelf.remove(&pending.key, false);
            return;
        }
        exchange.answer_tap = Some(Arc::new(self.shelf.tap(most)));
        pending.kept = Some(Kept { headers: decide::copied_fields(&head.headers), terms });
    }
}

/// Everything that the service is told and may answer by: two requests with one key ask for the same thing. `Host` as it is
/// sent, and what proxies in front are believed to have said (`X-Forwarded-Host`, `-Proto`, `-Prefix` ...; `client_address` has
/// removed what nobody vouches for), but for the client's own address.
fn key(exchange: &Exchange) -> Key {
    let upstream = exchange.route.as_ref().map_or("", |route| &*route.upstream);
    let scheme: &[u8] = if exchange.is_secure || exchange.told_secure { b"https" } else { b"http" };
    let host = exchange.headers.get(HOST).map(HeaderValue::as_bytes);
    let host = host.or_else(|| exchange.uri.authority().map(|authority| authority.as_str().as_bytes()));
    let forwarded = exchange.path.as_ref().map(|path| path.forwarded(&exchange.uri));
    let target = forwarded.as_ref().map_or("", |target| target.as_str());
    let mut told: Vec<(&str, &[u8])> = exchange
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| name.starts_with("x-forwarded-") && *name != "x-forwarded-for")
        .collect();
    told.sort_unstable();
    let mut parts = vec![upstream.as_bytes(), scheme, host.unwrap_or_default(), target.as_bytes()];
    parts.extend(told.iter().flat_map(|(name, value)| [name.as_bytes(), *value]));
    Key::new(&parts)
}

/// RFC 9211: whether the upstream was asked, what it said, and for how long the answer is, or has not been, fresh.
fn cache_status(exchange: &Exchange, status: StatusCode, ttl_seconds: i64) -> String {
    let came = match exchange.trail.refused() {
        Some((step, _)) if step.guard == "proxy" => "fwd=stale".to_owned(),
        Some(_) => "hit".to_owned(),
        None => format!("fwd=stale; fwd-status={}", status.as_u16()),
    };
    format!("portcullis; {came}; ttl={ttl_seconds}; detail=stale-if-error")
}

fn explanation(age: Option<u64>, stale_for: Duration) -> String {
    match age {
        Some(age) => {
            format!("an answer of {age} s ago is kept, and served for {} s after it is stale", stale_for.as_secs())
        }
        None => "nothing is kept for this request".to_owned(),
    }
}
