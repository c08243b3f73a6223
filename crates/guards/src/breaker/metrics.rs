//! What the circuit breakers count, as it happens: the [`Meter`] observes one breaker.
//!
//! The gauge is set where the machine changes its state, under its lock, so the two cannot disagree. Attempts are counted
//! where they report, so that the proxy's retries are in it too.
//!
//! Invariant: every label set that can occur exists from the start at 0; a first failure is never invisible to `rate()`.

use portcullis_core::fault::ErrorType;
use portcullis_core::metric::{Counter, Declaration, Gauge, Histogram, Kind, Label, Registry, Values};

use super::decide::{State, Verdict};
use super::observer::{Observer, Transition};

const SERVICE: Label = Label { name: "service", values: Values::Configured("names of upstreams") };
const STATES: Values = Values::Closed(&["closed", "half_open", "open"]);

/// Where each breaker stands.
pub static STATE: Declaration = Declaration {
    name: "circuit_breaker_state",
    kind: Kind::Gauge,
    help: "State of an upstream's circuit breaker: 0 closed, 1 half-open, 2 open",
    labels: &[SERVICE],
};

/// What became of attempts, and how many there were none of.
pub static REQUESTS: Declaration = Declaration {
    name: "circuit_breaker_requests_total",
    kind: Kind::Counter,
    help: "Attempts to reach an upstream by outcome. A 4xx is a success of the upstream; rejected ones never reached it; \
           those of clients that hung up are not counted",
    labels: &[SERVICE, Label { name: "result", values: Values::Closed(&["success", "failure", "rejected"]) }],
};

/// Why attempts failed.
pub static ERRORS: Declaration = Declaration {
    name: "circuit_breaker_errors_total",
    kind: Kind::Counter,
    help: "Attempts that failed: by a timeout, by a 5xx (api_error), or by a connection that was refused or broke",
    labels: &[
        SERVICE,
        Label { name: "error_type", values: Values::Closed(&["timeout", "api_error", "network_error"]) },
    ],
};

/// How long attempts took.
pub static LATENCY: Declaration = Declaration {
    name: "circuit_breaker_latency_seconds",
    kind: Kind::Histogram,
    help: "Time from a breaker's permit for an attempt to the outcome that was reported, successes and failures",
    labels: &[SERVICE],
};

/// How often breakers changed their state.
pub static TRANSITIONS: Declaration = Declaration {
    name: "circuit_breaker_state_transitions_total",
    kind: Kind::Counter,
    help: "Changes of state of an upstream's circuit breaker",
    labels: &[SERVICE, Label { name: "from_state", values: STATES }, Label { name: "to_state", values: STATES }],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&STATE, &REQUESTS, &ERRORS, &LATENCY, &TRANSITIONS];

/// The changes that can happen.
const CHANGES: [(State, State); 4] = [
    (State::Closed, State::Open),
    (State::Open, State::HalfOpen),
    (State::HalfOpen, State::Open),
    (State::HalfOpen, State::Closed),
];

const ERROR_TYPES: [ErrorType; 3] = [ErrorType::Timeout, ErrorType::ApiError, ErrorType::NetworkError];

/// Counts for one breaker.
pub(super) struct Meter {
    state: Gauge,
    success: Counter,
    failure: Counter,
    rejected: Counter,
    errors: [Counter; ERROR_TYPES.len()],
    latency: Histogram,
    transitions: [Counter; CHANGES.len()],
}

impl Meter {
    pub(super) fn new(metrics: &Registry, service: &str) -> Meter {
        let requests = |result| metrics.counter(&REQUESTS, &[service, result]);
        Meter {
            state: metrics.gauge(&STATE, &[service]),
            success: requests("success"),
            failure: requests("failure"),
            rejected: requests("rejected"),
            errors: ERROR_TYPES.map(|kind| metrics.counter(&ERRORS, &[service, kind.name()])),
            latency: metrics.histogram(&LATENCY, &[service]),
            transitions: CHANGES.map(|(from, to)| metrics.counter(&TRANSITIONS, &[service, from.name(), to.name()])),
        }
    }
}

impl Observer for Meter {
    fn transition(&self, transition: &Transition) {
        self.state.set(i64::from(transition.to.gauge()));
        let change = (transition.from, transition.to);
        if let Some(place) = CHANGES.iter().position(|known| *known == change) {
            self.transitions[place].inc();
        }
    }

    fn reported(&self, verdict: Verdict, took_nanos: u64) {
        match verdict {
            Verdict::Success | Verdict::Answered => {
                self.success.inc();
            }
            Verdict::Failure(kind) => {
                self.failure.inc();
                if let Some(place) = ERROR_TYPES.iter().position(|known| *known == kind) {
                    self.errors[place].inc();
                }
            }
            // Nothing was learnt, so nothing is counted: how long a client that hung up waited says nothing either.
            Verdict::Neutral => return,
        };
        self.latency.observe(took_nanos as f64 / 1e9);
    }

    fn rejected(&self) {
        self.rejected.inc();
    }
}
