//! One set: a few slots, each a tag word (whose key) and a state word (how much is used).
//!
//! A key that is in the set is served without a lock: find the tag, compute, compare-and-swap the state, look at the tag
//! again. Slots change owner only under the set's latch, and first swap the state for `MOVING`, so that a charge either
//! lands before (and is then part of the state that was judged) or fails and looks again. A charge that lands on a
//! slot just given to another key is noticed by the last look and made anew where it belongs: an interleaving of that
//! kind may charge a newcomer once too often, and never lets anybody through uncounted.
//! The proof by exhaustion is in `interleavings`, which runs this very code under a model checker.
//!
//! Invariant: a tag is written only by the holder of the latch, and once non-zero never becomes zero again.

use crate::counters::{Answer, CompiledQuota, FRESH, Nanos, Usage, usage};

/// A word that threads share. The table uses `AtomicU64`, the model checker its own.
pub(super) trait Word {
    /// Loads with acquire ordering.
    fn load(&self) -> u64;
    /// Stores with release ordering.
    fn store(&self, value: u64);
    /// Replaces `seen` by `next` with acquire and release ordering, or gives what was there.
    fn replace(&self, seen: u64, next: u64) -> Result<(), u64>;
}

/// The right to change owners in a set.
pub(super) trait Latch {
    /// Runs `act` while no other thread changes owners.
    fn hold<R>(&self, act: impl FnOnce(&mut Tally) -> R) -> R;
}

/// What happened under one latch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Keys that had used something and lost their slot.
    pub(super) forgotten: u64,
    /// Requests that found no slot to take over.
    pub(super) full: u64,
}

/// No slot may be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// Nanoseconds until one may, if nobody takes meanwhile.
    pub(super) retry_after_nanos: Nanos,
}

/// The state of a slot that is changing owners. No quota can write it: the horizon keeps states below 2^63.
const MOVING: u64 = u64::MAX;

/// A tag word holds 48 bits of the key's hash above the 16 of the quota's class.
const CLASS_MASK: u64 = 0xFFFF;

/// A view of one set.
pub(super) struct Set<'t, W, const SLOTS: usize> {
    pub(super) tags: &'t [W; SLOTS],
    pub(super) states: &'t [W; SLOTS],
}

/// The tag of a hash: its low 48 bits, moved up, never 0. The place of a set comes from the high bits.
#[inline]
pub(super) fn tag_of(hash: u64) -> u64 {
    let tag = hash << 16;
    if tag == 0 { 1 << 16 } else { tag }
}

/// What came of a try.
pub(super) enum Charge {
    Done(Answer),
    /// Another thread charged the slot in the meantime.
    Raced,
    /// The key has no slot, or not for long, or not under this quota.
    Lost,
}

enum Victim {
    Empty(usize),
    Owned { slot: usize, seen: u64, is_used: bool },
    None(Full),
}

