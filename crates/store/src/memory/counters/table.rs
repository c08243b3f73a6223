//! The table: many sets in one block of memory, and the latches that guard their owners.
//!
//! The block is asked for zeroed, which the allocator serves with untouched pages, and stays a flat run of words: a
//! type with a larger alignment would make the allocator write every byte at start. The table aligns its sets itself.
//! A set is two cache lines, tags first: searching touches a line that is rarely written, charging only the other.
//!
//! Invariant: nothing here grows after `new`.

use super::TableError;
use super::set::{Charge, Full, Latch, Set, Tally, Word, tag_of};
use crate::counters::{Answer, CompiledQuota, Nanos};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Keys per set: one cache line of tags.
pub(super) const SLOTS: usize = 8;

/// Bytes of a set: eight tags and eight states.
pub(super) const SET_BYTES: usize = 2 * SLOTS * size_of::<AtomicU64>();

const SET_WORDS: usize = 2 * SLOTS;

/// Owners change rarely and briefly; this many latches make two threads wait for each other once in hundreds of times.
const LATCHES: usize = 128;

/// Bytes of a table beside its sets: latches, and the room to align the first set.
pub(super) const OVERHEAD_BYTES: usize = LATCHES * size_of::<SetLatch>() + SET_BYTES;

/// A cache line of its own for each, so that latches do not slow each other down.
#[derive(Default)]
#[repr(align(64))]
struct SetLatch(Mutex<Tally>);

impl Latch for SetLatch {
    fn hold<R>(&self, act: impl FnOnce(&mut Tally) -> R) -> R {
        // A tally is whole between any two of its sums, so a panic elsewhere cannot have broken it.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, value: u64) {
        self.store(value, Ordering::Release);
    }

    #[inline]
    fn replace(&self, seen: u64, next: u64) -> Result<(), u64> {
        self.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}

/// A fixed number of sets.
pub(super) struct Table {
    words: Box<[AtomicU64]>,
    /// Index of the first word that starts a cache line pair.
    first: usize,
    sets: usize,
    latches: Box<[SetLatch]>,
}

impl Table {
    pub(super) fn new(sets: usize) -> Result<Self, TableError> {
        let bytes = sets.saturating_add(1).saturating_mul(SET_BYTES);
        let length = bytes / size_of::<AtomicU64>();
        let words: Box<[AtomicU64]> =
            bytemuck::allocation::try_zeroed_slice_box(length).map_err(|()| TableError::OutOfMemory { bytes })?;
        let first = words.as_ptr().align_offset(SET_BYTES).min(SET_WORDS);
        let latches = (0..LATCHES).map(|_| SetLatch::default()).collect();
        Ok(Self { words, first, sets, latches })
    }

    pub(super) fn sets(&self) -> usize {
        self.sets
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words) + size_of_val(&*self.latches)
    }

    pub(super) fn tally(&self) -> Tally {
        self.latches.iter().fold(Tally::default(), |sum, latch| {
            latch.hold(|part| Tally { forgotten: sum.forgotten + part.forgotten, full: sum.full + part.full })
        })
    }

    /// The set of a hash: the hash as a fraction of 2^64, times the number of sets, so that any number will do.
    #[inline]
    pub(super) fn place(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.sets as u128) >> 64) as usize
    }

    /// Takes from the key with this hash in the set at `place`, in one try.
    #[inline(always)]
    pub(super) fn charge(&self, place: usize, hash: u64, quota: &CompiledQuota, cost: u64, now: Nanos) -> Charge {
        self.set(place).charge(tag_of(hash), quota, cost, now)
    }

    /// Takes from the key with this hash in the set at `place`.
    pub(super) fn take(
        &self,
        place: usize,
        hash: u64,
        quota: &CompiledQuota,
        cost: u64,
        now: Nanos,
    ) -> Result<Answer, Full> {
        self.set(place).take(&self.latches[place % LATCHES], tag_of(hash), quota, cost, now)
    }

    /// The answer that `take` would give.
    pub(super) fn peek(
        &self,
        place: usize,
        hash: u64,
        quota: &CompiledQuota,
        cost: u64,
        now: Nanos,
    ) -> Result<Answer, Full> {
        self.set(place).peek(tag_of(hash), quota, cost, now)
    }

    #[inline(always)]
    fn set(&self, place: usize) -> Set<'_, AtomicU64, SLOTS> {
        let start = self.first + place * SET_WORDS;
        let words = &self.words[start..start + SET_WORDS];
        let (tags, rest) = words.split_first_chunk().expect("a set has two chunks of SLOTS words");
        let states = rest.first_chunk().expect("a set has two chunks of SLOTS words");
        Set { tags, states }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table {{ sets: {}, bytes: {} }}", self.sets, self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_two_whole_cache_lines() {
        for sets in [1, 7, 4096] {
            let table = Table::new(sets).unwrap();
            for place in 0..sets {
                let set = table.set(place);
                assert_eq!(set.tags.as_ptr().addr() % 128, 0);
                assert_eq!(set.states.as_ptr().addr() % 128, 64);
            }
        }
    }

    #[test]
    fn places_cover_every_set_and_nothing_else() {
        let table = Table::new(37).unwrap();
        let places: std::collections::BTreeSet<usize> =
            (0..=u16::MAX).map(|high| table.place(u64::from(high) << 48)).collect();
        assert!(places.into_iter().eq(0..37));
        assert_eq!(table.place(u64::MAX), 36);
    }

    #[test]
    fn a_block_no_allocator_has_is_an_error() {
        assert!(matches!(Table::new(usize::MAX), Err(TableError::OutOfMemory { .. })));
    }
}
