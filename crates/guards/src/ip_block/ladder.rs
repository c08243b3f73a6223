//! How long a ban lasts: `(Rules, past bans, what was asked, now) -> time`. Pure.
//!
//! Who comes back after a ban and does it again stays out longer. The first ban within `repeat_within` lasts as long as was
//! asked, the second at least the first rung of the ladder, and so on; further ones stay on the last rung. A ban that a
//! person lifted was a mistake and does not count, nor does one that another took the place of.
//!
//! Invariant: never shorter than what was asked.

use std::time::Duration;

use portcullis_store::bans::{Ending, Past};

/// How bans grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ladder {
    /// The least time of the second ban, the third, and so on.
    pub(super) rungs: Box<[Duration]>,
    /// How far back a ban may have begun and still count.
    pub(super) repeat_within: Duration,
}

impl Ladder {
    /// How many bans of this network count at `now_unix_millis`.
    pub(super) fn repeats(&self, past: &[Past], now_unix_millis: u64) -> usize {
        let within = u64::try_from(self.repeat_within.as_millis()).unwrap_or(u64::MAX);
        let earliest = now_unix_millis.saturating_sub(within);
        past.iter().filter(|past| past.ending == Ending::Expired && past.ban.since_unix_millis >= earliest).count()
    }

    /// How long the next ban lasts.
    pub(super) fn time(&self, past: &[Past], asked: Duration, now_unix_millis: u64) -> Duration {
        match self.repeats(past, now_unix_millis).min(self.rungs.len()).checked_sub(1) {
            Some(rung) => asked.max(self.rungs[rung]),
            None => asked,
        }
    }
}
