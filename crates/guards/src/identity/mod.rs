//! Finds out who is asking, from a JSON Web Token.
//!
//! # What it does
//! Reads `Authorization: Bearer` on routes where identity is configured, checks the token (signature under the algorithms
//! and keys of its issuer, `iss`, `aud`, `exp`, `nbf`, `iat`, `typ`, required claims), and gives the guards below one
//! identity: user, tenant, roles, plan, scopes. The service gets it as `X-Portcullis-User`, `-Tenant`, `-Roles` and `-Auth`;
//! no client can send these. A verified token is remembered until it expires. Tokens in the query or a body are never read.
//! Where the gateway has accounts of its own, their sessions (a cookie, or a bearer that begins with `ps_`) and API keys
//! (`X-API-Key` or a bearer that begins with `pk_`) are read as well, and answered from memory.
//!
//! # Refuses when
//! No credential is sent where one is required: 401 `ERR_UNAUTHENTICATED`. One is sent and not valid, required or not: 401
//! `ERR_TOKEN_INVALID`, `ERR_TOKEN_EXPIRED` where only its time is over, `ERR_TOKEN_REVOKED` where it was withdrawn.
//! Several `Authorization` fields, or two credentials
//! of different people: 400 `ERR_CREDENTIAL_CONFLICT`. A session that is over is 401 `ERR_SESSION_EXPIRED` where one is required
//! and nobody elsewhere, because browsers go on sending its cookie; one from elsewhere is 401 `ERR_SESSION_MISMATCH` as
//! `sessions.bind` says; a key that is unknown or over is 401 `ERR_API_KEY_INVALID`. Every 401 carries `WWW-Authenticate: Bearer` (RFC 6750).
//!
//! # Remembers
//! Verified tokens until they expire, under a keyed hash and never themselves, at most `identity.jwt.memory` bytes; they are
//! forgotten when their key leaves the issuer's set or the issuer's config changes. What was withdrawn (`portcullis tokens
//! revoke`), until no such token can be valid any more, in this process only.
//!
//! # If a dependency fails
//! Keys at an address are used for `jwks.keep` while their issuer cannot be reached. A token of a key that is not known then,
//! or too old: 503 `ERR_KEYS_UNAVAILABLE`, never 401. A request whose key is unknown waits for one fetch, bounded in time and
//! number.
//!
//! # Cost
//! Nothing where identity is not configured. A remembered token costs one hash over its text and one look-up, a new one a
//! signature and some JSON.
//!
//! Invariant: below it a request has an identity only if a credential for it was checked in this request; the fields for the
//! service are written here or not there at all.

pub mod config;
mod decide;
pub mod jwt;
pub mod metrics;
pub mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_core::identity::{CredentialKind, Identity};
use portcullis_core::refusal::{Code, Refusal};

pub use config::{Accepted, Authorization, Config, OfRoute};
pub use jwt::Tokens;
pub use source::{Found, Source, Wait};

use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, PerRoute, Touch};
use crate::guard::{Fact, Guard, ResponseHead, Verdict};
use crate::rate_limit;
use crate::request_path::Ground;
use crate::trail::Rule;
use config::Rules;
use decide::{Decision, Said, decide};
use jwt::JwtSource;
use metrics::Counts;
use source::{Bearer, bearer};

const NAME: &str = "identity";
const USER: HeaderName = HeaderName::from_static("x-portcullis-user");
const TENANT: HeaderName = HeaderName::from_static("x-portcullis-tenant");
const ROLES: HeaderName = HeaderName::from_static("x-portcullis-roles");
const AUTH: HeaderName = HeaderName::from_static("x-portcullis-auth");
/// After which time a request that could not wait is worth sending again.
const SOON_NANOS: u64 = 1_000_000_000;

/// The guard.
pub struct Identify(Arc<Inner>);

struct Inner {
    rules: PerRoute<Rules>,
    sources: Vec<Arc<dyn Source>>,
    counts: Arc<Counts>,
}

