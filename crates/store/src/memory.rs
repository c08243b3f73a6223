//! Records kept in this process: fast, bounded, gone when it ends.

pub mod accounts;
pub mod acts;
pub mod bans;
pub mod counters;
pub mod permissions;
