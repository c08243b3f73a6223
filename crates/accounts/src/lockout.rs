//! Counting wrong guesses, so that guessing stops and the owner is never the one who pays for it.
//!
//! Failures are counted apart for (account, network), for (account, known device), and for an account over everybody who is no
//! known device. Whoever reaches its count is refused for a while, whatever it then sends. A device that has logged in before
//! is not counted with strangers and not locked with them (OWASP, "Slow Down Online Guessing Attacks with Device Cookies"), so
//! a stranger cannot keep the owner out of a browser that he has used before.
//!
//! A guess takes its place before it is looked at, so a hundred guesses at once are at most as many as may fail. A guess
//! whose client hangs up is counted as wrong.
//!
//! Invariant: at most `failures` guesses of a subject are looked at in a window; entries are bounded, and those of accounts
//! give way to nobody.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_core::clock::{Now, nanos};
use portcullis_store::sessions::Digest;

/// How many (account, network) and (account, device) pairs are counted at once. What does not fit is counted for its account
/// alone.
const MOST_PAIRS: usize = 100_000;
/// Pairs that are over are looked for no more often than this.
const SWEEP_EVERY_NANOS: u64 = 1_000_000_000;

/// When guesses are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Wrong guesses on an account from one network, or one known device, within `time`.
    pub failures: u32,
    /// Wrong guesses on an account of all strangers together, within `time`.
    pub strangers: u32,
    /// Wrong second factors behind the right password, of all strangers together, within `time`.
    pub codes: u32,
    /// How long failures count, and how long the refusal lasts.
    pub time: Duration,
}

/// Who guesses.
#[derive(Clone, Copy, Debug)]
pub enum Guesser {
    /// Nobody who is known, from this network.
    Stranger(IpAddr),
    /// A device that has logged in to this account before.
    Device(Digest),
}

/// All counts.
pub struct Lockout {
    rules: Rules,
    counts: Arc<Mutex<Counts>>,
    seeds: [RandomState; 2],
}

#[derive(Default)]
struct Counts {
    /// Of accounts that exist: as many as there are at most.
    accounts: HashMap<(String, Of), Count>,
    pairs: HashMap<u128, Count>,
    next_sweep_nanos: u64,
    locked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Passwords,
    Codes,
}

#[derive(Clone, Copy, Default)]
struct Count {
    failures: u32,
    in_flight: u32,
    /// When the failures are forgotten.
    until_nanos: u64,
}

/// A guess that is being looked at. Dropped without a verdict it was wrong.
pub struct Guess {
    counts: Arc<Mutex<Counts>>,
    pair: Option<u128>,
    account: Option<(String, Of, u32)>,
    pair_limit: u32,
    until_nanos: u64,
    now_nanos: u64,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Wrong,
    Right,
    None,
}

impl Count {
    /// The failures that still count.
    fn now(mut self, now_nanos: u64) -> Count {
        if self.until_nanos <= now_nanos {
            self.failures = 0;
        }
        self
    }

    fn is_over(&self, now_nanos: u64) -> bool {
        self.in_flight == 0 && (self.failures == 0 || self.until_nanos <= now_nanos)
    }

    fn has_room(self, limit: u32, now_nanos: u64) -> bool {
        let count = self.now(now_nanos);
        count.failures.saturating_add(count.in_flight) < limit
    }

    /// A guess is over; whether this is the failure that locks.
    fn ends(&mut self, verdict: Verdict, limit: u32, forgives: bool, now_nanos: u64, until_nanos: u64) -> bool {
        *self = self.now(now_nanos);
        self.in_flight = self.in_flight.saturating_sub(1);
        match verdict {
            Verdict::Wrong => {
                if self.failures == 0 || self.failures + 1 >= limit {
                    // The window begins with the first failure, and the refusal with the last.
                    self.until_nanos = until_nanos;
                }
                self.failures += 1;
                self.failures == limit
            }
            Verdict::Right if forgives => {
                self.failures = 0;
                false
            }
            Verdict::Right | Verdict::None => false,
        }
    }
}

impl Lockout {
    /// Nothing was guessed yet.
    #[must_use]
    pub fn new(rules: Rules) -> Lockout {
        Lockout { rules, counts: Arc::default(), seeds: [RandomState::new(), RandomState::new()] }
    }

    /// A guess at the password of an account that exists. `None`: it must not be looked at.
    #[must_use]
    pub fn password(&self, account: &str, guesser: Guesser, now: &Now) -> Option<Guess> {
        let of_all = matches!(guesser, Guesser::Stranger(_)).then_some((Of::Passwords, self.rules.strangers));
        self.begin(account, guesser, Of::Passwords, of_all, now)
    }

