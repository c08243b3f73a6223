//! (being built)
mod config;
mod decide;
mod permit;
mod state;
mod sync;
mod window;

pub use config::{BreakerConfig as Config, Rules};
pub use decide::{Admission, Counts, State, Verdict};
pub use permit::{OwnedPermit, Permit};
pub use state::{Breaker, Cause, Observer, Rejected, Snapshot, Transition};
