//! JSON Web Tokens (RFC 7519, RFC 8725): `Authorization: Bearer`, signed by an issuer that the operator named.
//!
//! `token` takes the text apart, `keys` and `issuer` find who signed it, `claims` decides whether it says what it must and
//! what that means, `remembered` keeps the answer until the token expires. The signatures themselves are checked by the
//! library `jsonwebtoken` over aws-lc.
//!
//! Invariant: nothing of a token is believed before its signature was checked with a key of the issuer that the operator
//! named, under an algorithm that the operator named; and what is remembered is held against time, key and issuer each time.

mod claims;
mod config;
mod issuer;
mod json;
mod keys;
mod remembered;
mod remote;
mod revoked;
#[cfg(test)]
pub(crate) mod tests;
mod token;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use portcullis_core::clock::{Now, nanos};
use portcullis_core::identity::{CredentialKind, Identity};
use portcullis_core::refusal::Code;

pub use config::{Algorithm, ClaimsConfig, Config, IssuerConfig, JwksConfig};
pub use keys::SET_BYTES as KEY_SET_BYTES;
pub use remote::Seen;
pub use revoked::{NotRevoked, Revocation, Revocations, Subject as RevokedSubject};

use super::metrics::Counts;
use super::source::{Found, Source};
use crate::config::Mistake;
use crate::exchange::{Exchange, Touch};
use claims::Bad;
use config::Keys;
use issuer::{Issuer, Signer};
use keys::Key;
use remembered::{Remembered, Verified};
use remote::{Hope, Remote};

/// What is known of tokens and outlives a reload: issuers with their keys, and what was verified.
pub struct Tokens {
    remembered: Remembered,
    issuers: Mutex<Vec<Arc<Issuer>>>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    revocations: Revocations,
}

/// A key set that is to be fetched now. Ended by [`Fetch::end`]; dropped without, it has failed.
pub struct Fetch {
    issuer: Arc<Issuer>,
    remote: Arc<Remote>,
    began: Now,
    is_over: bool,
}

impl Default for Tokens {
    fn default() -> Tokens {
        // The bound is the config's as soon as one begins.
        Tokens {
            remembered: Remembered::new(1 << 20),
            issuers: Mutex::default(),
            wake: OnceLock::new(),
            revocations: Revocations::default(),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Whom to wake when something is to be fetched. Only the first one is kept.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        // A second one would be a second fetcher of the same keys.
        let _ = self.wake.set(Box::new(wake));
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// What was withdrawn before it expired.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    fn issuers(&self) -> Vec<Arc<Issuer>> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be fetched now. Each must be ended.
    #[must_use]
    pub fn due(&self, now: &Now) -> Vec<Fetch> {
        let due = self.issuers().into_iter().filter_map(|issuer| {
            let remote = Arc::clone(issuer.remote.as_ref()?);
            // Not `then_some`: a fetch that is made and dropped has failed.
            remote.begin(now).then(|| Fetch { issuer, remote, began: *now, is_over: false })
        });
        due.collect()
    }

    /// Each issuer whose keys are fetched, and how that goes.
    #[must_use]
    pub fn seen(&self, now: &Now) -> Vec<(String, Seen)> {
        let of = |issuer: Arc<Issuer>| Some((issuer.rules.issuer.clone(), issuer.remote.as_ref()?.seen(now)));
        self.issuers().into_iter().filter_map(of).collect()
    }
}

impl Fetch {
    /// Whose keys.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer.rules.issuer
    }

    /// Where they are.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.remote.rules.url
    }

    /// A file of the authorities that may sign for that address.
    #[must_use]
    pub fn ca(&self) -> Option<&std::path::PathBuf> {
        self.remote.rules.ca.as_ref()
    }

    /// Whether the attempt before this one failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.remote.seen(&self.began).error.is_some()
    }

    /// Takes over what was fetched, with the time that the issuer says it is good for, or notes why nothing was.
    ///
    /// # Errors
    /// Why the issuer goes on with the keys it has.
    pub fn end(mut self, result: Result<(bytes::Bytes, Option<Duration>), String>, now: &Now) -> Result<(), String> {
        self.is_over = true;
        let taken = result.and_then(|(text, good_for)| {
            let keys = keys::parse(&text).map_err(|error| error.to_string())?;
            self.issuer.adopt(keys.into_iter().map(Arc::new).collect());
            Ok(good_for.map(nanos))
        });
        self.remote.end(now, taken.clone());
        taken.map(|_| ())
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.is_over {
            self.remote.end(&self.began, Err("the fetch was given up".to_owned()));
        }
    }
}

