//! Tokens over the control socket: withdraw, and list what is withdrawn.
//!
//! Invariant: what is answered as revoked holds for the next request that begins.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portcullis_core::clock::{Clock, rfc3339};
use portcullis_core::units::Duration as Time;
use portcullis_guards::identity::jwt::{NotRevoked, Revocation, RevokedSubject};
use serde_json::{Value, json};

use super::routes::{Answer, Call, Pending};
use crate::life::Gate;

/// Records in one answer.
const MOST_LISTED: usize = 1000;
/// The longest that a record is kept: as long as a token can be valid at most (`identity.jwt.issuers[].lifetime`), and leeway.
const LONGEST: Duration = Duration::from_secs(3661 * 86_400);

/// `GET /api/v1/tokens/revoked`
pub(super) fn list(gate: Arc<Gate>, _call: Call) -> Pending {
    let now = gate.clock.now().unix_millis / 1000;
    let found = gate.ground.tokens.revocations().list(None, MOST_LISTED, now);
    let shown: Vec<Value> = found.iter().map(shown).collect();
    Answer::ok(json!({ "revoked": shown, "count": gate.ground.tokens.revocations().len() })).now()
}

/// `POST /api/v1/tokens/revoked` with `{"issuer": "...", "id": "JTI"}` or `{"issuer": "...", "user": "..."}`, and `"for"`.
pub(super) fn revoke(gate: Arc<Gate>, call: Call) -> Pending {
    let now = gate.clock.now().unix_millis / 1000;
    let revocation = match revocation_of(&gate, &call.body, now) {
        Ok(revocation) => revocation,
        Err(why) => return Answer::wrong(StatusCode::BAD_REQUEST, why).now(),
    };
    match gate.ground.tokens.revocations().add(revocation.clone(), now) {
        Ok(()) => {
            let told = shown(&revocation);
            let (kind, text) = match &revocation.subject {
                RevokedSubject::Token(id) => ("id", id),
                RevokedSubject::User(user) => ("user", user),
            };
            gate.log.event("warn", "tokens_revoked", &[("issuer", &revocation.issuer), (kind, text)]);
            Answer::ok(json!({ "revoked": told, "durable": false }))
        }
        Err(why @ NotRevoked::Full) => Answer::wrong(StatusCode::CONFLICT, why.to_string()),
        Err(why @ NotRevoked::Wrong) => Answer::wrong(StatusCode::BAD_REQUEST, why.to_string()),
    }
    .now()
}

fn revocation_of(gate: &Gate, body: &Value, now: u64) -> Result<Revocation, String> {
    let fields = body.as_object().ok_or("an object with `issuer`, and `id` or `user`, is expected")?;
    if let Some(unknown) = fields.keys().find(|key| !matches!(key.as_str(), "issuer" | "id" | "user" | "for")) {
        return Err(format!("`{unknown}` is not known; there are `issuer`, `id`, `user`, `for`"));
    }
    let text = |key: &str| match &body[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(format!("`{key}` must be a text")),
    };
    let issuer = text("issuer")?.ok_or("`issuer` is missing")?;
    let running = gate.running();
    let configured = running.config.path.identity.jwt.iter().flat_map(|jwt| &jwt.issuers);
    let Some(config) = configured.into_iter().find(|config| config.issuer == issuer) else {
        return Err(format!("`{issuer}` is no issuer of this gateway (identity.jwt.issuers)"));
    };
    let subject = match (text("id")?, text("user")?) {
        (Some(id), None) => RevokedSubject::Token(id),
        (None, Some(user)) => RevokedSubject::User(user),
        _ => return Err("either `id` or `user` must be given".to_owned()),
    };
    // As long as a token that is valid now can be valid at most.
    let default = config.longest_life();
    let time = match text("for")? {
        None => default,
        Some(time) => *time.parse::<Time>().map_err(|error| format!("for: {error}"))?,
    };
    if !(Duration::from_secs(1)..=LONGEST).contains(&time) {
        return Err("for: must be between 1s and 3661d".to_owned());
    }
    Ok(Revocation { issuer, subject, issued_until: now, expires: now.saturating_add(time.as_secs()) })
}

fn shown(revocation: &Revocation) -> Value {
    let time = |second: u64| String::from_utf8_lossy(&rfc3339(second.saturating_mul(1000))).into_owned();
    let until = time(revocation.expires);
    match &revocation.subject {
        RevokedSubject::Token(id) => json!({ "issuer": revocation.issuer, "id": id, "until": until }),
        RevokedSubject::User(user) => json!({
            "issuer": revocation.issuer, "user": user, "issuedUntil": time(revocation.issued_until), "until": until,
        }),
    }
}
