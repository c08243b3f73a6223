//! What is known of each route beyond its config: what was said by hand, and how its writes fare. Outlives reloads.
//!
//! Guards hold the [`Switch`] of their routes; commands and health pages find it here by the route's name.
//!
//! Invariant: the lock is taken on reload, by commands and on scrape, never on the way of a request. There is one entry for
//! each name that a config ever gave to a route, at most [`MOST`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_core::metric::{Gauge, Registry};

use super::config::Mode;
use super::decide::{ByHand, Why};
use super::metrics::ACTIVE;
use crate::breaker::{Admission, Breaker, Rules};

/// Names that are remembered; those of routes beyond it are not kept over a reload.
const MOST: usize = 10_000;

/// Every route's switch.
pub struct Switches {
    metrics: Arc<Registry>,
    known: Mutex<BTreeMap<Arc<str>, Arc<Switch>>>,
}

/// One route's.
pub struct Switch {
    by_hand: AtomicU8,
    configured: Mutex<Configured>,
    active: Gauge,
}

#[derive(Default)]
struct Configured {
    mode: Mode,
    writes: Option<Arc<Breaker>>,
}

/// How a route stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Why it refuses writes; `None` when it takes them.
    pub why: Option<Why>,
    /// What its config says.
    pub mode: Mode,
    /// What was said by hand.
    pub by_hand: ByHand,
}

impl Switches {
    /// None yet.
    #[must_use]
    pub fn new(metrics: Arc<Registry>) -> Switches {
        Switches { metrics, known: Mutex::default() }
    }

    /// The switch of the route with this name.
    #[must_use]
    pub fn of(&self, route: &str) -> Arc<Switch> {
        let mut known = self.lock();
        if let Some(switch) = known.get(route) {
            return Arc::clone(switch);
        }
        let switch = Arc::new(Switch {
            by_hand: AtomicU8::new(ByHand::Nothing as u8),
            configured: Mutex::default(),
            active: self.metrics.gauge(&ACTIVE, &[route]),
        });
        if known.len() < MOST {
            known.insert(Arc::from(route), Arc::clone(&switch));
        }
        switch
    }

    /// Brings the gauges up to `now_nanos`.
    pub fn refresh(&self, now_nanos: u64) {
        for switch in self.lock().values() {
            switch.active.set(i64::from(switch.standing(now_nanos).why.is_some()));
        }
    }

    /// The map is whole at every moment at which the lock can be given up.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Switch>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Switch {
    /// Says something by hand.
    pub fn set(&self, by_hand: ByHand) {
        self.by_hand.store(by_hand as u8, Ordering::Relaxed);
    }

    /// What was said by hand.
    #[must_use]
    pub fn by_hand(&self) -> ByHand {
        match self.by_hand.load(Ordering::Relaxed) {
            0 => ByHand::Nothing,
            1 => ByHand::On,
            _ => ByHand::Off,
        }
    }

    /// How the route stands at `now_nanos`. Changes nothing.
    #[must_use]
    pub fn standing(&self, now_nanos: u64) -> Standing {
        let configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, by_hand) = (configured.mode, self.by_hand());
        let why = match (by_hand, mode) {
            (ByHand::On, _) => Some(Why::Hand),
            (ByHand::Off, _) | (ByHand::Nothing, Mode::Never) => None,
            (ByHand::Nothing, Mode::Always) => Some(Why::Config),
            (ByHand::Nothing, Mode::Auto) => {
                let asked = configured.writes.as_ref().map(|writes| writes.peek(now_nanos));
                // Where a probe would pass, it is not known yet that writes are well again.
                matches!(asked, Some(Admission::Refuse { .. } | Admission::Probe)).then_some(Why::Failures)
            }
        };
        Standing { why, mode, by_hand }
    }

    /// Takes a new config; a breaker whose rules did not change stays, with what it remembers.
    pub(super) fn configure(&self, mode: Mode, rules: Option<Rules>) -> Option<Arc<Breaker>> {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        configured.mode = mode;
        configured.writes = rules.map(|rules| match configured.writes.take() {
            Some(kept) if *kept.rules() == rules => kept,
            _ => Arc::new(Breaker::new(rules, ())),
        });
        configured.writes.clone()
    }
}
