//! Deadlines without timers: each core sweeps the deadlines of its connections every [`SWEEP_EVERY`].
//!
//! A timer a request would cost more than the guards together; a sweep over 10,000 connections costs 20 us. A deadline
//! is therefore met up to one sweep late, never early.
//!
//! Invariant: a connection has exactly one [`Watch`], and it is swept until it is dropped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use portcullis_core::clock::nanos;
use slab::Slab;

/// How often deadlines are looked at, and so how late one can be noticed.
pub const SWEEP_EVERY: Duration = Duration::from_millis(20);

/// A connection is not closed for want of room before it has been without a request for so long: one may be on its way.
const SHORTEST_REST: Duration = Duration::from_millis(200);

/// A moment that does not come.
const NEVER: u64 = u64::MAX;

/// The deadline of one connection, whatever it waits for at the moment.
pub struct Watch {
    deadline_nanos: Cell<u64>,
    has_passed: Cell<bool>,
    /// Since when there is no request; [`NEVER`] while there is one.
    resting_since_nanos: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Sets a new deadline, forgetting whether the last one has passed.
    pub fn arm(&self, deadline_nanos: u64) {
        self.deadline_nanos.set(deadline_nanos);
        self.has_passed.set(false);
        self.resting_since_nanos.set(NEVER);
    }

    /// Until the deadline is set anew there is no request, or not yet: it may be ended before when room is needed.
    pub fn rest(&self, now_nanos: u64) {
        self.resting_since_nanos.set(now_nanos);
    }

    /// Whether the deadline has passed.
    pub fn has_passed(&self) -> bool {
        self.has_passed.get()
    }

    /// Wakes this task when the deadline passes.
    pub fn wake_me(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }
}

/// All watches of one core.
#[derive(Default)]
pub struct Sweep {
    watches: RefCell<Slab<Rc<Watch>>>,
    coarse_now_nanos: Cell<u64>,
}

/// Keeps a watch on its sweep's list.
pub struct Listed {
    sweep: Rc<Sweep>,
    key: usize,
    watch: Rc<Watch>,
}

impl Sweep {
    /// Lists a new watch whose deadline is never.
    pub fn list(self: &Rc<Sweep>) -> Listed {
        let watch = Rc::new(Watch {
            deadline_nanos: Cell::new(u64::MAX),
            has_passed: Cell::new(false),
            resting_since_nanos: Cell::new(NEVER),
            waker: RefCell::new(None),
        });
        let key = self.watches.borrow_mut().insert(Rc::clone(&watch));
        Listed { sweep: Rc::clone(self), key, watch }
    }

    /// Marks and wakes whatever is overdue.
    pub fn run(&self, now_nanos: u64) {
        self.coarse_now_nanos.set(now_nanos);
        for (_, watch) in self.watches.borrow().iter() {
            if watch.deadline_nanos.get() <= now_nanos
                && !watch.has_passed.replace(true)
                && let Some(waker) = watch.waker.borrow().as_ref()
            {
                waker.wake_by_ref();
            }
        }
    }

    /// Ends all that have been without a request for [`SHORTEST_REST`]: their room is needed.
    pub fn end_rests(&self, now_nanos: u64) {
        for (_, watch) in self.watches.borrow().iter() {
            if now_nanos.saturating_sub(watch.resting_since_nanos.get()) >= nanos(SHORTEST_REST) {
                watch.deadline_nanos.set(now_nanos);
            }
        }
        self.run(now_nanos);
    }

    /// The time of the last sweep: at most [`SWEEP_EVERY`] old while the core is not starved, and free to read.
    pub fn coarse_now_nanos(&self) -> u64 {
        self.coarse_now_nanos.get()
    }

    /// How many connections the core has.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.watches.borrow().is_empty()
    }

    /// Wakes every connection, for example to tell it that the gateway drains.
    pub fn wake_all(&self) {
        for (_, watch) in self.watches.borrow().iter() {
            if let Some(waker) = watch.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

impl std::ops::Deref for Listed {
    type Target = Watch;
    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.sweep.watches.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_at_its_time_and_not_before() {
        let sweep = Rc::new(Sweep::default());
        let watch = sweep.list();
        watch.arm(100);
        sweep.run(99);
        assert!(!watch.has_passed());
        sweep.run(100);
        assert!(watch.has_passed());
        watch.arm(200);
        assert!(!watch.has_passed());
    }

    #[test]
    fn only_what_rests_is_ended_when_room_is_needed() {
        let sweep = Rc::new(Sweep::default());
        let (busy, resting, fresh) = (sweep.list(), sweep.list(), sweep.list());
        let second = 1_000_000_000;
        for (watch, since) in [(&busy, 0), (&resting, 0), (&fresh, second)] {
            watch.arm(60 * second);
            watch.rest(since);
        }
        busy.arm(60 * second);
        sweep.end_rests(second + 1);
        assert_eq!((busy.has_passed(), resting.has_passed(), fresh.has_passed()), (false, true, false));
    }

    #[test]
    fn a_dropped_watch_is_off_the_list() {
        let sweep = Rc::new(Sweep::default());
        let first = sweep.list();
        let second = sweep.list();
        drop(first);
        assert_eq!(sweep.len(), 1);
        drop(second);
        assert!(sweep.is_empty());
    }
}
