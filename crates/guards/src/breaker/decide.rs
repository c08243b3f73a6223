//! What a circuit breaker decides, as functions over plain values: when it opens, who is let through, what a probe's
//! verdict does, and how an answer of the upstream is judged.
//!
//! `state.rs` gathers the values, asks here, and applies the answer; tests and `explain` ask the same functions.
//!
//! Invariant: no clock, no atomics, no locks; every `now` is in nanoseconds since the process started.

use std::ops::RangeInclusive;

use portcullis_core::fault::{ErrorType, Fault};

use super::config::Rules;

/// How long a request is told to wait when the breaker is half-open and every probe is out: whether the upstream is
/// back will be known as soon as a probe answers, so it is the shortest wait that `Retry-After` can say.
pub(super) const PROBING_RETRY_NANOS: u64 = 1_000_000_000;

/// Where the breaker stands. The numbers are those of the `circuit_breaker_state` gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything passes, outcomes are counted.
    Closed = 0,
    /// A few probes pass, everyone else is refused.
    HalfOpen = 1,
    /// Everyone is refused until the time is up.
    Open = 2,
}

impl State {
    /// Every state, for declaring label values.
    pub const ALL: [State; 3] = [State::Closed, State::HalfOpen, State::Open];

    /// The value of the `circuit_breaker_state` gauge: 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub fn gauge(self) -> u8 {
        self as u8
    }

    /// The label value of `from_state` and `to_state`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::HalfOpen => "half_open",
            State::Open => "open",
        }
    }
}

/// What became of one admitted attempt.
///
/// | | closed | half-open |
/// |---|---|---|
/// | `Success` | counts as a success | one of the successes that close it |
/// | `Answered` | does not count | one of the successes that close it: the upstream is alive and answering |
/// | `Failure` | counts as a failure, may open | opens again at once |
/// | `Neutral` | does not count | gives the probe's place back |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The upstream did what was asked.
    Success,
    /// The upstream answered that the client is wrong (4xx).
    Answered,
    /// The upstream failed.
    Failure(ErrorType),
    /// Nothing was learnt about the upstream: the client hung up, or sent a broken body.
    Neutral,
}

impl Verdict {
    /// Judges a whole answer by its status: 5xx is a failure, 4xx is an answer that does not count, the rest succeeded.
    ///
    /// A status is only a verdict once the body has been delivered too; a body that is cut or too slow is a [`Fault`].
    #[must_use]
    pub fn of_status(status: u16) -> Verdict {
        match status {
            400..=499 => Verdict::Answered,
            500..=599 => Verdict::Failure(ErrorType::ApiError),
            _ => Verdict::Success,
        }
    }

    /// Judges an attempt that brought no whole answer. What the client caused is neutral.
    #[must_use]
    pub fn of_fault(fault: Fault) -> Verdict {
        match fault.error_type() {
            Some(kind) => Verdict::Failure(kind),
            None => Verdict::Neutral,
        }
    }
}

/// What the sliding window holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Failures younger than the window, to the nanosecond; counted up to `Rules::failures` and no further.
    pub recent_failures: u64,
    /// Failures in the buckets that cover the window (at least the window, at most one bucket more).
    pub failed: u64,
    /// Failures and successes in the same buckets.
    pub total: u64,
}

/// Places in a ring of buckets: the one that time is in, and those before it that cover the window.
pub(super) const PLACES: usize = 16;

/// How time is cut into buckets: 15 cover the window, and the one that `now` is in comes on top.
///
/// So what the buckets hold reaches back at least the window, and at most the window and one bucket (1/15 of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buckets {
    /// 2^64 / width, rounded down: finding a bucket is a multiplication where a division would cost more than all the rest.
    /// The rounding makes buckets a little wider than asked for: by less than 4 us for a window of 1 h, 1 ns for 60 s.
    per_nanosecond: u64,
}

impl Buckets {
    /// The cut for a window of 1 s to 1 h.
    pub(super) fn of_window(window_nanos: u64) -> Buckets {
        let width = window_nanos.div_ceil(PLACES as u64 - 1).max(2);
        Buckets { per_nanosecond: ((1_u128 << 64) / u128::from(width)) as u64 }
    }

