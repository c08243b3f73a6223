//! The sliding window: how many attempts succeeded and failed lately.
//!
//! Successes are many and are counted without a lock, in buckets of time. Failures are few (or the breaker is about to
//! open) and are counted under the breaker's lock, in the same buckets and also by their exact times: so "5 failures
//! in 60 s" is exact to the nanosecond, and only the share of failures is rounded to whole buckets.
//!
//! Invariant: memory is fixed at start; no count is ever taken from a bucket that has left the window.

use std::collections::VecDeque;

use super::decide::Counts;
use super::sync::{AtomicU64, Ordering};

/// Places in a ring of buckets. A power of two, so that a bucket finds its place by its low bits.
const PLACES: usize = 16;

/// How time is cut into buckets: a width that is a power of two, so that finding the bucket of an instant is one shift.
///
/// The width is the smallest power of two of at least a fifteenth of the window, so it lies between 1/15 and 2/15 of
/// it (60 s: 4.3 s). The buckets in the window are the current one and as many before it as cover the window whole:
/// they reach back at least the window and at most the window and one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buckets {
    width_log2: u32,
    in_window: u64,
}

impl Buckets {
    /// The cut for a window of `window_nanos` (at least 15, at most 2^62).
    pub(super) fn of_window(window_nanos: u64) -> Buckets {
        let width = window_nanos.div_ceil(PLACES as u64 - 1).next_power_of_two();
        Buckets { width_log2: width.trailing_zeros(), in_window: window_nanos.div_ceil(width) + 1 }
    }

    /// The number of the bucket that `now` falls into, counted from the start of the process.
    fn number(self, now: u64) -> u64 {
        now >> self.width_log2
    }

    /// The numbers of the buckets that are in the window at `now`.
    fn numbers(self, now: u64) -> std::ops::RangeInclusive<u64> {
        let last = self.number(now);
        last.saturating_sub(self.in_window - 1)..=last
    }
}

/// The place of a bucket in a ring.
fn place(number: u64) -> usize {
    number as usize % PLACES
}

/// Successes by bucket. Adding takes one atomic instruction; many threads may add at once.
///
/// A word holds the low half of a bucket's number below and its count above, so that a place can be handed from a bucket
/// that left the window to the new one, and be counted in, without a lock. A count that outgrows 32 bits starts again
/// at 0 (4.3 thousand million successes within one bucket).
#[derive(Debug)]
#[repr(align(128))] // not on the cache line of what every admission reads
pub(super) struct Successes {
    ring: [AtomicU64; PLACES],
}

const ONE_SUCCESS: u64 = 1 << 32;

impl Successes {
    pub(super) fn new() -> Successes {
        Successes { ring: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Counts one success at `now`.
    #[inline]
    pub(super) fn add(&self, buckets: Buckets, now: u64) {
        let number = buckets.number(now);
        let word = &self.ring[place(number)];
        if word.fetch_add(ONE_SUCCESS, Ordering::Relaxed) as u32 != number as u32 {
            Self::take_over(word, number as u32);
        }
    }

    /// Hands the place to bucket `number`, with the one success that brought us here.
    ///
    /// That success was added to the bucket that had the place before. If that one is older it has left the window
    /// and is thrown away with everything in it, ours included, so ours is added again. If it is newer, our `now` is
    /// older than the whole window; the success stays where it is: a late verdict counts when it arrives.
    #[cold]
    fn take_over(word: &AtomicU64, number: u32) {
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let age = number.wrapping_sub(seen as u32).cast_signed();
            let wanted = match age {
                0 => seen.wrapping_add(ONE_SUCCESS),
                1.. => ONE_SUCCESS | u64::from(number),
                _ => return,
            };
            match word.compare_exchange_weak(seen, wanted, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    /// The successes in the buckets that are in the window at `now`.
    pub(super) fn count(&self, buckets: Buckets, now: u64) -> u64 {
        buckets
            .numbers(now)
            .map(|number| (number, self.ring[place(number)].load(Ordering::Relaxed)))
            .filter(|(number, word)| *word as u32 == *number as u32)
            .map(|(_, word)| word >> 32)
            .sum()
    }

    /// Forgets everything. A success that is being added at this moment may stay.
    pub(super) fn clear(&self) {
        for word in &self.ring {
            word.store(0, Ordering::Relaxed);
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

    /// What the window holds at `now`, with `successes` beside the failures.
    pub(super) fn counts(&self, buckets: Buckets, window_nanos: u64, now: u64, successes: &Successes) -> Counts {
        let old = self.times.partition_point(|time| now.saturating_sub(*time) >= window_nanos);
        let failed: u64 = buckets
            .numbers(now)
            .map(|number| (number, self.ring[place(number)]))
            .filter(|(number, bucket)| bucket.0 == *number)
            .map(|(_, bucket)| bucket.1)
            .sum();
        Counts {
            recent_failures: (self.times.len() - old) as u64,
            failed,
            total: failed + successes.count(buckets, now),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.ring = [(0, 0); PLACES];
    }
}
