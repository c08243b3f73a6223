//! Tests of the breaker: cases by hand, a plain reference model over random histories, and every interleaving of threads.
//!
//! "Row" numbers are those of the list of attacks the project is tested against (141 to 145: the breaker).
//!
//! Invariant: no test reads a clock or sleeps; times are made up.

mod cases;
mod interleavings;
mod over_loom;
mod probes;
mod reference;
mod settings;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::config::{BreakerConfig, Rules};
use super::decide::State;
use super::observer::{Observer, Transition};
use super::state::Breaker;

const SECOND: u64 = 1_000_000_000;
/// The lease of every breaker here that does not say otherwise.
const LEASE: u64 = 35 * SECOND;

/// Keeps every transition, as a gauge and a counter would.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Transition>>>);

impl Observer for Seen {
    fn transition(&self, transition: &Transition) {
        self.0.lock().unwrap().push(*transition);
    }
}

impl Seen {
    fn all(&self) -> Vec<Transition> {
        self.0.lock().unwrap().clone()
    }

    /// The value of a gauge that is set at each transition.
    fn gauge(&self) -> State {
        self.all().last().map_or(State::Closed, |transition| transition.to)
    }

    /// The states entered, in order; panics where one transition does not begin where the one before ended.
    fn states(&self) -> Vec<State> {
        let mut at = State::Closed;
        for transition in self.all() {
            assert_eq!(transition.from, at, "a transition is missing");
            at = transition.to;
        }
        self.all().iter().map(|transition| transition.to).collect()
    }
}

fn rules(config: &BreakerConfig) -> Rules {
    config.compile(Duration::from_nanos(LEASE)).expect("within bounds").expect("enabled")
}

fn breaker(config: &BreakerConfig) -> (Arc<Breaker>, Seen) {
    let seen = Seen::default();
    (Arc::new(Breaker::new(rules(config), seen.clone())), seen)
}
