//! One request on its way: what arrived, what the guards found out, and the trail.
//!
//! Made by the gateway (or the tower layer) when the head has arrived, carried down and up the path, and read once more
//! in `finish`. Guards talk to each other only through the facts in here.
//!
//! Invariant: a fact is `Some` below the guard that gives it (the path's start-up check), so guards may rely on it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrayvec::{ArrayString, ArrayVec};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use portcullis_core::clock::Now;
use portcullis_core::identity::Identity;
use portcullis_core::refusal::Code;

use crate::breaker::{Breaker, OwnedPermit};
use crate::config::Mistake;
use crate::login_watch::Attempt;
use crate::rate_limit::Quotation;
use crate::route::{NormalPath, Route};
use crate::stale_if_error::Pending;
use crate::trail::{Decision, Rule, Step, Trail};

/// At most this many rate-limit policies apply to one request.
pub const MAX_POLICIES: usize = 8;

/// A checked request id: 1 to 64 characters of `[A-Za-z0-9._-]`.
pub type RequestId = ArrayString<64>;

/// Whether state may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// A real request: counts.
    Take,
    /// A dry run for `explain`: looks, changes nothing.
    Peek,
}

/// Who is asking, as far as the network can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The client's own address; an IPv4-mapped IPv6 address is the IPv4 address.
    pub address: IpAddr,
    /// What limits and bans are keyed by: the address, or its /64 (configurable) for IPv6.
    pub group: IpAddr,
    /// Whether the peer of the connection is a trusted proxy, so that its headers may be believed.
    pub peer_is_trusted: bool,
}

/// What TLS found out about the client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The name that the client asked for (SNI).
    pub server_name: Option<Box<str>>,
    /// The client's certificate, verified against the listener's authorities.
    pub client: Option<ClientCertificate>,
}

/// A verified certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject, as `C=CH, O=Example, CN=backup`.
    pub subject: Box<str>,
    /// Who issued it, in the same form.
    pub issuer: Box<str>,
    /// SHA-256 of the certificate, in lower-case hexadecimal.
    pub fingerprint: Box<str>,
}

/// Bounds that hold for everything below the `limits` guard.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most body bytes the client may send.
    pub body_bytes: u64,
    /// Monotonic nanoseconds by which the exchange must be over.
    pub deadline_nanos: u64,
}

/// What the body will be, as the head says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    Absent,
    /// Exactly this many bytes.
    Sized(u64),
    /// Chunked: known when it ends.
    Unsized,
}

/// Keeps the first bytes of a body for a guard, while somebody passes the body on.
#[derive(Debug)]
pub struct Tap {
    most: usize,
    seen: Mutex<Seen>,
    /// What all taps of its kind keep together, and may keep.
    shared: Option<(Arc<AtomicUsize>, usize)>,
}

/// The first bytes of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Those that have passed, up to the tap's bound.
    pub bytes: Vec<u8>,
    /// Whether more have passed than were kept.
    pub is_cut: bool,
}

impl Tap {
    /// A tap that keeps up to `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Tap {
        Tap { most, seen: Mutex::default(), shared: None }
    }

    /// A tap that keeps up to `most` bytes, and nothing more once all that count in `kept` keep `bound` bytes.
    #[must_use]
    pub fn within(most: usize, kept: Arc<AtomicUsize>, bound: usize) -> Tap {
        Tap { most, seen: Mutex::default(), shared: Some((kept, bound)) }
    }

    /// Notes bytes that pass.
    pub fn feed(&self, bytes: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.most - seen.bytes.len();
        let wanted = bytes.len().min(room);
        seen.is_cut |= bytes.len() > room;
        if let Some((kept, bound)) = &self.shared {
            let take = |taken: usize| taken.checked_add(wanted).filter(|sum| sum <= bound);
            if seen.is_cut || kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
                seen.is_cut = true;
                return;
            }
        }
        seen.bytes.extend_from_slice(&bytes[..wanted]);
    }

    /// What has passed so far, leaving nothing.
    #[must_use]
    pub fn take(&self) -> Seen {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.give_back(seen.bytes.len());
        seen
    }

    fn give_back(&self, bytes: usize) {
        if let Some((kept, _)) = &self.shared {
            kept.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// What has passed so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let left = self.seen.get_mut().unwrap_or_else(PoisonError::into_inner).bytes.len();
        self.give_back(left);
    }
}

/// What has arrived when an exchange begins.
pub struct Arrival {
    /// The method.
    pub method: Method,
    /// The target as it was sent.
    pub uri: Uri,
    /// The version.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// What follows the head.
    pub body: Body,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Whether the client's connection is TLS.
    pub is_secure: bool,
}