    /// The number of the bucket that `now` falls into, counted from the start of the process.
    #[inline]
    pub(super) fn number(self, now: u64) -> u64 {
        ((u128::from(now) * u128::from(self.per_nanosecond)) >> 64) as u64
    }

    /// The numbers of the buckets that count at `now`.
    pub(super) fn numbers(self, now: u64) -> RangeInclusive<u64> {
        let last = self.number(now);
        last.saturating_sub(PLACES as u64 - 1)..=last
    }
}

/// The place of a bucket in a ring.
#[inline]
pub(super) fn place(number: u64) -> usize {
    number as usize % PLACES
}

/// Whether a closed breaker opens: enough failures, enough attempts, and a large enough share of them failed.
#[must_use]
pub(super) fn opens(rules: &Rules, counts: Counts) -> bool {
    // Bounds: `failed` and `total` stay below 2^41 (32 bits a bucket, 16 buckets a shard, 16 shards and as many failures),
    // and a million is 2^20, so neither product leaves 64 bits.
    counts.recent_failures >= u64::from(rules.failures)
        && counts.total >= u64::from(rules.minimum)
        && counts.failed * 1_000_000 >= counts.total * u64::from(rules.ratio_millionths)
}

/// The part of the breaker's memory that an admission is decided from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// The state that was last entered; see [`state_at`] for what it is by now.
    pub state: State,
    /// When the breaker stops being open. Means nothing in the other states.
    pub open_until: u64,
    /// Probes that are out and whose lease has not run out. 0 unless half-open.
    pub probes_out: u32,
    /// Probes that came back well since the breaker became half-open.
    pub probes_succeeded: u32,
}

/// The state by `now`: an open breaker is half-open from the moment its time is up, traffic or not.
#[must_use]
pub(super) fn state_at(standing: Standing, now: u64) -> State {
    match standing.state {
        State::Open if now >= standing.open_until => State::HalfOpen,
        state => state,
    }
}

/// What happens to a request that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It passes and its outcome is counted.
    Pass,
    /// It passes as a probe, under a lease.
    Probe,
    /// It is refused.
    Refuse {
        /// How long to wait before asking again, in nanoseconds; never more than `Rules::open_for_nanos`.
        retry_after_nanos: u64,
    },
}

/// Decides on one request.
///
/// Half-open lets out no more probes than successes are still needed to close: `probes` at first, fewer as they succeed.
#[must_use]
pub(super) fn admission(rules: &Rules, standing: Standing, now: u64) -> Admission {
    match state_at(standing, now) {
        State::Closed => Admission::Pass,
        State::Open => Admission::Refuse { retry_after_nanos: remaining(rules, standing.open_until, now) },
        State::HalfOpen if standing.probes_out + standing.probes_succeeded < rules.probes => Admission::Probe,
        State::HalfOpen => Admission::Refuse { retry_after_nanos: PROBING_RETRY_NANOS.min(rules.open_for_nanos) },
    }
}

/// How much of the open time is left. A `now` before the opening (another thread's older reading) is taken as the opening.
#[must_use]
pub(super) fn remaining(rules: &Rules, open_until: u64, now: u64) -> u64 {
    open_until.saturating_sub(now).min(rules.open_for_nanos)
}

/// What a probe's verdict does to a half-open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterProbe {
    /// Stay half-open with this many successes; the probe's place is free again if it brought none.
    Wait {
        /// Successes since the breaker became half-open.
        probes_succeeded: u32,
    },
    /// Close: as many probes succeeded as were asked for.
    Close,
    /// Open again for the whole time.
    Reopen(ErrorType),
}

/// Decides on the verdict of a probe whose lease still holds.
#[must_use]
pub(super) fn after_probe(rules: &Rules, probes_succeeded: u32, verdict: Verdict) -> AfterProbe {
    match verdict {
        Verdict::Failure(kind) => AfterProbe::Reopen(kind),
        Verdict::Neutral => AfterProbe::Wait { probes_succeeded },
        Verdict::Success | Verdict::Answered if probes_succeeded + 1 >= rules.probes => AfterProbe::Close,
        Verdict::Success | Verdict::Answered => AfterProbe::Wait { probes_succeeded: probes_succeeded + 1 },
    }
}
