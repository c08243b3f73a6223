//! `validate --connect`.
