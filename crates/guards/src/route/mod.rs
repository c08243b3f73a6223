//! Decides where a request goes, and what its path and host are for everyone below.
//!
//! # What it does
//! Reads the host and the path once, in one way ([`NormalPath`]), and gives the most specific route that takes the
//! request. Most specific is: the host (exact, then the longest `*.suffix`, then any), then the path from left to right
//! (a literal segment, then one without case, then `*`, then `**`), then more exact header conditions, then more header
//! conditions, then fewer methods. The order in the file means nothing; two routes that tie are a mistake in the config.
//! Where header conditions do not hold the next route is tried; where the method is wrong, none is. Without routes there
//! is one, `default`, for everything. In absolute form the target's authority replaces `Host`. The query is not read, and
//! neither are fields that name another path or method (`X-Original-URL`, `X-HTTP-Method-Override`; `client_address`
//! takes them away).
//!
//! The path: escapes of letters, digits and `-._~` are decoded, once; other escapes stay, in upper case; empty and dot
//! segments are resolved. Rules and logs see it without `;parameters` and without a trailing slash, the upstream gets
//! both as they were sent. Case counts, unless the route says `case_insensitive`. `strip_prefix` changes what is sent.
//!
//! # Refuses when
//! `ERR_INVALID_HOST`: Host is missing (unless HTTP/1.0 and a route needs none), repeated, or no name or address.
//! `ERR_INVALID_PATH`: the target is not a path, leads above the root, or could be read in two ways: broken escapes, raw
//! or encoded backslash and control bytes, raw non-ASCII, escapes that are not UTF-8, an encoded slash (configurable),
//! dot segments with parameters. `ERR_ROUTE_NOT_FOUND`: no route has host and path. `ERR_METHOD_NOT_ALLOWED`: one has,
//! but not the method; always for CONNECT, TRACE and `OPTIONS *`.
//!
//! # Remembers
//! Nothing.
//!
//! # If a dependency fails
//! It has none.
//!
//! # Cost
//! No allocation for a path that is in normal form, none for the host. The look-up goes by the segments of the path: one
//! comparison or hash a segment, however many routes there are.
//!
//! Invariant: matching, limiting, logging and the upstream never see different paths or hosts.

mod compile;
mod config;
mod decide;
mod host;
mod method;
mod normal_path;
mod pattern;
mod rules;
#[cfg(test)]
mod tests;
mod trie;

use std::sync::Arc;

use http::header::HOST;

pub use compile::IMPLICIT;
pub use config::{Config, EncodedSlash};
pub use normal_path::NormalPath;
pub(crate) use pattern::parameters;

use self::decide::{Facts, decide};
use self::rules::Rules;
use crate::config::{Mistake, PathConfig};
use crate::exchange::Exchange;
use crate::guard::{Fact, Guard, Verdict};
use crate::request_path::Ground;
use crate::trail::Rule;

/// A route that matched, as guards below see it.
#[derive(Debug)]
pub struct Route {
    /// Its place in the config, which is its place in every guard's per-route rules.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// What a request takes from each rate limit.
    pub cost: u32,
}

/// The guard.
pub struct Router {
    rules: Rules,
}

/// Builds the guard from `routes` and the names of the upstreams.
///
/// # Errors
/// Every mistake in every route, among them routes that tie.
pub fn build(config: &PathConfig, _ground: &Ground) -> Result<Router, Vec<Mistake>> {
    compile::compile(config).map(|rules| Router { rules })
}

impl Guard for Router {
    fn name(&self) -> &'static str {
        "route"
    }

    fn gives(&self) -> &'static [Fact] {
        &[Fact::Route]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let facts = Facts {
            method: &exchange.method,
            uri: &exchange.uri,
            version: exchange.version,
            headers: &exchange.headers,
        };
        let decision = decide(&self.rules, &facts);
        exchange.path = decision.path;
        match decision.answer {
            Ok(chosen) => {
                if let Some(host) = chosen.host {
                    exchange.headers.insert(HOST, host);
                }
                let route = &chosen.target.route;
                exchange.by_rule(Rule::Named(route.name.clone()));
                exchange.route = Some(route.clone());
                exchange.explain(explain);
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

/// How the path was read and where it goes, for people.
fn explain(exchange: &Exchange) -> String {
    let (Some(path), Some(route)) = (&exchange.path, &exchange.route) else { return String::new() };
    let uri = &exchange.uri;
    let (matched, forwarded) = (path.matched(uri), path.forwarded(uri));
    format!("path {matched} goes to upstream {} as {}", route.upstream, forwarded.path())
}
