//! What is counted about exchanges, and the tables that make counting a matter of indices.
//!
//! The first [`ROUTES_MAX`] routes have a label of their own, the others share `_other`, requests that no route took are
//! `_none`. Per route, `GET` and `POST` (where the route takes them) start at 0 for each of [`STARTING`]; other pairs of
//! method and status begin to exist when they first happen, and the registry bounds how many there can be.
//!
//! Invariant: labels come from the config, from [`METHODS`] and from three-digit statuses, never from a client's words.

use std::sync::{Arc, OnceLock};

use http::Method;
use portcullis_core::metric::{Counter, Declaration, Gauge, Histogram, Kind, Label, OTHER, Registry, Values};

use crate::config::PathConfig;
use crate::exchange::Exchange;
use crate::guard::Outcome;

/// How many routes have a label of their own.
pub const ROUTES_MAX: usize = 200;

/// The methods that are told apart; all others are `_other`.
pub const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// The statuses that are counted from 0 on, so that the first failure is already a rise.
pub const STARTING: [u16; 6] = [200, 429, 500, 502, 503, 504];

/// The route label of requests that no route took.
const NONE: &str = "_none";

/// The name that the route guard gives to the only route where none is configured (a test compares).
const IMPLICIT: &str = "default";

const ROUTE: Label =
    Label { name: "route", values: Values::Configured("names of the first 200 routes, _other, _none") };

/// Exchanges that are over.
pub static REQUESTS: Declaration = Declaration {
    name: "http_requests_total",
    kind: Kind::Counter,
    help: "Requests that were answered or given up, by the status the client was sent (499: it hung up before)",
    labels: &[
        ROUTE,
        Label { name: "method", values: Values::Closed(METHODS) },
        Label { name: "status", values: Values::Configured("statuses from 100 to 599") },
    ],
};

/// Their time.
pub static DURATION: Declaration = Declaration {
    name: "http_request_duration_seconds",
    kind: Kind::Histogram,
    help: "Time from the request's head to the last byte of its answer",
    labels: &[ROUTE],
};

/// Exchanges that are not over.
pub static IN_FLIGHT: Declaration = Declaration {
    name: "http_requests_in_flight",
    kind: Kind::Gauge,
    help: "Requests that are being worked on",
    labels: &[],
};

/// The upstreams' time.
pub static UPSTREAM_DURATION: Declaration = Declaration {
    name: "upstream_request_duration_seconds",
    kind: Kind::Histogram,
    help: "Time from asking the upstream to its response head, over all attempts",
    labels: &[Label { name: "upstream", values: Values::Configured("names of upstreams") }],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&REQUESTS, &DURATION, &IN_FLIGHT, &UPSTREAM_DURATION];

/// Statuses that have a place in the small table of each method: 100 to 599 need 500 places, these nearly always do.
const COMMON: [u16; 31] = [
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 410, 413, 414, 415, 422,
    429, 431, 499, 500, 501, 502, 503, 504,
];

const LOWEST: u16 = 100;
const HIGHEST: u16 = 599;

/// The place of each status in [`COMMON`], from [`LOWEST`] on; the length of `COMMON` for those that have none.
static PLACES: [u8; (HIGHEST - LOWEST + 1) as usize] = {
    let mut places = [COMMON.len() as u8; (HIGHEST - LOWEST + 1) as usize];
    let mut place = 0;
    while place < COMMON.len() {
        places[(COMMON[place] - LOWEST) as usize] = place as u8;
        place += 1;
    }
    places
};

/// All handles of the guard.
pub(super) struct Meters {
    registry: Arc<Registry>,
    in_flight: Gauge,
    /// By the route's index.
    routes: Box<[Meter]>,
    other: Meter,
    none: Meter,
    /// By the route's index, for all routes.
    upstreams: Box<[OnceLock<Histogram>]>,
}

/// The handles of one route.
struct Meter {
    route: Box<str>,
    duration: Histogram,
    /// By the method's place in [`METHODS`]; the last is for the others.
    methods: [OnceLock<Box<Row>>; METHODS.len() + 1],
}

