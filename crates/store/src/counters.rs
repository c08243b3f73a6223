//! Counters: how much of a quota each key has used. The record behind every rate limit.
//!
//! A guard compiles a [`Quota`] at start, makes a [`Key`] per request and asks a backend to [`take`](Counters::take).
//! Token buckets are kept as GCRA, one time stamp a key; fixed windows as a window's end and a count.
//!
//! The trait is synchronous because the hot path never waits. A backend that must wait (Redis) will get a second trait
//! beside this one, whose `take` answers a boxed future of `Result<Outcome, _>` for the same `Key` and `CompiledQuota`.
//! A guard then holds the local counters always and the shared ones where the route asks for them, and no caller of
//! this trait pays for a future or for an error that memory cannot have.
//!
//! Invariant: no backend admits more than [`CompiledQuota`] states, whatever the order of calls or the clock's jumps.

mod division;
mod key;
mod quota;
mod step;

pub use key::{Key, KeyHasher, PolicyKey, SeedError};
pub use quota::{Algorithm, CLOCK_SLACK_NANOS, CompiledQuota, Quota, QuotaError, SPAN_MAX_NANOS};
pub(crate) use step::{Answer, FRESH, Usage, usage};

/// Nanoseconds on a monotonic clock that starts at 0 with the process (or, for shared backends, with an agreed epoch).
///
/// Bounded at 2^59 (18 years): later instants are read as that one, so that the clock stands still and limits close.
pub type Nanos = u64;

/// The `retry_after_nanos` of a request that no amount of waiting lets through: its cost exceeds the whole quota.
pub const NEVER: Nanos = Nanos::MAX;

/// What a quota says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the request may pass. Only then was its cost taken.
    pub allowed: bool,
    /// The most units a rested key can take at once: the burst of a token bucket, the limit of a fixed window.
    pub limit: u64,
    /// Units that could be taken right after this answer; never above `limit`.
    pub remaining: u64,
    /// Nanoseconds until the bucket is full again, or until the window ends.
    pub reset_after_nanos: Nanos,
    /// 0 when allowed; else nanoseconds after which the same request passes if nobody else takes, or [`NEVER`].
    pub retry_after_nanos: Nanos,
}

/// Remembers what each key has used, in a bounded amount of memory.
///
/// `cost` 0 asks without taking and is always allowed. A cost above the quota's capacity is refused with [`NEVER`].
/// `now` may step backwards: a step within [`CLOCK_SLACK_NANOS`] gives and takes nothing, a larger one is met by
/// treating the key as used up from the new `now` on, so that it waits at most one refill and gains nothing.
pub trait Counters: Send + Sync {
    /// Takes `cost` units of `quota` for `key` if they are there, and says what is left. All or nothing.
    fn take(&self, key: Key, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome;

    /// The answer that [`take`](Self::take) would give, and nothing changes.
    fn peek(&self, key: Key, quota: &CompiledQuota, cost: u64, now: Nanos) -> Outcome;
}
