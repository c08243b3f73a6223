//! Bounds every request in size and time, and takes a second look at how its body is framed.
//!
//! # What it does
//! Sets the deadline and the body limit for everyone below. Holds the head against the limits on lines, bytes, target,
//! media type and expectation. The listener holds the head against [`Listener`] first, while it is read; the proxy counts
//! the body with [`BodyMeter`] as it comes. Fields that are spelt like those that frame the body but with underscores
//! (`Content_Length`) are removed.
//!
//! # Refuses when
//! `ERR_AMBIGUOUS_FRAMING`: `Content-Length` beside `Transfer-Encoding`, either one repeated, a length that is no plain
//! decimal, a transfer coding that is not valid or not HTTP/1.1. `ERR_NOT_IMPLEMENTED`: a coding other than chunked.
//! `ERR_TOO_MANY_HEADERS`, `ERR_HEADERS_TOO_LARGE`, `ERR_URI_TOO_LONG`. `ERR_BODY_TOO_LARGE`: `Content-Length` is above
//! the limit. `ERR_UNSUPPORTED_MEDIA_TYPE`: the route lists `content_types` and the body is none of them.
//! `ERR_EXPECTATION_FAILED`: `Expect` is not `100-continue`. The connection closes where an unread body is on its way.
//!
//! # Remembers
//! Nothing.
//!
//! # If a dependency fails
//! It has none.
//!
//! # Cost
//! One pass over the header lines; no allocation.
//!
//! Invariant: no request passes whose end could be read in two ways.

mod body_meter;
mod config;
mod decide;
mod framing;
mod media_type;
mod survey;
#[cfg(test)]
mod tests;
mod total;

use std::sync::Arc;

pub use body_meter::BodyMeter;
pub use config::{Config, Listener};
pub use total::Total;

use self::config::Rules;
use self::decide::{Facts, decide};
use self::survey::{Survey, remove_twins};
use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute};
use crate::guard::{Fact, Guard, Verdict};
use crate::request_path::Ground;
use crate::trail::Rule;

/// The guard.
pub struct Limits {
    listener: Listener,
    rules: PerRoute<Arc<Rules>>,
}

/// Builds the guard from the general `limits` and those of the routes.
///
/// # Errors
/// Every value that is out of bounds, and values of the head's limits on a route.
pub fn build(config: &PathConfig, _ground: &Ground) -> Result<Limits, Vec<Mistake>> {
    let (listener, rules) = config::compile(config)?;
    Ok(Limits { listener, rules })
}

impl Guard for Limits {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::Route]
    }

    fn gives(&self) -> &'static [Fact] {
        &[Fact::Bounds]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let survey = Survey::of(&exchange.headers, exchange.arrived_fields, self.listener.header_bytes);
        let facts = Facts {
            version: exchange.version,
            uri: &exchange.uri,
            survey: &survey,
            body: exchange.body,
            now_nanos: exchange.now.monotonic_nanos,
        };
        let rules = self.rules.of(exchange);
        match decide(&self.listener, rules, &facts) {
            Ok(bounds) => {
                let has_twin = survey.has_twin;
                exchange.bounds = Some(bounds);
                exchange.explain(|_| explain(rules));
                if has_twin {
                    remove_twins(&mut exchange.headers);
                }
                Verdict::Pass
            }
            Err(refused) => {
                exchange.by_rule(Rule::Fixed(refused.rule));
                exchange.explain(|_| refused.refusal.reason.unwrap_or_default().to_owned());
                Verdict::Refuse(refused.refusal)
            }
        }
    }
}

/// The bounds, for people.
fn explain(rules: &Rules) -> String {
    match rules.total_nanos {
        Some(nanos) => format!("at most {} bytes of body and {} ms in all", rules.body_bytes, nanos / 1_000_000),
        None => format!("at most {} bytes of body and any time", rules.body_bytes),
    }
}
