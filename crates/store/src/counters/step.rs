//! One decision on one word of state: pure arithmetic, the same for `take` and `peek`.
//!
//! Token bucket: the word is GCRA's theoretical arrival time, the instant at which the bucket is full again.
//! Fixed window: the window's end in steps of 2^20 ns, rounded up (40 bits), and the count (24 bits).
//! A word whose time has passed means "nothing used", so 0 is the state of a new key under every quota.
//!
//! Invariant: a refusal writes nothing, except that a state left far ahead by a clock stepping back or by a quota made
//! smaller is brought down to "used up", which gives no unit and ends the lockout within one refill.

use super::quota::{Algorithm, CLOCK_SLACK_NANOS, CompiledQuota, HORIZON_NANOS, read_class};
use super::{NEVER, Nanos, Outcome};

/// The state of a key never seen.
pub(crate) const FRESH: u64 = 0;

const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const END_SHIFT: u32 = 20;

/// What is said to a request, and what its state becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) answer: Answer,
    /// The state to write, where it changes.
    pub(crate) next: Option<u64>,
}

/// What is said to a request, before [`CompiledQuota::outcome`] puts it in units.
///
/// Two steps, because the first runs between reading a state and swapping it, where every nanosecond is one in which
/// another thread can come in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Nanoseconds of a bucket, or units of a window.
    left: u64,
    reset_after_nanos: Nanos,
    /// 0 exactly when allowed.
    retry_after_nanos: Nanos,
}

/// How much of its quota a state has used, whichever quota that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Nothing: forgetting the state loses nothing.
    Idle,
    /// Something.
    Used {
        /// In parts of [`Usage::WHOLE`].
        share: u64,
        /// Nanoseconds until half or less is used, as far as that can be told; 0 when it is so now.
        halved_after_nanos: Nanos,
    },
}

impl Usage {
    /// The share of a key that has used up its quota.
    pub(crate) const WHOLE: u64 = 1 << 16;
    /// The largest share that a key may be made to forget.
    pub(crate) const HALF: u64 = Self::WHOLE / 2;
}

/// Reads a state by the class of the quota that wrote it. Rounded by less than half a per cent, downwards.
pub(crate) fn usage(class: u16, state: u64, now: Nanos) -> Usage {
    let now = now.min(HORIZON_NANOS);
    match read_class(class) {
        (Algorithm::TokenBucket, full) => {
            let ahead = state.saturating_sub(now);
            if ahead == 0 {
                return Usage::Idle;
            }
            Usage::Used { share: share_of(ahead, full), halved_after_nanos: ahead.saturating_sub(full / 2) }
        }
        (Algorithm::FixedWindow, full) => {
            let ahead = ((state >> COUNT_BITS) << END_SHIFT).saturating_sub(now);
            if ahead == 0 {
                return Usage::Idle;
            }
            let share = share_of(state & COUNT_MASK, full);
            Usage::Used { share, halved_after_nanos: if share <= Usage::HALF { 0 } else { ahead } }
        }
    }
}

/// `part` of `full` in parts of [`Usage::WHOLE`], at most that.
fn share_of(part: u64, full: u64) -> u64 {
    if part >= full {
        return Usage::WHOLE;
    }
    // Both below 2^58; dropping 16 low digits of a number of 2^32 or more costs less than one part of WHOLE.
    let drop = if full >> 32 == 0 { 0 } else { 16 };
    ((part >> drop) * Usage::WHOLE) / (full >> drop).max(1)
}

impl CompiledQuota {
    /// Decides a request of `cost` units on `state`.
    #[inline(always)]
    pub(crate) fn step(&self, state: u64, cost: u64, now: Nanos) -> Step {
        let now = now.min(HORIZON_NANOS);
        match self.algorithm {
            Algorithm::TokenBucket => self.step_bucket(state, cost, now),
            Algorithm::FixedWindow => self.step_window(state, cost, now),
        }
    }

    /// An answer in the units of this quota, which must be the one that gave it.
    #[inline(always)]
    pub(crate) fn outcome(&self, answer: Answer) -> Outcome {
        let Answer { left, reset_after_nanos, retry_after_nanos } = answer;
        let remaining = match self.algorithm {
            Algorithm::TokenBucket => self.span.divide(left),
            Algorithm::FixedWindow => left,
        };
        Outcome {
            allowed: retry_after_nanos == 0,
            limit: self.capacity,
            remaining,
            reset_after_nanos,
            retry_after_nanos,
        }
    }

