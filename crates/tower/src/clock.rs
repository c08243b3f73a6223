//! The service's clock: the one place in this crate that asks the operating system for the time.
//!
//! Guards get each reading with the exchange. A pretend clock takes this one's place through `Builder::clock`.
//!
//! Invariant: `monotonic_nanos` never goes backwards; a step of the wall clock never touches a duration.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use portcullis_core::clock::{Clock, Now, nanos};

/// The operating system's clocks. Monotonic time counts from when it was started.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting now.
    #[must_use]
    pub fn start() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { monotonic_nanos: nanos(self.start.elapsed()), unix_millis: unix_millis() }
    }
}

/// Milliseconds since 1970. A clock before that is shown as 1970: there is nothing better to say.
pub(crate) fn unix_millis() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}
