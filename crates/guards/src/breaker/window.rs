//! The sliding window: how many attempts succeeded and failed lately.
//!
//! Successes are many and are counted without a lock, in buckets of time. Failures are few (or the breaker is about to
//! open) and are counted under the breaker's lock, in the same buckets and also by their exact times: so "5 failures
//! in 60 s" is exact to the nanosecond, and only the share of failures is rounded to whole buckets.
//!
//! Invariant: memory is fixed at start; no count is ever taken from a bucket that has left the window.

use std::collections::VecDeque;

use super::config::Rules;
use super::decide::{Buckets, Counts, PLACES, place};
use super::sync::{AtomicU64, Ordering, SEATS, seat};

/// Successes by bucket, each thread in a ring of its own, so that counting needs neither a lock nor a locked instruction.
///
/// The first 15 threads of the process that count anything write alone to their ring; later ones share the last. A word
/// holds the stamp of a bucket and its count. The stamp names bucket and generation: a place is handed on to the next
/// bucket, and a new generation begins, without anyone clearing anything. A count that outgrows 28 bits starts again at
/// 0 (268 million successes of one thread within one bucket), and a stamp comes back after a million turns of the ring.
///
/// Whoever counts takes the place: a success whose `now` is more than a window older than another's in the same ring, or
/// (in the shared ring) whose thread was held up right here for a whole generation, costs the newer bucket its count.
#[derive(Debug)]
pub(super) struct Successes {
    seats: [Seat; SEATS],
}

/// 128 bytes on lines of their own (processors fetch lines of 64 bytes in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Seat {
    ring: [AtomicU64; PLACES],
}

const COUNT_SHIFT: u32 = 36;
const ONE_SUCCESS: u64 = 1 << COUNT_SHIFT;
const LAP_BITS: u32 = 20;

/// 16 bits of the generation above 20 bits of the lap: how often the ring had turned when the bucket got its place.
fn stamp(number: u64, generation: u64) -> u64 {
    let lap = (number / PLACES as u64) & ((1 << LAP_BITS) - 1);
    let generation = generation & u64::from(u16::MAX);
    generation << LAP_BITS | lap
}

/// The word after one more success.
fn after(word: u64, stamp: u64) -> u64 {
    if word & (ONE_SUCCESS - 1) == stamp { word.wrapping_add(ONE_SUCCESS) } else { ONE_SUCCESS | stamp }
}

impl Successes {
    pub(super) fn new() -> Successes {
        let seat = |_| Seat { ring: std::array::from_fn(|_| AtomicU64::new(0)) };
        Successes { seats: std::array::from_fn(seat) }
    }

    /// Counts one success of `generation` at `now`.
    #[inline]
    pub(super) fn add(&self, buckets: Buckets, generation: u64, now: u64) {
        let number = buckets.number(now);
        let stamp = stamp(number, generation);
        let seat = seat();
        if seat < SEATS - 1 {
            let word = &self.seats[seat].ring[place(number)];
            // No other thread writes here, so nothing can come between the two.
            word.store(after(word.load(Ordering::Relaxed), stamp), Ordering::Relaxed);
        } else {
            let word = &self.seats[SEATS - 1].ring[place(number)];
            let mut seen = word.load(Ordering::Relaxed);
            while let Err(changed) =
                word.compare_exchange_weak(seen, after(seen, stamp), Ordering::Relaxed, Ordering::Relaxed)
            {
                seen = changed;
            }
        }
    }

    /// The successes of `generation` in the buckets that count at `now`.
    fn count(&self, buckets: Buckets, generation: u64, now: u64) -> u64 {
        let in_bucket = |number: u64| {
            let stamp = stamp(number, generation);
            let words = self.seats.iter().map(move |seat| seat.ring[place(number)].load(Ordering::Relaxed));
            words.filter(move |word| word & (ONE_SUCCESS - 1) == stamp).map(|word| word >> COUNT_SHIFT)
        };
        buckets.numbers(now).flat_map(in_bucket).sum()
    }

    /// Successes and failures of `generation` at `now`.
    pub(super) fn counts(&self, failures: &Failures, rules: &Rules, generation: u64, now: u64) -> Counts {
        let failed = failures.in_buckets(rules.buckets, now);
        Counts {
            recent_failures: failures.younger_than(rules.window_nanos, now),
            failed,
            total: failed + self.count(rules.buckets, generation, now),
        }
    }
}

/// Failures, by exact time (the last few) and by bucket (all). Lives under the breaker's lock.
#[derive(Debug)]
pub(super) struct Failures {
    /// The times of the last failures, oldest first; as many as it takes to open.
    times: VecDeque<u64>,
    times_max: usize,
    /// Bucket number and count.
    ring: [(u64, u64); PLACES],
}

impl Failures {
    /// Remembers the exact times of the last `times_max` failures.
    pub(super) fn new(times_max: u32) -> Failures {
        let times_max = times_max as usize;
        Failures { times: VecDeque::with_capacity(times_max), times_max, ring: [(0, 0); PLACES] }
    }

    /// Counts one failure at `now`, which must not be before the last one.
    pub(super) fn add(&mut self, buckets: Buckets, now: u64) {
        if self.times.len() == self.times_max {
            self.times.pop_front();
        }
        self.times.push_back(now);
        let number = buckets.number(now);
        let bucket = &mut self.ring[place(number)];
        if bucket.0 != number {
            *bucket = (number, 0);
        }
        bucket.1 += 1;
    }

    /// Failures younger than the window, at most as many as are remembered.
    fn younger_than(&self, window_nanos: u64, now: u64) -> u64 {
        let old = self.times.partition_point(|time| now.saturating_sub(*time) >= window_nanos);
        (self.times.len() - old) as u64
    }

    /// The failures in the buckets that count at `now`.
    fn in_buckets(&self, buckets: Buckets, now: u64) -> u64 {
        let words = buckets.numbers(now).map(|number| (number, self.ring[place(number)]));
        words.filter(|(number, bucket)| bucket.0 == *number).map(|(_, bucket)| bucket.1).sum()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.ring = [(0, 0); PLACES];
    }
}
