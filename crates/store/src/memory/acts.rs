//! Acts that are forgotten when the process ends.
//!
//! Invariant: at most [`MOST_IN_MEMORY`] are held.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::acts::{Act, Acts, Numbered};
use crate::bans::Pending;

/// Fewer than a file holds: each takes up to a kilobyte.
const MOST_IN_MEMORY: usize = 10_000;

/// Remembers as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryActs {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    acts: VecDeque<Numbered>,
}

impl MemoryActs {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it is held; were it so, the list is still whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acts for MemoryActs {
    fn add<'a>(&'a self, act: &'a Act) -> Pending<'a, u64> {
        Box::pin(async move {
            let mut kept = self.kept();
            kept.last += 1;
            let numbered = Numbered { number: kept.last, act: act.clone() };
            kept.acts.push_front(numbered);
            kept.acts.truncate(MOST_IN_MEMORY);
            Ok(kept.last)
        })
    }

    fn update(&self, number: u64, status: u16) -> Pending<'_, ()> {
        Box::pin(async move {
            if let Some(found) = self.kept().acts.iter_mut().find(|known| known.number == number) {
                found.act.status = Some(status);
            }
            Ok(())
        })
    }

    fn list(&self, before: u64, most: u32) -> Pending<'_, Vec<Numbered>> {
        Box::pin(async move {
            let kept = self.kept();
            let older = kept.acts.iter().filter(|known| known.number < before);
            Ok(older.take(most as usize).cloned().collect())
        })
    }
}
