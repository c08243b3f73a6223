//! `GET /api/v1/life`: which process this is, and where it stands.
//!
//! Invariant: changes nothing.

use std::sync::Arc;

use serde_json::json;

use super::routes::{Answer, Call, Pending};
use crate::life::Gate;

/// The process, its stage, and the generation of its config.
pub(super) fn show(gate: Arc<Gate>, _call: Call) -> Pending {
    Answer::ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "stage": gate.stage().name(),
        "generation": gate.generation(),
    }))
    .now()
}