/// One request and its answer.
pub struct Exchange {
    /// When the head had arrived. Every guard uses this reading.
    pub now: Now,
    /// Whether this is a real request or a dry run.
    pub touch: Touch,
    /// The method.
    pub method: Method,
    /// The target as it was sent. For decisions use [`Exchange::path`].
    pub uri: Uri,
    /// The version.
    pub version: Version,
    /// The header fields. The proxy takes them when it asks the upstream, so they may be empty on the way up.
    pub headers: HeaderMap,
    /// How many field lines the client sent; guards add some of their own to `headers`.
    pub arrived_fields: usize,
    /// What follows the head.
    pub body: Body,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Whether the client's connection is TLS.
    pub is_secure: bool,
    /// What TLS found out, where the gateway itself ended it. Set by the gateway right after the exchange was made.
    pub tls: Option<Arc<Tls>>,

    /// Given by `request_id`.
    pub request_id: Option<RequestId>,
    /// Given by `request_id`: the same as a field, for the answer.
    pub(crate) request_id_field: Option<HeaderValue>,
    /// Given by `request_id`: the trace id of a valid W3C `traceparent`, for the logs.
    pub trace_id: Option<ArrayString<32>>,
    /// Given by `client_address`.
    pub client: Option<ClientAddress>,
    /// Given by `client_address`: a trusted proxy says that the client spoke TLS to it.
    pub told_secure: bool,
    /// Given by `route`: the path as everyone below and the upstream understand it.
    pub path: Option<NormalPath>,
    /// Given by `route`.
    pub route: Option<Arc<Route>>,
    /// Given by `limits`.
    pub bounds: Option<Bounds>,
    /// Filled by `rate_limit` before and behind `identity`: what each policy said, for the response's fields.
    pub quotations: [ArrayVec<Quotation, MAX_POLICIES>; 2],
    /// Given by `identity`: who is asking, where somebody showed it.
    pub identity: Option<Arc<Identity>>,
    /// Given by `breaker`, asked again by the proxy before each retry.
    pub breaker: Option<Arc<Breaker>>,
    /// Given by `breaker`: the permit of the first attempt. Dropped without a verdict it is neutral.
    pub permit: Option<OwnedPermit>,
    /// Kept by `read_only` in `auto`: tells how a write fared.
    pub(crate) write_permit: Option<OwnedPermit>,

    /// Wanted by `login_watch`: the first bytes of the client's body, copied by whoever passes it on.
    pub request_tap: Option<Arc<Tap>>,
    /// Wanted by `login_watch`: the first bytes of the answer's body, copied by whoever passes it on.
    pub answer_tap: Option<Arc<Tap>>,
    /// Kept by `login_watch` until the answer is known.
    pub(crate) login: Option<Box<Attempt>>,
    /// Kept by `stale_if_error` until the answer is over.
    pub(crate) stale: Option<Box<Pending>>,
    /// Set by `stale_if_error` on the way up: the body that goes out in place of the one that came. Whoever passes on the answer
    /// takes it.
    pub instead: Option<Bytes>,
    /// Set by whoever asks the upstream, where [`Exchange::needs_time`]: its answer has neither a length nor an end of its own.
    pub ends_with_connection: bool,
    /// Set by whoever takes the answer up, where [`Exchange::needs_time`]: monotonic nanoseconds of that moment.
    pub answer_nanos: Option<u64>,

    /// Kept by `access_log` for its line: the host that the client named.
    pub logged_host: Option<HeaderValue>,
    /// Kept by `access_log` for its line: the client's `User-Agent`.
    pub logged_agent: Option<HeaderValue>,
    /// Written by the access log's guard from `Accept`, because the proxy takes the headers away.
    pub wants_problem: bool,
    /// What was decided.
    pub trail: Trail,
    pub(crate) depth: usize,
    pub(crate) rule: Rule,
    pub(crate) detail: Option<Box<str>>,
}

