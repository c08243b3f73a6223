//! What is remembered: failures in the store's counters, and which guesses are on their way.
//!
//! A counter's windows begin at fixed moments, so ten failures around such a moment would count as five and five. Four
//! counters, whose windows begin a quarter apart, see every burst that fits into three quarters of the window whole. None of
//! them ever sees more failures than there were within one window, so nobody is banned early.
//!
//! Guesses on their way are counted so that a hundred at once are not all let through before the first answer is known: a
//! guess enters first and then asks how many failures are left, a failure is counted first and then leaves. So at every
//! moment the failures that are counted and the guesses that may still fail are together no more than are allowed.
//!
//! Invariant: who entered leaves exactly once, when its [`Place`] is dropped; the table holds requests in flight and nothing else.

use std::array;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_core::clock::{Now, nanos};
use portcullis_core::units::Cidr;
use portcullis_store::counters::{CompiledQuota, Counters, Key, PolicyKey};

/// Counters for each subject, their windows this part of a window apart.
const WINDOWS: u64 = 4;
const PARTS: usize = 16;

/// Whose failures are counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// Of one client.
    Client(&'a Cidr),
    /// Of one client on one account.
    Account(&'a Cidr, &'a str),
    /// Of the wider network around a client.
    Wider(&'a Cidr),
    /// With one bearer token of one client; counted so that it counts once.
    Token(&'a Cidr, u64),
}

/// How many failures may be in which time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'a> {
    pub(super) quota: &'a CompiledQuota,
    pub(super) window: Duration,
    /// Changes when a ban ends, so that counting begins anew.
    pub(super) epoch: u64,
}

/// The counters of failures.
pub(super) struct Failures {
    pub(super) counters: Arc<dyn Counters>,
    pub(super) keys: PolicyKey,
}

impl Failures {
    fn key(&self, subject: Subject<'_>, bound: &Bound<'_>, window: u64) -> Key {
        let (kind, network, rest) = match subject {
            Subject::Client(network) => (0u8, network, Vec::new()),
            Subject::Account(network, account) => (1, network, account.as_bytes().to_vec()),
            Subject::Wider(network) => (2, network, Vec::new()),
            Subject::Token(network, token) => (3, network, token.to_le_bytes().to_vec()),
        };
        let limit = bound.quota.capacity().to_le_bytes();
        let period = nanos(bound.window).to_le_bytes();
        let (epoch, window) = (bound.epoch.to_le_bytes(), window.to_le_bytes());
        self.keys.key(&[&[kind], network.to_string().as_bytes(), &rest, &limit, &period, &epoch, &window])
    }

    /// Counts a failure; whether the bound is reached.
    pub(super) fn take(&self, subject: Subject<'_>, bound: &Bound<'_>, now: &Now) -> bool {
        let mut is_reached = false;
        for window in 0..WINDOWS {
            let outcome =
                self.counters.take(self.key(subject, bound, window), bound.quota, 1, shifted(bound, window, now));
            is_reached |= !outcome.allowed || outcome.remaining == 0;
        }
        is_reached
    }

    /// How many failures are left before the bound is reached, and the nanoseconds until there are more.
    pub(super) fn left(&self, subject: Subject<'_>, bound: &Bound<'_>, now: &Now) -> (u64, u64) {
        let ask = |window| {
            let at = shifted(bound, window, now);
            let outcome = self.counters.peek(self.key(subject, bound, window), bound.quota, 0, at);
            (outcome.remaining, outcome.reset_after_nanos)
        };
        let answers = array::from_fn::<_, { WINDOWS as usize }, _>(|window| ask(window as u64));
        let left = answers.iter().map(|(left, _)| *left).min().unwrap_or(0);
        let wait = answers.iter().filter(|(own, _)| *own == left).map(|(_, wait)| *wait).max().unwrap_or(0);
        (left, wait)
    }
}

fn shifted(bound: &Bound<'_>, window: u64, now: &Now) -> u64 {
    now.monotonic_nanos.saturating_add(nanos(bound.window) / WINDOWS * window)
}

/// The different guesses of one client that are on their way, each with how often.
type Guesses = Vec<(u64, u32)>;

/// Which guesses are on their way.
pub(super) struct InFlight {
    parts: [Mutex<HashMap<u64, Guesses>>; PARTS],
}

impl Default for InFlight {
    fn default() -> InFlight {
        InFlight { parts: array::from_fn(|_| Mutex::default()) }
    }
}

/// One guess on its way; it leaves when this is dropped.
pub(crate) struct Place {
    table: Arc<InFlight>,
    client: u64,
    guess: u64,
}

impl InFlight {
    /// Lets a guess in, and how many different ones of this client are on their way with it.
    pub(super) fn enter(self: &Arc<InFlight>, client: u64, guess: u64) -> (Place, usize) {
        let mut part = self.part(client);
        let guesses = part.entry(client).or_default();
        match guesses.iter_mut().find(|(known, _)| *known == guess) {
            Some((_, count)) => *count += 1,
            None => guesses.push((guess, 1)),
        }
        let different = guesses.len();
        drop(part);
        (Place { table: Arc::clone(self), client, guess }, different)
    }

    fn part(&self, client: u64) -> MutexGuard<'_, HashMap<u64, Guesses>> {
        // Nothing panics while it is held; were it so, the counts are still whole.
        self.parts[client as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn clients(&self) -> usize {
        (0..PARTS as u64).map(|part| self.part(part).len()).sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut part = self.table.part(self.client);
        let Some(guesses) = part.get_mut(&self.client) else { return };
        if let Some(at) = guesses.iter().position(|(known, _)| *known == self.guess) {
            guesses[at].1 -= 1;
            if guesses[at].1 == 0 {
                guesses.swap_remove(at);
            }
        }
        if guesses.is_empty() {
            part.remove(&self.client);
        }
    }
}
