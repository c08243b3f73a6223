//! Decides what is shed. Pure: levels, numbers and the counter's answer in, a reason out.
//!
//! Pressure comes before the rate, because a request that is shed for pressure should not use up the rate of others.
//!
//! Invariant: a level rises as soon as a mark is reached, and falls to calm only at the low mark.

use portcullis_store::counters::Outcome;

/// From how many percent of the memory new connections are closed as well.
const CRITICAL_PERCENT: u64 = 95;

/// How many requests, and how many connections, are taken at once whatever the pressure. So few cannot be what fills the
/// memory: then the measure is wrong, or memory that is free was not given back to the system, and refusing them too would
/// keep the gateway dead for ever.
pub(super) const STILL_PASSING: u64 = 16;

/// What a client is told to wait when a resource is short: a few looks at it, and time for connections to go.
const PRESSURE_WAIT_NANOS: u64 = 2_000_000_000;

/// How short a resource is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// There is enough.
    #[default]
    Calm,
    /// Above the high mark, and not yet back at the low one.
    High,
    /// Nearly gone.
    Critical,
}

impl Level {
    /// The word on the health page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::High => "high",
            Level::Critical => "critical",
        }
    }
}

/// When shedding begins and ends, in percent of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// From here on it sheds.
    pub high_percent: u8,
    /// Until here.
    pub low_percent: u8,
}

/// The level after a look, given the level before it.
pub(super) fn level(before: Level, used: u64, limit: u64, marks: Marks) -> Level {
    let has_reached = |percent: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
    if has_reached(CRITICAL_PERCENT) {
        Level::Critical
    } else if has_reached(marks.high_percent.into()) {
        Level::High
    } else if before == Level::Calm || !has_reached(u64::from(marks.low_percent) + 1) {
        Level::Calm
    } else {
        Level::High
    }
}

/// Why a request is shed. The names are rules in the trail and values of the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Shed {
    /// More than the process takes in a second.
    RequestsPerSecond,
    /// Memory is short.
    Memory,
    /// Descriptors are short.
    Descriptors,
}

impl Shed {
    /// All of them, in their order.
    pub(super) const ALL: [Shed; 3] = [Shed::RequestsPerSecond, Shed::Memory, Shed::Descriptors];

    pub(super) fn name(self) -> &'static str {
        match self {
            Shed::RequestsPerSecond => "requests_per_second",
            Shed::Memory => "memory",
            Shed::Descriptors => "descriptors",
        }
    }
}

/// The levels of both resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Memory's.
    pub memory: Level,
    /// The descriptors'.
    pub descriptors: Level,
}

/// What the decision rests on. What costs something is asked for only where it matters.
pub(super) struct Facts<'a> {
    pub(super) levels: Levels,
    /// Requests that are being worked on, this one included.
    pub(super) in_flight: &'a dyn Fn() -> u64,
    /// Takes this request from the rate.
    pub(super) rate: &'a dyn Fn() -> Outcome,
}

/// Passes, or says why not and how long to wait in nanoseconds.
pub(super) fn decide(facts: &Facts<'_>) -> Result<(), (Shed, u64)> {
    let Levels { memory, descriptors } = facts.levels;
    let is_busy = || (facts.in_flight)() > STILL_PASSING;
    match (memory, descriptors) {
        (Level::Calm, Level::Calm) => {}
        (Level::Calm, _) if is_busy() => return Err((Shed::Descriptors, PRESSURE_WAIT_NANOS)),
        _ if is_busy() => return Err((Shed::Memory, PRESSURE_WAIT_NANOS)),
        _ => {}
    }
    let outcome = (facts.rate)();
    if outcome.allowed { Ok(()) } else { Err((Shed::RequestsPerSecond, outcome.retry_after_nanos)) }
}