/// The source of identities that reads tokens.
pub(super) struct JwtSource {
    tokens: Arc<Tokens>,
    issuers: Vec<Arc<Issuer>>,
    /// The keys of each issuer as the config has them; they hold from [`Source::begins`] on. `None`: they are fetched.
    keys: Vec<Option<Vec<Arc<Key>>>>,
    memory_bytes: u64,
    counts: Arc<Counts>,
}

impl JwtSource {
    /// Checks the config and reads the files.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub(super) fn new(
        config: &Config,
        folder: &Path,
        kept: &[String],
        tokens: &Arc<Tokens>,
        counts: &Arc<Counts>,
    ) -> Result<JwtSource, Vec<Mistake>> {
        let prepared = config.prepare(folder, kept)?;
        let known = tokens.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut issuers, mut keys) = (Vec::new(), Vec::new());
        for prepared in prepared {
            let (own, rules) = match prepared.keys {
                Keys::Here(keys) => (Some(keys.into_iter().map(Arc::new).collect::<Vec<_>>()), None),
                Keys::At(rules) => (None, Some(rules)),
            };
            let is_same = |issuer: &&Arc<Issuer>| issuer.config == prepared.config && issuer.rules == prepared.rules;
            let issuer = known.iter().find(is_same).cloned().unwrap_or_else(|| {
                let new = Issuer::new(prepared.config.clone(), prepared.rules.clone(), rules.map(Remote::new));
                // Nobody else knows it yet, so its keys need not wait.
                new.adopt(own.clone().unwrap_or_default());
                Arc::new(new)
            });
            issuers.push(issuer);
            keys.push(own);
        }
        drop(known);
        let (tokens, memory_bytes) = (Arc::clone(tokens), config.memory_bytes());
        Ok(JwtSource { tokens, issuers, keys, memory_bytes, counts: Arc::clone(counts) })
    }

    /// What a verified token says, if it was remembered and still holds.
    fn recall(&self, digest: &remembered::Digest, now: &Now) -> Option<Result<Arc<Identity>, Bad>> {
        let verified = self.tokens.remembered.find(digest)?;
        let is_ours = self.issuers.iter().any(|issuer| Arc::ptr_eq(issuer, &verified.issuer));
        if !is_ours || verified.key.is_retired() {
            self.tokens.remembered.remove(digest);
            return None;
        }
        if verified.issuer.remote.as_ref().is_some_and(|remote| remote.check(now).is_err()) {
            // Its keys are too old; the long way finds out what to do about it.
            return None;
        }
        Some(match verified.times.check(now.unix_millis / 1000) {
            Ok(()) if self.tokens.revocations.holds(&verified.identity, verified.times.issued) => {
                self.tokens.remembered.remove(digest);
                Err(Bad::Revoked)
            }
            Ok(()) => Ok(Arc::clone(&verified.identity)),
            Err(bad) => {
                self.tokens.remembered.remove(digest);
                Err(bad)
            }
        })
    }

    /// Checks a token from its first byte to its last.
    fn verify(&self, text: &str, now: &Now) -> Result<Verified, Trouble> {
        let bad = |rule| Trouble::Bad(Bad::Invalid(rule));
        let token = token::parse(text).map_err(bad)?;
        let issuer = token.issuer().and_then(|name| self.issuers.iter().find(|issuer| issuer.rules.issuer == name));
        let issuer = issuer.ok_or(bad("issuer"))?;
        token.suits(&issuer.rules).map_err(bad)?;
        if let Some(remote) = &issuer.remote
            && remote.check(now).is_err()
        {
            return Err(Trouble::Keys(Arc::clone(remote)));
        }
        let key = match issuer.signer(token.kid.as_deref(), token.algorithm, token.message, token.signature) {
            Signer::Found(key) => key,
            Signer::Forged => return Err(bad("signature")),
            Signer::Unknown => match &issuer.remote {
                Some(remote) => return Err(Trouble::Keys(Arc::clone(remote))),
                None => return Err(bad("unknown_key")),
            },
        };
        let second = now.unix_millis / 1000;
        let accepted = claims::check(&token.claims, &issuer.rules, second).map_err(Trouble::Bad)?;
        let identity = Identity::new(CredentialKind::Jwt, accepted.claims).map_err(|_| bad("claim_bounds"))?;
        if self.tokens.revocations.holds(&identity, accepted.times.issued) {
            return Err(Trouble::Bad(Bad::Revoked));
        }
        Ok(Verified { identity: Arc::new(identity), issuer: Arc::clone(issuer), key, times: accepted.times })
    }
}

