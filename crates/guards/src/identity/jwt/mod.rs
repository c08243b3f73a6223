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
#[cfg(test)]
pub(crate) mod tests;
mod token;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_core::identity::{CredentialKind, Identity};
use portcullis_core::refusal::Code;

pub use config::{Algorithm, ClaimsConfig, Config, IssuerConfig, JwksConfig};

use super::metrics::Counts;
use super::source::{Found, Source};
use crate::config::Mistake;
use crate::exchange::{Exchange, Touch};
use claims::Bad;
use issuer::{Issuer, Signer};
use keys::Key;
use remembered::{Remembered, Verified};

/// What is known of tokens and outlives a reload: issuers with their keys, and what was verified.
pub struct Tokens {
    remembered: Remembered,
    issuers: Mutex<Vec<Arc<Issuer>>>,
}

impl Default for Tokens {
    fn default() -> Tokens {
        // The bound is the config's as soon as one begins.
        Tokens { remembered: Remembered::new(1 << 20), issuers: Mutex::default() }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// The source of identities that reads tokens.
pub(super) struct JwtSource {
    tokens: Arc<Tokens>,
    issuers: Vec<Arc<Issuer>>,
    /// The keys of each issuer as the config has them; they hold from [`Source::begins`] on.
    keys: Vec<Vec<Arc<Key>>>,
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
            let own: Vec<Arc<Key>> = prepared.keys.into_iter().map(Arc::new).collect();
            let is_same = |issuer: &&Arc<Issuer>| issuer.config == prepared.config && issuer.rules == prepared.rules;
            let issuer = known.iter().find(is_same).cloned().unwrap_or_else(|| {
                let new = Issuer::new(prepared.config.clone(), prepared.rules.clone());
                // Nobody else knows it yet, so its keys need not wait.
                new.adopt(own.clone());
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
    fn recall(&self, digest: &remembered::Digest, now: u64) -> Option<Result<Arc<Identity>, Bad>> {
        let verified = self.tokens.remembered.find(digest)?;
        let is_ours = self.issuers.iter().any(|issuer| Arc::ptr_eq(issuer, &verified.issuer));
        if !is_ours || verified.key.is_retired() {
            self.tokens.remembered.remove(digest);
            return None;
        }
        Some(match verified.times.check(now) {
            Ok(()) => Ok(Arc::clone(&verified.identity)),
            Err(bad) => {
                self.tokens.remembered.remove(digest);
                Err(bad)
            }
        })
    }

    /// Checks a token from its first byte to its last.
    fn verify(&self, text: &str, now: u64) -> Result<Verified, Bad> {
        let token = token::parse(text).map_err(Bad::Invalid)?;
        let issuer = token.issuer().and_then(|name| self.issuers.iter().find(|issuer| issuer.rules.issuer == name));
        let issuer = issuer.ok_or(Bad::Invalid("issuer"))?;
        token.suits(&issuer.rules).map_err(Bad::Invalid)?;
        let key = match issuer.signer(token.kid.as_deref(), token.algorithm, token.message, token.signature) {
            Signer::Found(key) => key,
            Signer::Forged => return Err(Bad::Invalid("signature")),
            Signer::Unknown => return Err(Bad::Invalid("unknown_key")),
        };
        let accepted = claims::check(&token.claims, &issuer.rules, now)?;
        let identity = Identity::new(CredentialKind::Jwt, accepted.claims).map_err(|_| Bad::Invalid("claim_bounds"))?;
        Ok(Verified { identity: Arc::new(identity), issuer: Arc::clone(issuer), key, times: accepted.times })
    }
}

impl Source for JwtSource {
    fn kind(&self) -> CredentialKind {
        CredentialKind::Jwt
    }

    fn begins(&self) {
        for (issuer, keys) in self.issuers.iter().zip(&self.keys) {
            issuer.adopt(keys.clone());
        }
        self.tokens.remembered.bound(self.memory_bytes);
        *self.tokens.issuers.lock().unwrap_or_else(PoisonError::into_inner) = self.issuers.clone();
    }

    fn takes_bearer(&self, text: &[u8]) -> bool {
        text.contains(&b'.')
    }

    fn look(&self, exchange: &Exchange, bearer: Option<&str>) -> Found {
        let Some(text) = bearer else { return Found::Absent };
        let now = exchange.now.unix_millis / 1000;
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
            Err(bad) => refused(bad),
        }
    }
}

fn refused(bad: Bad) -> Found {
    match bad {
        Bad::Expired => Found::Refused(Code::TokenExpired, "expired"),
        Bad::Invalid(rule) => Found::Refused(Code::TokenInvalid, rule),
    }
}