/// Builds the guard: the sources of the ground, then tokens where issuers are configured.
///
/// # Errors
/// Every mistake in the general part, in issuers and their files, and in the part of every route.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<Identify, Vec<Mistake>> {
    let counts = Arc::new(Counts::new(&ground.metrics));
    let mut mistakes = Vec::new();
    let mut sources = ground.sources.clone();
    if let Some(jwt) = config.identity.jwt.as_ref().filter(|jwt| !jwt.issuers.is_empty()) {
        let kept = rate_limit::claims(config);
        match JwtSource::new(jwt, &config.folder, &kept, &ground.tokens, &counts) {
            Ok(source) => sources.push(Arc::new(source)),
            Err(found) => return Err(found),
        }
    }
    let kinds: Vec<CredentialKind> = sources.iter().map(|source| source.kind()).collect();
    let mut rules = |compiled: Result<Rules, Vec<Mistake>>| compiled.map_err(|found| mistakes.extend(found)).ok();
    let general = rules(config.identity.compile(&kinds));
    let routes: Option<Vec<Rules>> = config
        .routes
        .iter()
        .enumerate()
        .map(|(index, route)| rules(config.identity.compile_route(route, index, &kinds)))
        .collect();
    match (general, routes) {
        (Some(general), Some(routes)) => {
            Ok(Identify(Arc::new(Inner { rules: PerRoute::new(general, routes), sources, counts })))
        }
        _ => Err(mistakes),
    }
}

/// By what it can be known here who is asking.
pub(crate) fn kinds(config: &PathConfig, ground: &Ground) -> Vec<CredentialKind> {
    let has_issuers = config.identity.jwt.as_ref().is_some_and(|jwt| !jwt.issuers.is_empty());
    let tokens = has_issuers.then_some(CredentialKind::Jwt);
    ground.sources.iter().map(|source| source.kind()).chain(tokens).collect()
}

impl Guard for Identify {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::Route]
    }

    fn gives(&self) -> &'static [Fact] {
        &[Fact::Identity]
    }

    fn begins(&self) {
        for source in &self.0.sources {
            source.begins();
        }
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        if self.0.rules.of(exchange).accept.is_empty() {
            return Verdict::Skip;
        }
        match self.0.ask(exchange, false) {
            Ok(decision) => self.0.apply(exchange, decision),
            Err(wait) => {
                let inner = Arc::clone(&self.0);
                Verdict::Wait(Box::pin(async move {
                    wait.await;
                    let resume: crate::guard::Resume = Box::new(move |exchange| match inner.ask(exchange, true) {
                        Ok(decision) => inner.apply(exchange, decision),
                        Err(_) => Verdict::Refuse(Refusal::internal()),
                    });
                    resume
                }))
            }
        }
    }

    fn response(&self, exchange: &mut Exchange, head: &mut ResponseHead) {
        let Some((step, code)) = exchange.trail.refused() else { return };
        if step.guard == NAME && head.status == http::StatusCode::UNAUTHORIZED {
            head.headers.insert(WWW_AUTHENTICATE, challenge(code));
        }
    }
}

/// What a client that is refused is told to do (RFC 6750, section 3).
fn challenge(code: Code) -> HeaderValue {
    HeaderValue::from_static(match code {
        Code::Unauthenticated => "Bearer",
        Code::TokenExpired => "Bearer error=\"invalid_token\", error_description=\"The token has expired\"",
        _ => "Bearer error=\"invalid_token\"",
    })
}

