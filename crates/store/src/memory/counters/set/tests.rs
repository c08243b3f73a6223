//! Who gives way in a full set, on one thread. What threads can do to each other is in `interleavings`.

use super::*;
use crate::counters::{Algorithm, Outcome, Quota};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

const SECOND: Nanos = 1_000_000_000;

impl Latch for Mutex<Tally> {
    fn hold<R>(&self, act: impl FnOnce(&mut Tally) -> R) -> R {
        act(&mut self.lock().unwrap())
    }
}

fn quotas() -> [CompiledQuota; 2] {
    [Algorithm::TokenBucket, Algorithm::FixedWindow]
        .map(|algorithm| Quota { algorithm, limit: 10, period_nanos: 10 * SECOND, burst: 10 }.compile().unwrap())
}

/// Fills a set of four with keys that use these amounts, brings a fifth, and says who is left with what.
fn crowd(quota: &CompiledQuota, used: [u64; 4]) -> (Result<Outcome, Full>, [u64; 4], Tally) {
    let words: [[AtomicU64; 4]; 2] = Default::default();
    let set = Set { tags: &words[0], states: &words[1] };
    let latch = Mutex::new(Tally::default());
    let take = |tag, cost| set.take(&latch, tag, quota, cost, 0).map(|answer| quota.outcome(answer));
    let tags = [1, 2, 3, 4].map(|hash| tag_of(hash * 0x0123_4567_89AB));
    for (tag, cost) in tags.into_iter().zip(used) {
        assert!(take(tag, cost).unwrap().allowed);
    }
    let answer = take(tag_of(0xFFFF), 1);
    let states = tags.map(|tag| {
        let slot = set.find(tag);
        slot.map_or(0, |(slot, _)| 10 - quota.outcome(quota.step(Word::load(&words[1][slot]), 0, 0).answer).remaining)
    });
    let tally = *latch.lock().unwrap();
    (answer, states, tally)
}

#[test]
fn the_key_that_used_the_least_gives_way() {
    for quota in quotas() {
        for (used, kept) in [
            ([4, 2, 1, 3], [4, 2, 0, 3]),
            ([1, 2, 4, 3], [0, 2, 4, 3]),
            ([10, 9, 8, 5], [10, 9, 8, 0]),
            ([10, 1, 10, 10], [10, 0, 10, 10]),
        ] {
            let (answer, states, tally) = crowd(&quota, used);
            assert!(answer.is_ok_and(|outcome| outcome.allowed && outcome.remaining == 9));
            assert_eq!((states, tally.forgotten, tally.full), (kept, 1, 0), "{quota:?}");
        }
    }
}

#[test]
fn nobody_above_half_gives_way_and_the_wait_is_told() {
    let [bucket, window] = quotas();
    for quota in [bucket, window] {
        let (answer, states, tally) = crowd(&quota, [6, 10, 7, 8]);
        let Err(Full { retry_after_nanos: wait }) = answer else { panic!("{answer:?}") };
        let expected = if quota == bucket { SECOND } else { 10 * SECOND };
        assert!(wait.abs_diff(expected) < SECOND / 20, "{wait} for {quota:?}");
        assert_eq!((states, tally.forgotten, tally.full), ([6, 10, 7, 8], 0, 1));
    }
}