impl Exchange {
    /// Begins a real exchange.
    #[must_use]
    pub fn new(arrival: Arrival, now: Now, touch: Touch) -> Exchange {
        let wants_problem = {
            use portcullis_core::refusal::render::Form;
            let accept = arrival.headers.get(http::header::ACCEPT).map(HeaderValue::as_bytes);
            Form::for_accept(accept) == Form::Problem
        };
        Exchange {
            now,
            touch,
            method: arrival.method,
            uri: arrival.uri,
            version: arrival.version,
            arrived_fields: arrival.headers.len(),
            headers: arrival.headers,
            body: arrival.body,
            peer: arrival.peer,
            is_secure: arrival.is_secure,
            tls: None,
            request_id: None,
            request_id_field: None,
            trace_id: None,
            client: None,
            told_secure: false,
            path: None,
            route: None,
            bounds: None,
            quotations: [const { ArrayVec::new_const() }; 2],
            identity: None,
            breaker: None,
            permit: None,
            write_permit: None,
            request_tap: None,
            answer_tap: None,
            login: None,
            stale: None,
            instead: None,
            ends_with_connection: false,
            answer_nanos: None,
            logged_host: None,
            logged_agent: None,
            wants_problem,
            trail: Trail::default(),
            depth: 0,
            rule: Rule::Only,
            detail: None,
        }
    }

    /// Whether a guard wants to know when the answer goes up, and not only when the request came.
    #[must_use]
    pub fn needs_time(&self) -> bool {
        self.stale.is_some()
    }

    /// Names the rule of the decision that the calling guard is about to return.
    pub fn by_rule(&mut self, rule: Rule) {
        self.rule = rule;
    }

    /// Adds words for `explain` to the decision that the calling guard is about to return. Costs nothing in a real request.
    pub fn explain(&mut self, detail: impl FnOnce(&Exchange) -> String) {
        if self.touch == Touch::Peek {
            self.detail = Some(detail(self).into_boxed_str());
        }
    }

    /// Notes a refusal that shadow mode lets pass.
    pub fn would_refuse(&mut self, guard: &'static str, code: Code, rule: Rule) {
        self.trail.push(Step { guard, decision: Decision::WouldRefuse(code), rule, detail: None });
    }

    /// The index of the matched route, for per-route rules.
    #[must_use]
    pub fn route_index(&self) -> Option<usize> {
        self.route.as_ref().map(|route| route.index)
    }
}

/// Rules of one guard: one set for each route, and one for requests that have none.
pub struct PerRoute<T> {
    fallback: T,
    routes: Box<[T]>,
}

impl<T> PerRoute<T> {
    /// `routes[i]` are the rules of the route with index `i`.
    #[must_use]
    pub fn new(fallback: T, routes: Vec<T>) -> PerRoute<T> {
        PerRoute { fallback, routes: routes.into_boxed_slice() }
    }

    /// The rules for this exchange.
    #[must_use]
    pub fn of(&self, exchange: &Exchange) -> &T {
        exchange.route_index().and_then(|index| self.routes.get(index)).unwrap_or(&self.fallback)
    }

    /// All rule sets, the fallback first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.fallback).chain(self.routes.iter())
    }
}

impl<R> PerRoute<Arc<R>> {
    /// Compiles `general`, and for each route its own config (`None`: the general one). Equal configs are compiled once
    /// and shared, so that many routes stay small. `compile` gets a config and where it stands; `name` is the config key.
    ///
    /// # Errors
    /// The mistakes in all of them.
    pub fn shared<C: Hash + Eq>(
        name: &str,
        general: C,
        routes: impl IntoIterator<Item = Option<C>>,
        compile: impl Fn(&C, &str) -> Result<R, Vec<Mistake>>,
    ) -> Result<PerRoute<Arc<R>>, Vec<Mistake>> {
        let (fallback, general_mistakes) = match compile(&general, name) {
            Ok(fallback) => (Some(Arc::new(fallback)), Vec::new()),
            Err(found) => (None, found),
        };
        // What is wrong in general is told once, not again for every route that inherits it.
        let is_inherited = |own: &Mistake| {
            general_mistakes.iter().any(|general| own.path.ends_with(&general.path) && own.message == general.message)
        };
        let mut mistakes = general_mistakes.clone();
        let mut compiled: HashMap<C, Option<Arc<R>>> = HashMap::from([(general, fallback.clone())]);
        let mut rules = Vec::new();
        for (index, route) in routes.into_iter().enumerate() {
            let own = match route {
                None => fallback.clone(),
                Some(route) => match compiled.get(&route) {
                    Some(known) => known.clone(),
                    None => {
                        let own = match compile(&route, &format!("routes[{index}].{name}")) {
                            Ok(own) => Some(Arc::new(own)),
                            Err(found) => {
                                mistakes.extend(found.into_iter().filter(|own| !is_inherited(own)));
                                None
                            }
                        };
                        compiled.insert(route, own.clone());
                        own
                    }
                },
            };
            rules.push(own);
        }
        match (fallback, rules.into_iter().collect()) {
            (Some(fallback), Some(rules)) if mistakes.is_empty() => Ok(PerRoute::new(fallback, rules)),
            _ => Err(mistakes),
        }
    }
}