impl Inner {
    /// Asks the sources of the route, or says what to wait for.
    fn ask(&self, exchange: &Exchange, is_again: bool) -> Result<Decision, Wait> {
        let rules = self.rules.of(exchange);
        let sources = || rules.accept.iter().filter_map(|place| self.sources.get(*place));
        let takes = |kind| sources().any(|source| source.kind() == kind);
        let (jwt, api_key) = (takes(CredentialKind::Jwt), takes(CredentialKind::ApiKey));
        let bearer = if jwt || api_key { bearer(&exchange.headers) } else { Bearer::Absent };
        let (text, taker) = match bearer {
            Bearer::One(text) => (Some(text), sources().position(|source| source.takes_bearer(text.as_bytes()))),
            _ => (None, None),
        };
        let read = match bearer {
            Bearer::Several => Said::Refused(Code::CredentialConflict, "several"),
            // Where tokens are not accepted, a bearer that nobody knows is the service's business.
            Bearer::Broken if jwt => Said::Refused(Code::TokenInvalid, "form"),
            Bearer::One(_) if jwt && taker.is_none() => Said::Refused(Code::TokenInvalid, "form"),
            _ => Said::Absent,
        };
        let mut wait = None;
        let said = sources().enumerate().map(|(place, source)| {
            let own = text.filter(|_| taker == Some(place));
            let found = if is_again { source.look_again(exchange, own) } else { source.look(exchange, own) };
            let said = match found {
                Found::Absent => Said::Absent,
                Found::Known(identity) => Said::Known(identity),
                Found::Refused(code, rule) => Said::Refused(code, rule),
                Found::Unavailable(code, after_nanos, rule) => Said::Unavailable(code, after_nanos, rule),
                Found::Wait(future) => {
                    wait = Some(future);
                    Said::Unavailable(Code::KeysUnavailable, SOON_NANOS, "waits")
                }
            };
            (source.kind(), said)
        });
        let decision = decide(rules.is_required, std::iter::once((CredentialKind::Jwt, read)).chain(said));
        match wait {
            // A dry run waits for nothing, and who waited once has its answer.
            Some(wait) if exchange.touch == Touch::Take && !is_again => Err(wait),
            _ => Ok(decision),
        }
    }

    /// Lets the exchange know, and counts.
    fn apply(&self, exchange: &mut Exchange, decision: Decision) -> Verdict {
        let is_real = exchange.touch == Touch::Take;
        match decision {
            Decision::Known(identity) => {
                if is_real {
                    self.counts.ok(identity.kind());
                }
                exchange.by_rule(Rule::Fixed(identity.kind().name()));
                exchange.explain(|_| explanation(&identity));
                let is_removed =
                    self.rules.of(exchange).removes_authorization && identity.kind() != CredentialKind::Session;
                tell(&mut exchange.headers, Some(&identity), is_removed);
                exchange.identity = Some(identity);
                Verdict::Pass
            }
            Decision::Anonymous => {
                exchange.by_rule(Rule::Fixed("anonymous"));
                tell(&mut exchange.headers, None, false);
                Verdict::Pass
            }
            Decision::Refuse(kind, code, rule) => {
                if is_real {
                    self.counts.refused(kind, code);
                }
                exchange.by_rule(Rule::Fixed(rule));
                Verdict::Refuse(Refusal::new(code))
            }
            Decision::Unavailable(kind, code, wait_nanos, rule) => {
                if is_real {
                    self.counts.unavailable(kind);
                }
                exchange.by_rule(Rule::Fixed(rule));
                Verdict::Refuse(Refusal::new(code).retry_after(wait_nanos))
            }
        }
    }
}

/// Writes what the service is told. `client_address` has taken away what the client sent; this holds where it does not stand
/// on the path.
fn tell(headers: &mut HeaderMap, identity: Option<&Identity>, removes_authorization: bool) {
    let fields = identity.map(Identity::fields);
    for (name, value) in [
        (USER, fields.map(|fields| &fields.user)),
        (TENANT, fields.and_then(|fields| fields.tenant.as_ref())),
        (ROLES, fields.and_then(|fields| fields.roles.as_ref())),
        (AUTH, fields.map(|fields| &fields.auth)),
    ] {
        match value {
            Some(value) => headers.insert(name, value.clone()),
            None => headers.remove(name),
        };
    }
    if removes_authorization {
        headers.remove(AUTHORIZATION);
    }
}

/// One line for people.
fn explanation(identity: &Identity) -> String {
    let tenant = identity.tenant().map_or_else(String::new, |tenant| format!(" in tenant {tenant:?}"));
    let (kind, user, issuer) = (identity.kind().name(), identity.user(), identity.issuer());
    format!("{user:?}{tenant} by {kind} of {issuer:?}, roles {:?}", identity.roles())
}
