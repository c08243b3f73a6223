//! What one core has for itself: its sweep of deadlines and its connections to upstreams.
//!
//! Made on the core's own thread and never leaves it; what cores share is the [`crate::life::Gate`].
//!
//! Invariant: nothing here is `Send`, so nothing here needs a lock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::watch::Sweep;
use crate::life::Gate;
use crate::proxy::pool::Pools;
use crate::running::Running;

/// One core's own things.
pub struct Core {
    /// What all cores share.
    pub gate: Arc<Gate>,
    /// The deadlines of its client connections.
    pub sweep: Rc<Sweep>,
    /// Its connections to upstreams.
    pub pools: Pools,
    /// Clients' connections that are open.
    pub connections: Cell<usize>,
    current: RefCell<(u64, Generation)>,
}

/// The running config as one core holds it: cloned for each visit without touching a counter that other cores touch.
pub type Generation = Rc<Arc<Running>>;

impl Core {
    /// A core without connections.
    pub fn new(gate: Arc<Gate>) -> Rc<Core> {
        let current = RefCell::new((gate.generation(), Rc::new(gate.running())));
        Rc::new(Core {
            gate,
            sweep: Rc::new(Sweep::default()),
            pools: Pools::default(),
            connections: Cell::new(0),
            current,
        })
    }

    /// Counts a client's connection for as long as the place lives, however it ends.
    pub(super) fn enter(self: &Rc<Core>) -> Place {
        self.connections.set(self.connections.get() + 1);
        Place(Rc::clone(self))
    }

    /// The running config.
    pub fn running(&self) -> Generation {
        let generation = self.gate.generation();
        let mut current = self.current.borrow_mut();
        if current.0 != generation {
            *current = (generation, Rc::new(self.gate.running()));
        }
        Rc::clone(&current.1)
    }
}

/// A client's connection is open.
pub struct Place(Rc<Core>);

impl Place {
    /// Where it is.
    pub(super) fn core(&self) -> &Rc<Core> {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}
