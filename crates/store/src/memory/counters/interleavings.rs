//! Every interleaving of two threads on one set, by the model checker loom, which also plays out weak memory ordering.
//!
//! The set under test is the one the table uses, with loom's atomics and mutex in place of the standard ones and one or
//! two slots in place of eight. Preemptions are bounded at three a run, which keeps a model to seconds.

use super::set::{Charge, Full, Latch, Set, Tally, Word, tag_of};
use crate::counters::{Algorithm, CompiledQuota, Outcome, Quota};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

impl Word for AtomicU64 {
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn store(&self, value: u64) {
        self.store(value, Ordering::Release);
    }

    fn replace(&self, seen: u64, next: u64) -> Result<(), u64> {
        self.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}

impl Latch for Mutex<Tally> {
    fn hold<R>(&self, act: impl FnOnce(&mut Tally) -> R) -> R {
        act(&mut self.lock().unwrap())
    }
}

struct Small<const SLOTS: usize> {
    tags: [AtomicU64; SLOTS],
    states: [AtomicU64; SLOTS],
    latch: Mutex<Tally>,
}

impl<const SLOTS: usize> Small<SLOTS> {
    fn new() -> Arc<Self> {
        let zeroed = || std::array::from_fn(|_| AtomicU64::new(0));
        Arc::new(Self { tags: zeroed(), states: zeroed(), latch: Mutex::new(Tally::default()) })
    }

    fn set(&self) -> Set<'_, AtomicU64, SLOTS> {
        Set { tags: &self.tags, states: &self.states }
    }

    fn take(&self, key: u64, quota: &CompiledQuota) -> Result<Outcome, Full> {
        self.take_units(key, quota, 1)
    }

    fn take_units(&self, key: u64, quota: &CompiledQuota, cost: u64) -> Result<Outcome, Full> {
        // The two steps of `MemoryCounters::take`.
        let answer = match self.set().charge(tag_of(key), quota, cost, 0) {
            Charge::Done(answer) => Ok(answer),
            Charge::Raced | Charge::Lost => self.set().take(&self.latch, tag_of(key), quota, cost, 0),
        };
        answer.map(|answer| quota.outcome(answer))
    }

    fn left(&self, key: u64, quota: &CompiledQuota) -> Option<u64> {
        self.set().peek(tag_of(key), quota, 0, 0).ok().map(|answer| quota.outcome(answer).remaining)
    }
}

fn quota(burst: u64) -> CompiledQuota {
    Quota { algorithm: Algorithm::TokenBucket, limit: 1, period_nanos: 1_000_000_000, burst }.compile().unwrap()
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn admitted(answers: &[Result<Outcome, Full>]) -> usize {
    answers.iter().filter(|given| given.is_ok_and(|outcome| outcome.allowed)).count()
}

const A: u64 = 0x10;
const B: u64 = 0x21;

#[test]
fn two_threads_on_a_new_key_share_one_quota() {
    explore(|| {
        let small = Small::<2>::new();
        let other = small.clone();
        let thread = thread::spawn(move || [other.take(A, &quota(2)), other.take(A, &quota(2))]);
        let here = small.take(A, &quota(2));
        let there = thread.join().unwrap();
        assert_eq!(admitted(&[here, there[0], there[1]]), 2);
        assert_eq!(small.left(A, &quota(2)), Some(0));
    });
}

#[test]
fn two_new_keys_never_lose_a_charge() {
    explore(|| {
        let small = Small::<2>::new();
        let other = small.clone();
        let thread = thread::spawn(move || other.take(A, &quota(3)));
        let here = small.take(B, &quota(3));
        assert_eq!(admitted(&[here, thread.join().unwrap()]), 2);
        assert_eq!((small.left(A, &quota(3)), small.left(B, &quota(3))), (Some(2), Some(2)));
    });
}

/// The one slot holds A, half used. While one thread uses A up, another brings B. Either B came first and A finds the
/// set full, or A came first and B does; never may both have the slot, or A's last unit be taken and forgotten.
#[test]
fn a_key_being_used_up_is_not_forgotten() {
    explore(|| {
        let small = Small::<1>::new();
        assert!(small.take(A, &quota(2)).unwrap().allowed);
        let other = small.clone();
        let thread = thread::spawn(move || other.take(B, &quota(1)));
        let here = small.take(A, &quota(2));
        let there = thread.join().unwrap();
        assert!(here.is_ok() != there.is_ok(), "{here:?} {there:?}");
        if here.is_ok() {
            assert_eq!(small.left(A, &quota(2)), Some(0));
        } else {
            assert_eq!(small.left(B, &quota(1)), Some(0));
        }
    });
}

/// The state that B brings equals A's, so A's compare-and-swap may land on B's slot. B may then be charged for it;
/// A must not be let through on it.
#[test]
fn a_charge_that_lands_on_a_newcomer_lets_nobody_through() {
    explore(|| {
        let small = Small::<1>::new();
        assert!(small.take(A, &quota(2)).unwrap().allowed);
        let other = small.clone();
        let thread = thread::spawn(move || other.take(B, &quota(2)));
        let here = small.take(A, &quota(2));
        let there = thread.join().unwrap();
        let (a_left, b_left) = (small.left(A, &quota(2)), small.left(B, &quota(2)));
        if here.is_ok() {
            // A kept its slot, or took it back from B with a new quota; either way its charge is in the state.
            assert!(matches!(a_left, Some(0 | 1)), "A was let through uncounted: {a_left:?}, {there:?}");
        } else {
            assert!(there.is_ok() && b_left == Some(0), "A was refused for nothing: {b_left:?}, {there:?}");
        }
    });
}

/// B uses up its own quota at once. A, which has a unit left, may pass or find the set full, but is not refused for B.
#[test]
fn no_key_is_refused_for_what_a_newcomer_used() {
    explore(|| {
        let small = Small::<1>::new();
        assert!(small.take(A, &quota(2)).unwrap().allowed);
        let other = small.clone();
        let thread = thread::spawn(move || other.take_units(B, &quota(2), 2));
        let here = small.take(A, &quota(2));
        assert!(here.is_err() || here.is_ok_and(|outcome| outcome.allowed), "{here:?}");
        assert!(here.is_ok() != thread.join().unwrap().is_ok());
    });
}

#[test]
fn a_changed_quota_keeps_what_was_used() {
    explore(|| {
        let small = Small::<1>::new();
        assert!(small.take(A, &quota(4)).unwrap().allowed);
        let other = small.clone();
        let thread = thread::spawn(move || other.take(A, &quota(2)));
        let here = small.take(A, &quota(2));
        assert_eq!(admitted(&[here, thread.join().unwrap()]), 1, "one of two was used");
        assert_eq!(small.left(A, &quota(2)), Some(0));
    });
}
