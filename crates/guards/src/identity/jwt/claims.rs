//! What a token must say, and what it then means: pure, over claims whose signature was checked.
//!
//! Times are whole seconds since 1970 and nothing else: a text, a fraction, a negative number or `null` is refused, never
//! read as "not there" (CVE-2026-25537).
//!
//! Invariant: every claim that is used has the type it must have; a claim of another type refuses the token.

use portcullis_core::identity::Claims;
use serde_json::{Map, Value};

use super::config::Rules;
use super::json::at;

/// The last moment that a time may name: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// A token that says what it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) claims: Claims,
    pub(super) times: Times,
}

/// When a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// From this second on, leeway included.
    pub(super) from: u64,
    /// Until before this second, leeway included.
    pub(super) until: u64,
    /// When it was issued; `None` where it does not say.
    pub(super) issued: Option<u64>,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// It was good once.
    Expired,
    /// It was withdrawn.
    Revoked,
    /// It breaks this rule.
    Invalid(&'static str),
}

impl Times {
    /// Whether it is good at this second.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, now: u64) -> Result<(), Bad> {
        if now >= self.until {
            return Err(Bad::Expired);
        }
        if now < self.from {
            return Err(Bad::Invalid("not_yet"));
        }
        Ok(())
    }
}

/// Holds claims against an issuer's rules at the second `now`.
///
/// # Errors
/// Why the token is not good.
pub(super) fn check(object: &Map<String, Value>, rules: &Rules, now: u64) -> Result<Accepted, Bad> {
    let text = |name| object.get(name).and_then(Value::as_str);
    if text("iss") != Some(rules.issuer.as_str()) {
        return Err(Bad::Invalid("issuer"));
    }
    if !is_for(object.get("aud"), &rules.audience) {
        return Err(Bad::Invalid("audience"));
    }
    let times = times(object, rules, now)?;
    times.check(now)?;
    for name in &rules.required {
        if at(object, name).is_none_or(Value::is_null) {
            return Err(Bad::Invalid("required_claim"));
        }
    }
    let claims = meaning(object, rules, times.until).ok_or(Bad::Invalid("claim_type"))?;
    Ok(Accepted { claims, times })
}

fn is_for(audience: Option<&Value>, names: &[String]) -> bool {
    let is_named = |value: &Value| value.as_str().is_some_and(|name| names.iter().any(|known| known == name));
    match audience {
        Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(is_named),
        Some(one) => is_named(one),
        None => false,
    }
}

fn times(object: &Map<String, Value>, rules: &Rules, now: u64) -> Result<Times, Bad> {
    let second = |name: &str| match object.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64().filter(|second| *second <= LAST_SECOND) {
            Some(second) => Ok(Some(second)),
            None => Err(Bad::Invalid("time")),
        },
    };
    let (expires, begins, issued) = (second("exp")?, second("nbf")?, second("iat")?);
    let Some(expires) = expires else { return Err(Bad::Invalid("no_expiry")) };
    let leeway = rules.leeway_seconds;
    if issued.is_some_and(|issued| issued > now.saturating_add(leeway)) {
        return Err(Bad::Invalid("issued_later"));
    }
    // Expired before issued is nonsense; saturating, it is a lifetime of nothing and is found by the time.
    if expires.saturating_sub(issued.unwrap_or(now)) > rules.lifetime_seconds {
        return Err(Bad::Invalid("lifetime"));
    }
    let from = begins.unwrap_or(0).max(issued.unwrap_or(0)).saturating_sub(leeway);
    Ok(Times { from, until: expires.saturating_add(leeway), issued })
}

/// `None` when a claim that is used has a type that it must not have.
fn meaning(object: &Map<String, Value>, rules: &Rules, until: u64) -> Option<Claims> {
    let optional = |path: &Option<String>| match path.as_ref().and_then(|path| at(object, path)) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone())),
        Some(_) => None,
    };
    let mut others = Vec::new();
    for name in &rules.kept {
        if let Some(text) = at(object, name).and_then(plain_text) {
            others.push((name.clone(), text));
        }
    }
    Some(Claims {
        user: at(object, &rules.user).and_then(name_of)?,
        issuer: rules.issuer.clone(),
        tenant: optional(&rules.tenant)?,
        roles: words(at(object, &rules.roles), false)?,
        plan: optional(&rules.plan)?,
        scopes: words(at(object, &rules.scopes), true)?,
        others,
        credential: match object.get("jti") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return None,
        },
        expires_unix_millis: Some(until.saturating_mul(1000)),
    })
}

/// A user is a text or a whole number.
fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

/// What a limit may count by; lists and objects have no one text.
fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        other => name_of(other),
    }
}

fn words(value: Option<&Value>, is_spaced: bool) -> Option<Vec<String>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) if is_spaced => {
            Some(text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
        }
        Some(Value::String(text)) => Some(vec![text.clone()]),
        Some(Value::Array(list)) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}