    /// What a state becomes when its key comes under this quota after one of the given class: between quotas of one
    /// algorithm the time or the count already used, up to a full use; between algorithms the same share.
    pub(crate) fn convert(&self, class: u16, state: u64, now: Nanos) -> u64 {
        let Usage::Used { share, .. } = usage(class, state, now) else {
            return FRESH;
        };
        let now = now.min(HORIZON_NANOS);
        let part = |full: u64| (u128::from(full) * u128::from(share)).div_ceil(u128::from(Usage::WHOLE)) as u64;
        match (read_class(class).0, self.algorithm) {
            (Algorithm::TokenBucket, Algorithm::TokenBucket) => state.min(now + self.tolerance_nanos),
            (Algorithm::FixedWindow, Algorithm::TokenBucket) => now + part(self.tolerance_nanos),
            (from, Algorithm::FixedWindow) => {
                let used = match from {
                    Algorithm::FixedWindow => (state & COUNT_MASK).min(self.capacity),
                    Algorithm::TokenBucket => part(self.capacity),
                };
                self.window_at(now).end_steps << COUNT_BITS | used
            }
        }
    }

    #[inline(always)]
    fn step_bucket(&self, state: u64, cost: u64, now: Nanos) -> Step {
        let full = self.tolerance_nanos;
        let mut ahead = state.saturating_sub(now);
        let stranded = ahead > full + CLOCK_SLACK_NANOS;
        if stranded {
            ahead = full;
        }
        if cost <= self.capacity {
            // At most `full + slack + full`, far below 2^64.
            let after = ahead + cost * self.span.value();
            if after <= full || cost == 0 {
                let answer =
                    Answer { left: full.saturating_sub(after), reset_after_nanos: after, retry_after_nanos: 0 };
                let next = (cost > 0).then_some(now + after);
                return Step { answer, next };
            }
            return self.refuse_bucket(ahead, after - full, stranded, now);
        }
        self.refuse_bucket(ahead, NEVER, stranded, now)
    }

    #[inline(always)]
    fn refuse_bucket(&self, ahead: u64, retry_after_nanos: Nanos, stranded: bool, now: Nanos) -> Step {
        let full = self.tolerance_nanos;
        let answer = Answer { left: full.saturating_sub(ahead), reset_after_nanos: ahead, retry_after_nanos };
        Step { answer, next: stranded.then_some(now + full) }
    }

    #[inline(always)]
    fn step_window(&self, state: u64, cost: u64, now: Nanos) -> Step {
        let window = self.window_at(now);
        let mut end_steps = state >> COUNT_BITS;
        let mut count = (state & COUNT_MASK).min(self.capacity);
        let mut stranded = false;
        if end_steps <= window.start_steps {
            // That window is over.
            count = 0;
            end_steps = window.end_steps;
        } else if end_steps < window.end_steps {
            // Written under a shorter period that still ran inside this window: it counts here.
            end_steps = window.end_steps;
        } else if end_steps > window.latest_end_steps {
            stranded = true;
            end_steps = window.end_steps;
        }
        let end = if end_steps == window.end_steps { window.end } else { end_steps << END_SHIFT };
        let reset_after_nanos = end - now;
        let free = self.capacity - count;
        if cost <= free || cost == 0 {
            let answer = Answer { left: free - cost, reset_after_nanos, retry_after_nanos: 0 };
            let next = (cost > 0).then_some(end_steps << COUNT_BITS | (count + cost));
            return Step { answer, next };
        }
        let answer = Answer {
            left: free,
            reset_after_nanos,
            retry_after_nanos: if cost > self.capacity { NEVER } else { reset_after_nanos },
        };
        Step { answer, next: stranded.then_some(end_steps << COUNT_BITS | count) }
    }

    #[inline(always)]
    fn window_at(&self, now: Nanos) -> Window {
        let period = self.span.value();
        let start = self.span.divide(now) * period;
        let end = start + period;
        let steps = |instant: Nanos| instant.div_ceil(1 << END_SHIFT);
        let latest_end_steps = steps(now + CLOCK_SLACK_NANOS + period);
        Window { end, start_steps: steps(start), end_steps: steps(end), latest_end_steps }
    }
}

/// The window an instant falls into. Periods are several steps long, so neighbours end at different steps.
struct Window {
    end: Nanos,
    start_steps: u64,
    end_steps: u64,
    /// Where the last window ends that a thread could have seen start whose clock is ahead by no more than the slack.
    latest_end_steps: u64,
}

#[cfg(test)]
mod tests;