/// The counters of one route and method.
#[derive(Default)]
struct Row {
    common: [OnceLock<Counter>; COMMON.len()],
    /// By status from [`LOWEST`] on; the last is for whatever is no status.
    rare: OnceLock<Box<[OnceLock<Counter>]>>,
}

impl Meters {
    pub(super) fn new(registry: Arc<Registry>, config: &PathConfig) -> Meters {
        let takes = |route: usize, method: &str| match &config.routes[route].matches.methods {
            Some(methods) => methods.iter().any(|taken| taken == method),
            None => true,
        };
        let named = |index: usize| Meter::new(&registry, &config.routes[index].name, |method| takes(index, method));
        let routes: Box<[Meter]> = if config.routes.is_empty() {
            Box::new([Meter::new(&registry, IMPLICIT, |_| true)])
        } else {
            (0..config.routes.len().min(ROUTES_MAX)).map(named).collect()
        };
        for upstream in &config.upstreams {
            let _ = registry.histogram(&UPSTREAM_DURATION, &[upstream]);
        }
        Meters {
            in_flight: registry.gauge(&IN_FLIGHT, &[]),
            other: Meter::new(&registry, OTHER, |_| config.routes.len() > ROUTES_MAX),
            none: Meter::new(&registry, NONE, |_| false),
            upstreams: (0..config.routes.len().max(1)).map(|_| OnceLock::new()).collect(),
            routes,
            registry,
        }
    }

    /// A request has begun.
    pub(super) fn begin(&self) {
        self.in_flight.inc();
    }

    /// It is over.
    pub(super) fn end(&self, exchange: &Exchange, outcome: &Outcome) {
        self.in_flight.dec();
        let meter = match exchange.route_index() {
            Some(index) => self.routes.get(index).unwrap_or(&self.other),
            None => &self.none,
        };
        meter.duration.observe(seconds(outcome.duration_nanos));
        meter.count(&self.registry, &exchange.method, outcome.status);
        if outcome.attempts > 0
            && let Some(route) = &exchange.route
            && let Some(handle) = self.upstreams.get(route.index)
        {
            handle
                .get_or_init(|| self.registry.histogram(&UPSTREAM_DURATION, &[&route.upstream]))
                .observe(seconds(outcome.upstream_nanos));
        }
    }
}

impl Meter {
    fn new(registry: &Registry, route: &str, takes: impl Fn(&str) -> bool) -> Meter {
        let meter = Meter {
            route: route.into(),
            duration: registry.histogram(&DURATION, &[route]),
            methods: std::array::from_fn(|_| OnceLock::new()),
        };
        for method in [Method::GET, Method::POST].iter().filter(|method| takes(method.as_str())) {
            for status in STARTING {
                let _ = meter.counter(registry, method, status);
            }
        }
        meter
    }

    fn count(&self, registry: &Registry, method: &Method, status: u16) {
        self.counter(registry, method, status).inc();
    }

    fn counter(&self, registry: &Registry, method: &Method, status: u16) -> &Counter {
        let method = place_of(method);
        let row = self.methods[method].get_or_init(Box::default);
        let offset = usize::from(status.wrapping_sub(LOWEST));
        let slot = match PLACES.get(offset).and_then(|place| row.common.get(usize::from(*place))) {
            Some(slot) => slot,
            None => {
                let rare = row.rare.get_or_init(|| (0..=PLACES.len()).map(|_| OnceLock::new()).collect());
                &rare[offset.min(PLACES.len())]
            }
        };
        slot.get_or_init(|| {
            let method = METHODS.get(method).copied().unwrap_or(OTHER);
            if offset < PLACES.len() {
                registry.counter(&REQUESTS, &[&self.route, method, itoa::Buffer::new().format(status)])
            } else {
                registry.counter(&REQUESTS, &[&self.route, method, OTHER])
            }
        })
    }
}

/// The method's place in [`METHODS`], or behind its end.
fn place_of(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => METHODS.len(),
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
