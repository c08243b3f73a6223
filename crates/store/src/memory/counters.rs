//! Counters in a fixed number of bytes, safe against floods of new keys.
//!
//! A hash table of sets of eight slots; a key lives in one set, or nowhere. Once allocated it never grows; pages that
//! no key has touched cost nothing. When a newcomer finds its set full, it takes the place of
//! 1. a bucket that is full again or a window that is over (nothing is forgotten), or else
//! 2. the key that has used the smallest share of its quota, if that share is at most half, or else
//! 3. nobody's: it is counted in an overflow bucket shared by the newcomers of its policy in sixteen neighbouring sets,
//!    which admits 1024 times the quota, eight times what the 128 slots of those sets could.
//!
//! Invariant: two slots never hold the same key, so threads that meet on a new key share one quota.

#[cfg(test)]
mod interleavings;
mod set;
mod table;

use crate::counters::{Answer, CompiledQuota, Counters, Key, Nanos, Outcome};
use set::{Charge, Full};
use table::Table;

/// Sets that share their overflow buckets.
const SETS_PER_GROUP: usize = 16;

/// How much more than one key's quota an overflow bucket admits: eight times the slots of its group.
pub const OVERFLOW_TIMES: u64 = 8 * (SETS_PER_GROUP * table::SLOTS) as u64;

/// The smallest table, in bytes.
pub const BYTES_MIN: usize = 64 * 1024;

/// Why no table could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Fewer bytes than [`BYTES_MIN`].
    #[error("a table of counters needs at least {BYTES_MIN} bytes, not {bytes}")]
    TooSmall {
        /// The bytes asked for.
        bytes: usize,
    },
    /// The allocator has no such block.
    #[error("reserving {bytes} bytes for a table of counters failed")]
    OutOfMemory {
        /// The bytes of the block that was refused.
        bytes: usize,
    },
}

/// How often the table had to fall back, since it was made. All zero in a table that is large enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Keys forgotten although they had used something, at most half of their quota.
    pub forgotten: u64,
    /// Requests counted in a shared overflow bucket.
    pub overflowed: u64,
    /// Requests refused because even the overflow buckets of their group were all more than half used.
    pub turned_away: u64,
}

/// The counters of one process.
///
/// While others flood, a key that has used more than half of its quota (to half a per cent) is never forgotten, so an
/// exhausted one waits; a key that is forgotten gains at most half a quota. A newcomer is refused only when all eight
/// keys of its set have used more than half of theirs and its policy has spent the overflow bucket too (or nine
/// policies overflow in the same sets at once, for there are eight such buckets). Memory stays what it was.
///
/// The price: while a set is saturated, one newcomer may pass its own quota, up to that of the overflow bucket.
/// [`pressure`](Self::pressure) tells when the table is too small for its traffic.
#[derive(Debug)]
pub struct MemoryCounters {
    slots: Table,
    overflow: Table,
}

impl MemoryCounters {
    /// A table that takes at most `bytes`, and all but a few kilobytes of them once every page is touched. Every 1 MiB
    /// has room for about 60,000 keys.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn new(bytes: usize) -> Result<Self, TableError> {
        if bytes < BYTES_MIN {
            return Err(TableError::TooSmall { bytes });
        }
        let group = (SETS_PER_GROUP + 1) * table::SET_BYTES;
        let groups = (bytes - 2 * table::OVERHEAD_BYTES) / group;
        Ok(Self { slots: Table::new(groups * SETS_PER_GROUP)?, overflow: Table::new(groups)? })
    }

    /// Bytes reserved, at most what was asked for; constant.
    pub fn bytes(&self) -> usize {
        self.slots.bytes() + self.overflow.bytes()
    }

    /// Keys the table has room for, overflow buckets not counted; constant.
    pub fn keys_max(&self) -> usize {
        self.slots.sets() * table::SLOTS
    }

    /// How often the table had to fall back so far. Walks the locks; for a scrape, not for every request.
    pub fn pressure(&self) -> Pressure {
        let (slots, overflow) = (self.slots.tally(), self.overflow.tally());
        Pressure { forgotten: slots.forgotten, overflowed: slots.full, turned_away: overflow.full }
    }

    /// What is left when one try did not do: the key is new, contended, or there is no slot for it.
    #[cold]
    #[inline(never)]
    fn take_with_patience(&self, key: Key, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome {
        match self.slots.take(self.slots.place(key.hash()), key.hash(), quota, cost, now) {
            Ok(answer) => quota.outcome(answer),
            Err(Full { .. }) => {
                let (place, tag) = self.overflow_of(key);
                let wide = quota.widened(OVERFLOW_TIMES);
                narrowed(quota, &wide, cost, self.overflow.take(place, tag, &wide, cost, now))
            }
        }
    }

    /// Where the overflow bucket of a key lies: the set of its group, and a tag that says only the policy.
    fn overflow_of(&self, key: Key) -> (usize, u64) {
        (self.slots.place(key.hash()) / SETS_PER_GROUP, u64::from(key.policy()))
    }
}

impl Counters for MemoryCounters {
    #[inline]
    fn take(&self, key: Key, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome {
        if cost == 0 {
            return self.peek(key, quota, cost, now);
        }
        match self.slots.charge(self.slots.place(key.hash()), key.hash(), quota, cost, now) {
            Charge::Done(answer) => quota.outcome(answer),
            Charge::Raced | Charge::Lost => self.take_with_patience(key, quota, cost, now),
        }
    }

    fn peek(&self, key: Key, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome {
        match self.slots.peek(self.slots.place(key.hash()), key.hash(), quota, cost, now) {
            Ok(answer) => quota.outcome(answer),
            Err(Full { .. }) => {
                let (place, tag) = self.overflow_of(key);
                let wide = quota.widened(OVERFLOW_TIMES);
                narrowed(quota, &wide, cost, self.overflow.peek(place, tag, &wide, cost, now))
            }
        }
    }
}

/// What a client whose request was counted in an overflow bucket is told: its own limit, never the shared one.
fn narrowed(quota: &CompiledQuota, wide: &CompiledQuota, cost: u64, answer: Result<Answer, Full>) -> Outcome {
    let limit = quota.capacity();
    match answer.map(|answer| wide.outcome(answer)) {
        Ok(outcome) => Outcome { limit, remaining: outcome.remaining.min(limit), ..outcome },
        Err(Full { retry_after_nanos }) => Outcome {
            allowed: cost == 0,
            limit,
            remaining: 0,
            reset_after_nanos: retry_after_nanos,
            retry_after_nanos: if cost == 0 { 0 } else { retry_after_nanos },
        },
    }
}
