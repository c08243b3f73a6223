//! `security_headers`: the header fields that browsers act on, on every answer.
//!
//! # What it does
//! Writes `Strict-Transport-Security` (to clients that speak TLS), `Content-Security-Policy`, `Referrer-Policy`,
//! `X-Content-Type-Options`, `X-Frame-Options` and `X-XSS-Protection: 0`, and takes away `Server` and `X-Powered-By`. Each
//! can be set, set only where the upstream is silent, left to the upstream, or removed, also per route. The gateway's
//! own answers carry the strict set of [`config::STRICT`]; what the operator set or removed holds there too.
//! By default an upstream's page keeps working: its own policies stay, and where it has none it only loses plugins,
//! foreign `<base>` addresses and being framed by other sites.
//!
//! # Refuses when
//! Never.
//!
//! # Remembers
//! Nothing.
//!
//! # If a dependency fails
//! It has none.
//!
//! # Cost
//! One insertion for each field. All values are rendered when the config is read.
//!
//! Invariant: every refusal carries the fields, because this guard stands outside all that can refuse.

pub mod config;
mod decide;
#[cfg(test)]
mod tests;

pub use config::{Config, Rules, Treatment};

use std::sync::Arc;

use http::header::Entry;

use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute};
use crate::guard::{Guard, ResponseHead, Verdict};
use crate::request_path::Ground;
use decide::{Changes, Facts, decide};

/// The guard.
pub struct SecurityHeaders {
    rules: PerRoute<Arc<Rules>>,
}

/// Builds the guard.
///
/// # Errors
/// Values that cannot stand in a header field, names that cannot be removed.
pub fn build(config: &PathConfig, _ground: &Ground) -> Result<SecurityHeaders, Vec<Mistake>> {
    let general = config.security_headers.over(&Config::defaults());
    let routes = config.routes.iter().map(|route| Some(route.security_headers.as_ref()?.over(&general)));
    let rules = PerRoute::shared("security_headers", general.clone(), routes, Config::compile)?;
    Ok(SecurityHeaders { rules })
}

impl Guard for SecurityHeaders {
    fn name(&self) -> &'static str {
        "security_headers"
    }

    fn request(&self, _exchange: &mut Exchange) -> Verdict {
        Verdict::Pass
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        let facts = Facts {
            is_own: exchange.trail.refused().is_some(),
            is_secure: exchange.is_secure,
            told_secure: exchange.told_secure,
        };
        apply(decide(self.rules.of(exchange), &facts), head);
    }
}

fn apply(changes: &Changes, head: &mut ResponseHead) {
    let headers = &mut head.headers;
    // Grows once instead of twice. A map that cannot grow any more says so again below, by the fields it holds.
    let _ = headers.try_reserve(changes.set.len() + changes.when_absent.len());
    for name in &changes.remove {
        headers.remove(name);
    }
    for (name, value) in &changes.set {
        let _ = headers.try_insert(name, value.clone());
    }
    for (name, value) in &changes.when_absent {
        if let Ok(Entry::Vacant(vacant)) = headers.try_entry(name) {
            let _ = vacant.try_insert(value.clone());
        }
    }
}