    /// A guess at the second factor behind the right password.
    #[must_use]
    pub fn code(&self, account: &str, guesser: Guesser, now: &Now) -> Option<Guess> {
        let of_all = matches!(guesser, Guesser::Stranger(_)).then_some((Of::Codes, self.rules.codes));
        self.begin(account, guesser, Of::Codes, of_all, now)
    }

    fn begin(&self, account: &str, guesser: Guesser, of: Of, of_all: Option<(Of, u32)>, now: &Now) -> Option<Guess> {
        let now_nanos = now.monotonic_nanos;
        let key = self.key(account, guesser, of);
        let limit = self.rules.failures;
        let mut counts = self.lock();
        let pair = counts.pairs.get(&key).copied().unwrap_or_default();
        let all = of_all.map(|(of, limit)| ((account.to_owned(), of), limit));
        let of_account = all.as_ref().and_then(|(key, _)| counts.accounts.get(key)).copied().unwrap_or_default();
        if !pair.has_room(limit, now_nanos)
            || all.as_ref().is_some_and(|(_, most)| !of_account.has_room(*most, now_nanos))
        {
            return None;
        }
        let has_place = counts.pairs.contains_key(&key) || counts.makes_room(now_nanos);
        if has_place {
            counts.pairs.entry(key).or_default().in_flight += 1;
        }
        let account = all.map(|(key, limit)| {
            counts.accounts.entry(key.clone()).or_default().in_flight += 1;
            (key.0, key.1, limit)
        });
        Some(Guess {
            counts: Arc::clone(&self.counts),
            pair: has_place.then_some(key),
            account,
            pair_limit: limit,
            until_nanos: now_nanos.saturating_add(nanos(self.rules.time)),
            now_nanos,
            verdict: Verdict::Wrong,
        })
    }

    /// Forgets every failure on an account: its operator says so.
    pub fn forgive(&self, account: &str) -> bool {
        // Pairs are hashed and not found by account; they are few enough to begin anew, and a guesser gains one round.
        let mut counts = self.lock();
        counts.pairs.retain(|_, count| count.in_flight > 0);
        let before = counts.accounts.len();
        counts.accounts.retain(|(name, _), count| name != account || count.in_flight > 0);
        counts.accounts.len() != before
    }

    /// Whether strangers are refused at an account now.
    #[must_use]
    pub fn is_locked(&self, account: &str, now: &Now) -> bool {
        let counts = self.lock();
        [(Of::Passwords, self.rules.strangers), (Of::Codes, self.rules.codes)].into_iter().any(|(of, limit)| {
            let count = counts.accounts.get(&(account.to_owned(), of));
            count.is_some_and(|count| count.now(now.monotonic_nanos).failures >= limit)
        })
    }

    /// How often a count was reached so far.
    #[must_use]
    pub fn locked(&self) -> u64 {
        self.lock().locked
    }

    fn key(&self, account: &str, guesser: Guesser, of: Of) -> u128 {
        let half = |seed: &RandomState| match guesser {
            Guesser::Stranger(network) => seed.hash_one((of, account, 0u8, network)),
            Guesser::Device(device) => seed.hash_one((of, account, 1u8, device)),
        };
        u128::from(half(&self.seeds[0])) << 64 | u128::from(half(&self.seeds[1]))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Whether another pair fits.
    fn makes_room(&mut self, now_nanos: u64) -> bool {
        if self.pairs.len() >= MOST_PAIRS && now_nanos >= self.next_sweep_nanos {
            self.next_sweep_nanos = now_nanos.saturating_add(SWEEP_EVERY_NANOS);
            self.pairs.retain(|_, count| !count.is_over(now_nanos));
            self.accounts.retain(|_, count| !count.is_over(now_nanos));
        }
        self.pairs.len() < MOST_PAIRS
    }
}

impl Guess {
    /// It was right: what its network or device got wrong before is forgotten. What all strangers got wrong is not.
    pub fn right(mut self) {
        self.verdict = Verdict::Right;
    }

    /// It was not looked at to the end, and says nothing.
    pub fn nothing(mut self) {
        self.verdict = Verdict::None;
    }

