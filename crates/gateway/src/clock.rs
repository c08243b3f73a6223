//! The real clock: the one place in the product that asks the operating system for the time.
//!
//! The monotonic clock is read once a request; the wall clock is derived from it and set right once a second, so that a
//! request pays for one reading and a step of the wall clock never touches a duration.
//!
//! Invariant: `monotonic_nanos` never goes backwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use portcullis_core::clock::{Clock, Now};

/// The operating system's clocks.
pub struct SystemClock {
    start: Instant,
    /// Unix time in nanoseconds at `start`, corrected by [`SystemClock::resynchronise`].
    unix_at_start_nanos: AtomicU64,
}

impl SystemClock {
    /// Starts counting now.
    #[must_use]
    pub fn start() -> SystemClock {
        let clock = SystemClock { start: Instant::now(), unix_at_start_nanos: AtomicU64::new(0) };
        clock.resynchronise();
        clock
    }

    /// Reads the wall clock and follows it if it was stepped. Called once a second.
    pub fn resynchronise(&self) {
        // A clock before 1970 is shown as 1970: there is nothing better to say.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_nanos = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        self.unix_at_start_nanos.store(unix_nanos.saturating_sub(self.monotonic_nanos()), Ordering::Relaxed);
    }

    fn monotonic_nanos(&self) -> u64 {
        portcullis_core::clock::nanos(self.start.elapsed())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let monotonic_nanos = self.monotonic_nanos();
        let unix_nanos = self.unix_at_start_nanos.load(Ordering::Relaxed).saturating_add(monotonic_nanos);
        Now { monotonic_nanos, unix_millis: unix_nanos / 1_000_000 }
    }
}
