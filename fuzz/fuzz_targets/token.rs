//! Feeds bytes to [`portcullis_fuzz::token`], where the properties are.
//!
//! Invariant: nothing is decided here.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis_fuzz::token::check(bytes));
