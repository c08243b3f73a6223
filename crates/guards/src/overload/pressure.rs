//! How short memory and descriptors are, as the process last looked: written by one thread, read by all.
//!
//! The gateway looks ten times a second and calls [`Pressure::look`]; guards and listeners read a byte.
//!
//! Invariant: what was never looked at is unknown and sheds nothing.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use portcullis_core::metric::{Gauge, Registry};

use super::decide::{Level, Levels, Marks, level};
use super::metrics::{DESCRIPTORS, DESCRIPTORS_LIMIT, LEVEL, MEMORY, MEMORY_LIMIT};

/// What can be short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Resident memory, in bytes.
    Memory,
    /// File descriptors.
    Descriptors,
}

/// What was seen of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// In use.
    pub used: u64,
    /// At most.
    pub limit: u64,
}

/// The last look at both.
pub struct Pressure {
    memory: Seen,
    descriptors: Seen,
    /// The first descriptor number that clients do not get.
    reserved_from: AtomicI64,
}

struct Seen {
    level: AtomicU8,
    used: AtomicU64,
    /// 0 where it was never looked at.
    limit: AtomicU64,
    shown: [Gauge; 3],
}

impl Pressure {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(metrics: &Registry) -> Pressure {
        let seen = |used, limit, resource| Seen {
            level: AtomicU8::new(Level::Calm as u8),
            used: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            shown: [metrics.gauge(used, &[]), metrics.gauge(limit, &[]), metrics.gauge(&LEVEL, &[resource])],
        };
        Pressure {
            memory: seen(&MEMORY, &MEMORY_LIMIT, "memory"),
            descriptors: seen(&DESCRIPTORS, &DESCRIPTORS_LIMIT, "descriptors"),
            reserved_from: AtomicI64::new(i64::MAX),
        }
    }

    /// Notes what was seen, and gives the new level.
    pub fn look(&self, resource: Resource, reading: Reading, marks: Marks) -> Level {
        let seen = self.seen(resource);
        let level = level(seen.level(), reading.used, reading.limit, marks);
        seen.used.store(reading.used, Ordering::Relaxed);
        seen.limit.store(reading.limit, Ordering::Relaxed);
        seen.level.store(level as u8, Ordering::Relaxed);
        let shown = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        seen.shown[0].set(shown(reading.used));
        seen.shown[1].set(shown(reading.limit));
        seen.shown[2].set(i64::from(level as u8));
        level
    }

    /// Keeps descriptors from `first` on for the gateway itself: connections to upstreams, files, telemetry.
    pub fn reserve_descriptors(&self, first: u64) {
        self.reserved_from.store(i64::try_from(first).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Whether a client may have this descriptor.
    #[must_use]
    pub fn spares(&self, descriptor: i32) -> bool {
        i64::from(descriptor) < self.reserved_from.load(Ordering::Relaxed)
    }

    /// Both levels.
    #[must_use]
    pub fn levels(&self) -> Levels {
        Levels { memory: self.memory.level(), descriptors: self.descriptors.level() }
    }

    /// Whether anything is short, so that what rests should be closed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.levels() != Levels::default()
    }

    /// The last reading, if there was one.
    #[must_use]
    pub fn reading(&self, resource: Resource) -> Option<Reading> {
        let seen = self.seen(resource);
        let limit = seen.limit.load(Ordering::Relaxed);
        (limit > 0).then(|| Reading { used: seen.used.load(Ordering::Relaxed), limit })
    }

    fn seen(&self, resource: Resource) -> &Seen {
        match resource {
            Resource::Memory => &self.memory,
            Resource::Descriptors => &self.descriptors,
        }
    }
}

impl Seen {
    fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Calm,
            1 => Level::High,
            _ => Level::Critical,
        }
    }
}