impl<W: Word, const SLOTS: usize> Set<'_, W, SLOTS> {
    /// Takes `cost` from a key that has a slot under this very quota, in one try.
    ///
    /// This is the way of nearly every request, kept free of loops and calls: an answer that comes from two places has
    /// to be put together in memory, and the wait for that costs as much again as the whole decision.
    #[inline(always)]
    pub(super) fn charge(&self, tag: u64, quota: &CompiledQuota, cost: u64, now: Nanos) -> Charge {
        let Some((slot, word)) = self.find(tag) else {
            return Charge::Lost;
        };
        let state = self.states[slot].load();
        // The tag is read again after the state: if it is still ours, so was the state.
        if word != tag | u64::from(quota.class()) || state == MOVING || self.tags[slot].load() != word {
            return Charge::Lost;
        }
        let step = quota.step(state, cost, now);
        let Some(next) = step.next else {
            return Charge::Done(step.answer);
        };
        match self.states[slot].replace(state, next) {
            Ok(()) if self.tags[slot].load() == word => Charge::Done(step.answer),
            Ok(()) => Charge::Lost,
            Err(_) => Charge::Raced,
        }
    }

    /// Takes `cost` (above 0) for the key with this tag, whatever else goes on, giving it a slot if it has none.
    pub(super) fn take(
        &self,
        latch: &impl Latch,
        tag: u64,
        quota: &CompiledQuota,
        cost: u64,
        now: Nanos,
    ) -> Result<Answer, Full> {
        loop {
            match self.charge(tag, quota, cost, now) {
                Charge::Done(answer) => return Ok(answer),
                Charge::Raced => {}
                Charge::Lost => {
                    if let Some(answer) = self.admit(latch, tag, quota, cost, now) {
                        return answer;
                    }
                }
            }
        }
    }

    /// The answer that `take` would give.
    pub(super) fn peek(&self, tag: u64, quota: &CompiledQuota, cost: u64, now: Nanos) -> Result<Answer, Full> {
        loop {
            let Some((slot, word)) = self.find(tag) else {
                let fresh = quota.step(FRESH, cost, now);
                return match self.victim(tag, now) {
                    Victim::None(full) if fresh.next.is_some() || cost == 0 => Err(full),
                    _ => Ok(fresh.answer),
                };
            };
            let state = self.states[slot].load();
            if state == MOVING || self.tags[slot].load() != word {
                // Somebody else's few instructions between two stores.
                std::hint::spin_loop();
                continue;
            }
            let class = (word & CLASS_MASK) as u16;
            let state = if class == quota.class() { state } else { quota.convert(class, state, now) };
            return Ok(quota.step(state, cost, now).answer);
        }
    }

    /// Each key starts its search at a slot of its own, so that most are found at the first look.
    #[inline]
    fn order(tag: u64) -> impl Iterator<Item = usize> {
        let start = (tag >> 16) as usize;
        (0..SLOTS).map(move |step| start.wrapping_add(step) % SLOTS)
    }

    /// The slot of a key and its whole tag word. A key is always put into the first empty slot of its order and slots
    /// never become empty again, so an empty one ends the search.
    #[inline(always)]
    fn find(&self, tag: u64) -> Option<(usize, u64)> {
        for slot in Self::order(tag) {
            let word = self.tags[slot].load();
            if word & !CLASS_MASK == tag {
                return Some((slot, word));
            }
            if word == 0 {
                return None;
            }
        }
        None
    }

    /// Puts a new key into a slot and takes its first `cost`; `None` when the key is there by now.
    fn admit(
        &self,
        latch: &impl Latch,
        tag: u64,
        quota: &CompiledQuota,
        cost: u64,
        now: Nanos,
    ) -> Option<Result<Answer, Full>> {
        latch.hold(|tally| {
            let word = tag | u64::from(quota.class());
            if let Some((slot, found)) = self.find(tag) {
                return (found != word).then(|| Ok(self.take_over(slot, found, word, quota, cost, now)));
            }
            let fresh = quota.step(FRESH, cost, now);
            let Some(next) = fresh.next else {
                return Some(Ok(fresh.answer));
            };
            loop {
                match self.victim(tag, now) {
                    Victim::Empty(slot) => {
                        self.states[slot].store(next);
                        self.tags[slot].store(word);
                        return Some(Ok(fresh.answer));
                    }
                    Victim::Owned { slot, seen, is_used } => {
                        if self.states[slot].replace(seen, MOVING).is_err() {
                            // It has just been charged: judge again.
                            continue;
                        }
                        tally.forgotten += u64::from(is_used);
                        self.tags[slot].store(word);
                        self.states[slot].store(next);
                        return Some(Ok(fresh.answer));
                    }
                    Victim::None(full) => {
                        tally.full += 1;
                        return Some(Err(full));
                    }
                }
            }
        })
    }

    /// Takes from a key whose slot was written under an earlier quota of its policy. Needs the latch.
    fn take_over(&self, slot: usize, found: u64, word: u64, quota: &CompiledQuota, cost: u64, now: Nanos) -> Answer {
        let mut state = self.states[slot].load();
        while let Err(seen) = self.states[slot].replace(state, MOVING) {
            state = seen;
        }
        let converted = quota.convert((found & CLASS_MASK) as u16, state, now);
        let step = quota.step(converted, cost, now);
        self.tags[slot].store(word);
        self.states[slot].store(step.next.unwrap_or(converted));
        step.answer
    }

    /// The slot a newcomer may have: an empty one, an idle one, or that of the key that has used the smallest share.
    fn victim(&self, tag: u64, now: Nanos) -> Victim {
        let mut least_used: Option<(u64, usize, u64)> = None;
        let mut retry_after_nanos = Nanos::MAX;
        for slot in Self::order(tag) {
            let word = self.tags[slot].load();
            if word == 0 {
                return Victim::Empty(slot);
            }
            let seen = self.states[slot].load();
            if seen == MOVING {
                // Only a peek sees this, for it holds no latch. The slot is about to be somebody's.
                continue;
            }
            match usage((word & CLASS_MASK) as u16, seen, now) {
                Usage::Idle => return Victim::Owned { slot, seen, is_used: false },
                Usage::Used { share, halved_after_nanos } => {
                    retry_after_nanos = retry_after_nanos.min(halved_after_nanos.max(1));
                    if share <= Usage::HALF && least_used.is_none_or(|(least, ..)| share < least) {
                        least_used = Some((share, slot, seen));
                    }
                }
            }
        }
        match least_used {
            Some((_, slot, seen)) => Victim::Owned { slot, seen, is_used: true },
            None => Victim::None(Full { retry_after_nanos }),
        }
    }
}

#[cfg(test)]
mod tests;
