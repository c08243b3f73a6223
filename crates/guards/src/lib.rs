//! (being built)
pub mod breaker;