    /// It was wrong.
    pub fn wrong(self) {
        drop(self);
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, until, verdict) = (self.now_nanos, self.until_nanos, self.verdict);
        let mut has_locked = false;
        if let Some(count) = self.pair.and_then(|key| counts.pairs.get_mut(&key)) {
            has_locked |= count.ends(verdict, self.pair_limit, true, now, until);
        }
        if let Some((account, of, limit)) = self.account.take()
            && let Some(count) = counts.accounts.get_mut(&(account, of))
        {
            has_locked |= count.ends(verdict, limit, false, now, until);
        }
        counts.locked += u64::from(has_locked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { failures: 10, strangers: 30, codes: 10, time: Duration::from_secs(900) };

    fn at(seconds: u64) -> Now {
        Now { monotonic_nanos: seconds * 1_000_000_000, unix_millis: 0 }
    }

    fn from(last: u8) -> Guesser {
        Guesser::Stranger(IpAddr::from([192, 0, 2, last]))
    }

    fn fail(lockout: &Lockout, guesser: Guesser, times: usize, now: &Now) -> usize {
        (0..times).filter(|_| lockout.password("ann", guesser, now).map(Guess::wrong).is_some()).count()
    }

    /// Row 104.
    #[test]
    fn row_104_ten_are_looked_at_and_then_none_until_the_time_is_over() {
        let lockout = Lockout::new(RULES);
        assert_eq!(fail(&lockout, from(1), 15, &at(0)), 10);
        assert_eq!(lockout.locked(), 1);
        assert!(lockout.password("ann", from(1), &at(899)).is_none());
        assert!(lockout.password("ann", from(1), &at(900)).is_some());
        // Of another network and another account nothing is held against anybody.
        assert!(lockout.password("ann", from(2), &at(0)).is_some());
        assert!(lockout.password("bob", from(1), &at(0)).is_some());
    }

    /// Row 104: a hundred at once are not looked at before the first is found wrong.
    #[test]
    fn row_104_of_a_hundred_at_once_ten_are_looked_at() {
        let lockout = Lockout::new(RULES);
        let held: Vec<Guess> = (0..100).filter_map(|_| lockout.password("ann", from(1), &at(0))).collect();
        assert_eq!(held.len(), 10);
        held.into_iter().for_each(Guess::nothing);
        assert_eq!(fail(&lockout, from(1), 100, &at(1)), 10, "what was not looked at counts for nothing");
    }

    #[test]
    fn a_window_begins_with_its_first_failure() {
        let lockout = Lockout::new(RULES);
        assert_eq!(fail(&lockout, from(1), 9, &at(0)), 9);
        assert_eq!(fail(&lockout, from(1), 10, &at(901)), 10);
    }

    /// Row 105.
    #[test]
    fn row_105_strangers_lock_strangers_out_and_no_known_device() {
        let lockout = Lockout::new(RULES);
        let looked_at: usize = (0..20).map(|network| fail(&lockout, from(network), 10, &at(0))).sum();
        assert_eq!(looked_at, 30, "all strangers together");
        assert!(lockout.is_locked("ann", &at(0)) && !lockout.is_locked("bob", &at(0)));
        assert!(lockout.password("ann", from(99), &at(1)).is_none());
        let device = Guesser::Device(Digest([7; 32]));
        lockout.password("ann", device, &at(1)).expect("the owner's browser enters").right();
        assert_eq!(fail(&lockout, device, 15, &at(1)), 10, "and is counted by itself");
        assert!(lockout.forgive("ann"));
        assert!(lockout.password("ann", from(99), &at(1)).is_some());
    }

    /// Row 107.
    #[test]
    fn row_107_a_right_one_forgives_its_own_network_and_nothing_else() {
        // Twenty failures, ten of them looked at; bob's successes did nothing for ann's count.
        let lockout = Lockout::new(RULES);
        let mut looked_at = 0;
        for _ in 0..20 {
            looked_at += fail(&lockout, from(1), 1, &at(0));
            lockout.password("bob", from(1), &at(0)).expect("bob may").right();
        }
        assert_eq!(looked_at, 10);
        // One's own success begins anew, but not for the sum of strangers.
        let lockout = Lockout::new(RULES);
        let mut looked_at = 0;
        for _ in 0..20 {
            looked_at += fail(&lockout, from(1), 9, &at(0));
            if let Some(guess) = lockout.password("ann", from(1), &at(0)) {
                guess.right();
            }
        }
        assert_eq!(looked_at, 30);
    }

    #[test]
    fn codes_are_counted_apart_and_a_dropped_guess_was_wrong() {
        let lockout = Lockout::new(RULES);
        let wrong = (0..50).filter(|last| lockout.code("ann", from(*last), &at(0)).is_some()).count();
        assert_eq!(wrong, 10, "over all networks");
        assert!(lockout.password("ann", from(1), &at(0)).is_some());
    }

    #[test]
    fn a_flood_of_networks_takes_bounded_room_and_frees_nobody() {
        let lockout = Lockout::new(RULES);
        assert_eq!(fail(&lockout, from(1), 10, &at(0)), 10);
        for number in 0..MOST_PAIRS as u32 + 10 {
            let network = IpAddr::from(number.to_be_bytes());
            drop(lockout.password(&number.to_string(), Guesser::Stranger(network), &at(0)));
        }
        assert_eq!(lockout.lock().pairs.len(), MOST_PAIRS);
        assert!(lockout.password("ann", from(1), &at(1)).is_none(), "still locked");
        assert!(lockout.password("zoe", from(2), &at(1)).is_some(), "others still may");
    }
}
