//! `access_log`: one line and one count for every exchange, refusals, hang-ups and cut connections included.
//!
//! # What it does
//! When an exchange is over, hands one line to the log: JSON, or text for people. Counts it by route, method and status,
//! and measures how long it and its upstream took; that happens also where the lines are turned off. A line never holds
//! the query, because queries carry passwords and tokens, nor any header but `Host` and `User-Agent`. Everything that
//! came from outside is escaped and cut to a bound, so that no client can write a line of its own.
//!
//! # Refuses when
//! Never.
//!
//! # Remembers
//! Nothing but its counters.
//!
//! # If a dependency fails
//! The sink drops what it cannot take; requests never wait for the log.
//!
//! # Cost
//! One line is written into a buffer that each thread keeps. Counters are found by index, not by name: no look-up, no
//! lock, no allocation, also for refusals.
//!
//! Invariant: what is counted as in flight in `request` is taken back in `finish`, and dry runs do neither.

mod config;
mod decide;
mod escape;
mod line;
pub mod metrics;
#[cfg(test)]
mod tests;

pub use config::{Config, Format, Rules};

use std::cell::RefCell;
use std::sync::Arc;

use http::header::{HOST, USER_AGENT};

use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute, Touch};
use crate::guard::{Guard, Outcome, Verdict};
use crate::request_path::Ground;
use line::Stamp;
use metrics::Meters;

/// Where finished lines go. Called on the way of every request: must not block.
pub trait LogSink: Send + Sync {
    /// Takes one line without its end.
    fn line(&self, line: &[u8]);
}

/// The guard.
pub struct AccessLog {
    rules: PerRoute<Rules>,
    /// Whether any route logs, so that the fields for the line are worth keeping.
    is_any_enabled: bool,
    meters: Meters,
    sink: Arc<dyn LogSink>,
}

/// Builds the guard.
///
/// # Errors
/// None: nothing that can be written is wrong.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<AccessLog, Vec<Mistake>> {
    let general = config.access_log.over(&Config::defaults());
    let routes = config.routes.iter().map(|route| match &route.access_log {
        Some(own) => own.over(&general).compile(),
        None => general.compile(),
    });
    let rules = PerRoute::new(general.compile(), routes.collect());
    let is_any_enabled = rules.iter().any(|rules| rules.enabled);
    let meters = Meters::new(Arc::clone(&ground.metrics), config);
    Ok(AccessLog { rules, is_any_enabled, meters, sink: Arc::clone(&ground.log) })
}

thread_local! {
    static DESK: RefCell<Desk> = const { RefCell::new(Desk { line: Vec::new(), clock: Stamp::NEVER }) };
}

/// What a thread keeps for writing lines.
struct Desk {
    /// The longest line has a bound (see `line`), and so has this.
    line: Vec<u8>,
    clock: Stamp,
}

impl Guard for AccessLog {
    fn name(&self) -> &'static str {
        "access_log"
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        if exchange.touch == Touch::Take {
            self.meters.begin();
            if self.is_any_enabled {
                // The proxy takes the headers away.
                exchange.logged_host = exchange.headers.get(HOST).cloned();
                exchange.logged_agent = exchange.headers.get(USER_AGENT).cloned();
            }
        }
        Verdict::Pass
    }

    fn finish(&self, exchange: &Exchange, outcome: &Outcome) {
        self.meters.end(exchange, outcome);
        let rules = self.rules.of(exchange);
        if !rules.enabled {
            return;
        }
        DESK.with_borrow_mut(|desk| {
            let time = desk.clock.at(exchange.now.unix_millis);
            desk.line.clear();
            match rules.format {
                Format::Json => line::json(&mut desk.line, time, exchange, outcome),
                Format::Text => line::text(&mut desk.line, time, exchange, outcome),
            }
            self.sink.line(&desk.line);
        });
    }
}