impl Source for JwtSource {
    fn kind(&self) -> CredentialKind {
        CredentialKind::Jwt
    }

    fn begins(&self) {
        for (issuer, keys) in self.issuers.iter().zip(&self.keys) {
            if let Some(keys) = keys {
                issuer.adopt(keys.clone());
            }
        }
        self.tokens.remembered.bound(self.memory_bytes);
        *self.tokens.issuers.lock().unwrap_or_else(PoisonError::into_inner) = self.issuers.clone();
        self.tokens.wake();
    }

    fn takes_bearer(&self, text: &[u8]) -> bool {
        text.contains(&b'.')
    }

    fn look(&self, exchange: &Exchange, bearer: Option<&str>) -> Found {
        let Some(text) = bearer else { return Found::Absent };
        self.look_with(exchange, text, |remote, now| {
            if self.tokens.wake.get().is_none() {
                // Nobody here fetches.
                return remote.verdict(now);
            }
            let hope = remote.hope(now);
            if matches!(hope, Hope::Wait(_)) {
                self.tokens.wake();
            }
            hope
        })
    }

    fn look_again(&self, exchange: &Exchange, bearer: Option<&str>) -> Found {
        let Some(text) = bearer else { return Found::Absent };
        self.look_with(exchange, text, |remote, now| remote.verdict(now))
    }
}

impl JwtSource {
    fn look_with(&self, exchange: &Exchange, text: &str, hope: impl Fn(&Arc<Remote>, &Now) -> Hope) -> Found {
        let now = &exchange.now;
        // Too long is told before it is hashed; the bound is far above what a head may hold otherwise.
        if text.len() > token::TOKEN_BYTES {
            return Found::Refused(Code::TokenInvalid, "too_long");
        }
        let digest = self.tokens.remembered.digest(text);
        let is_real = exchange.touch == Touch::Take;
        if let Some(recalled) = self.recall(&digest, now) {
            if is_real {
                self.counts.remembered.inc();
            }
            return recalled.map_or_else(refused, Found::Known);
        }
        match self.verify(text, now) {
            Ok(verified) => {
                let identity = Arc::clone(&verified.identity);
                if is_real {
                    self.counts.verified.inc();
                    self.tokens.remembered.add(digest, Arc::new(verified));
                }
                Found::Known(identity)
            }
            Err(Trouble::Bad(bad)) => refused(bad),
            // A dry run asks for nothing.
            Err(Trouble::Keys(remote)) => match if is_real { hope(&remote, now) } else { remote.verdict(now) } {
                Hope::Wait(round) => Found::Wait(Box::pin(round)),
                Hope::None => Found::Refused(Code::TokenInvalid, "unknown_key"),
                Hope::Outage(wait_nanos) => Found::Unavailable(Code::KeysUnavailable, wait_nanos, "issuer_unreachable"),
            },
        }
    }
}

/// Why a token was not taken.
enum Trouble {
    Bad(Bad),
    /// The issuer's keys are not there, too old, or this one is not among them.
    Keys(Arc<Remote>),
}

fn refused(bad: Bad) -> Found {
    match bad {
        Bad::Revoked => Found::Refused(Code::TokenRevoked, "revoked"),
        Bad::Expired => Found::Refused(Code::TokenExpired, "expired"),
        Bad::Invalid(rule) => Found::Refused(Code::TokenInvalid, rule),
    }
}
