//! Feeds bytes to [`portcullis_fuzz::wire::chunked`], where the properties are.
//!
//! Invariant: nothing is decided here.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis_fuzz::wire::chunked(bytes));
