//! Tests of the loader through its public API, on a config type that has every kind of key.
//!
//! `sample` is that type; each other file holds the tests of one promise of the crate.
//!
//! Invariant: no test reads the environment of the process, a file outside the crate, or a clock it depends on.

mod documents;
mod hostile;
mod interpolation;
mod loaded;
mod mistakes;
mod overrides;
mod sample;
mod schema;
mod zoo;
