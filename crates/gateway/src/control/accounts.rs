//! Accounts, their sessions and keys over the control socket.
//!
//! A call that changes something is answered when the change is written down; where that fails the answer is an error and says
//! that the change may be written later.
//!
//! Invariant: no password, hash or token is told, but an API key to who has just made it.

use std::future::Future;
use std::sync::Arc;

use http::StatusCode;
use portcullis_accounts::service::{No, Order};
use portcullis_core::clock::Clock;
use portcullis_core::secret::Secret;
use portcullis_core::units::Duration;
use portcullis_store::accounts::Account;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::routes::{Answer, Call, Pending};
use crate::accounts::Accounts;
use crate::accounts::handlers::{shown_key, shown_session, time};
use crate::life::Gate;

/// Accounts in one answer; the rest follows with `after`.
const MOST_LISTED: usize = 500;

type Told = Result<Value, Answer>;

/// Runs `call` on the accounts of the gateway, and answers when what it changed is written.
fn on<F: Future<Output = Told> + 'static>(
    gate: Arc<Gate>,
    call: impl FnOnce(Arc<Gate>, Arc<Accounts>) -> F + 'static,
) -> Pending {
    Box::pin(async move {
        let Some(accounts) = gate.accounts.clone() else {
            return Answer::wrong(
                StatusCode::CONFLICT,
                "this gateway has no accounts: write `accounts: {}` in its config",
            );
        };
        let before = accounts.service.register.version();
        let told = call(gate, Arc::clone(&accounts)).await;
        let version = accounts.service.register.version();
        match told {
            Ok(body) if version == before => Answer::ok(body),
            Ok(mut body) => match accounts.keeper.kept(version).await {
                Ok(()) => {
                    body["durable"] = Value::from(accounts.keeper.is_durable());
                    Answer::ok(body)
                }
                Err(why) => Answer::wrong(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("it holds in the running gateway, but is not written down yet: {why}"),
                ),
            },
            Err(answer) => answer,
        }
    })
}

fn read<T: DeserializeOwned>(body: Value) -> Result<T, Answer> {
    serde_json::from_value(body).map_err(|error| Answer::wrong(StatusCode::BAD_REQUEST, error.to_string()))
}

fn wrong(why: No) -> Answer {
    let status = match why {
        No::Unknown => StatusCode::NOT_FOUND,
        No::Taken => StatusCode::CONFLICT,
        No::Busy => StatusCode::SERVICE_UNAVAILABLE,
        No::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    Answer::wrong(status, why.to_string())
}

fn unknown() -> Answer {
    Answer::wrong(StatusCode::NOT_FOUND, "there is no such account")
}

fn shown(account: &Account, gate: &Gate, accounts: &Accounts) -> Value {
    let now = gate.clock.now();
    json!({
        "user": account.name,
        "tenant": account.tenant,
        "email": account.email,
        "roles": account.roles,
        "disabled": account.is_disabled,
        "locked": accounts.service.is_locked(&account.name, &now),
        "secondFactor": account.totp.as_ref().is_some_and(|totp| totp.is_confirmed),
        "since": time(account.since_unix_millis),
        "passwordSince": time(account.password_since_unix_millis),
        "sessions": accounts.service.register.sessions_of(&account.name, &now).len(),
        "keys": accounts.service.register.keys_of(&account.name).len(),
    })
}

/// `GET /api/v1/accounts?after=NAME`
pub(super) fn list(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        let found = accounts.service.register.list(&call.asked("after").unwrap_or_default(), MOST_LISTED);
        let next = found.last().filter(|_| found.len() == MOST_LISTED).map(|last| last.name.clone());
        let shown: Vec<Value> = found.iter().map(|account| shown(account, &gate, &accounts)).collect();
        let statistics = accounts.service.register.statistics();
        let totals = json!({
            "accounts": statistics.accounts,
            "disabled": statistics.disabled,
            "sessions": statistics.sessions,
            "keys": statistics.keys,
        });
        Ok(json!({ "accounts": shown, "next": next, "totals": totals }))
    })
}

/// `GET /api/v1/accounts/{name}`
pub(super) fn show(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        let owner = accounts.service.register.find(&call.segment).ok_or_else(unknown)?;
        Ok(shown(&owner.now(), &gate, &accounts))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adding {
    user: String,
    password: Secret,
    #[serde(default)]
    tenant: String,
    email: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

/// `POST /api/v1/accounts` with `{"user": "ann", "password": "...", "roles": ["admin"]}`
pub(super) fn add(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        let Adding { user, password, tenant, email, roles } = read(call.body)?;
        let order = Order { name: &user, tenant: &tenant, email: email.as_deref(), roles, password: &password };
        let name = accounts.service.create(&order, &*gate.clock).await.map_err(wrong)?;
        let owner = accounts.service.register.find(&name).ok_or_else(unknown)?;
        gate.log.event("info", "account_created", &[("user", &name), ("by", "operator")]);
        Ok(shown(&owner.now(), &gate, &accounts))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Updating {
    disabled: Option<bool>,
    #[serde(default)]
    unlock: bool,
}

/// `POST /api/v1/accounts/{name}` with `{"disabled": true}` or `{"unlock": true}`
pub(super) fn update(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        let Updating { disabled, unlock } = read(call.body)?;
        let name = &call.segment;
        let owner = accounts.service.register.find(name).ok_or_else(unknown)?;
        if let Some(disabled) = disabled {
            accounts.service.disable(name, disabled).map_err(wrong)?;
            let what = if disabled { "account_disabled" } else { "account_enabled" };
            gate.log.event("info", what, &[("user", name), ("by", "operator")]);
        }
        if unlock {
            accounts.service.unlock(name).map_err(wrong)?;
            gate.log.event("info", "account_unlocked", &[("user", name), ("by", "operator")]);
        }
        Ok(shown(&owner.now(), &gate, &accounts))
    })
}

/// `GET /api/v1/sessions/{account}`
pub(super) fn list_sessions(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        accounts.service.register.find(&call.segment).ok_or_else(unknown)?;
        let found = accounts.service.register.sessions_of(&call.segment, &gate.clock.now());
        let shown: Vec<Value> = found.iter().map(|session| shown_session(session, None)).collect();
        Ok(json!({ "sessions": shown }))
    })
}

/// `DELETE /api/v1/sessions/{account}?id=ID`; without `id` all of them.
pub(super) fn end_sessions(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        accounts.service.register.find(&call.segment).ok_or_else(unknown)?;
        let id = call.asked("id");
        let ended = accounts.service.end_sessions(&call.segment, id.as_deref(), None);
        if id.is_some() && ended == 0 {
            return Err(Answer::wrong(StatusCode::NOT_FOUND, "this account has no such session"));
        }
        gate.log.event("info", "sessions_ended", &[("user", &call.segment), ("by", "operator")]);
        Ok(json!({ "user": call.segment, "ended": ended }))
    })
}

/// `GET /api/v1/keys/{account}`
pub(super) fn list_keys(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |_, accounts| async move {
        accounts.service.register.find(&call.segment).ok_or_else(unknown)?;
        let keys = accounts.service.register.keys_of(&call.segment);
        Ok(json!({ "keys": keys.iter().map(|key| shown_key(key)).collect::<Vec<Value>>() }))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keying {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(rename = "for")]
    time: Option<Duration>,
}

/// `POST /api/v1/keys/{account}` with `{"name": "deploy", "scopes": ["read"], "for": "30d"}`
pub(super) fn add_key(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        let Keying { name, scopes, time } = read(call.body)?;
        let (now, time) = (gate.clock.now(), time.map(|time| *time));
        let made = accounts.service.add_key(&call.segment, &name, scopes, time, &now);
        let (text, key) = made.map_err(wrong)?;
        gate.log.event("info", "key_added", &[("user", &call.segment), ("key", &key.record.id), ("by", "operator")]);
        let mut body = shown_key(&key);
        body["key"] = json!(text.expose());
        Ok(body)
    })
}

/// `DELETE /api/v1/keys/{account}?id=ID`
pub(super) fn revoke_key(gate: Arc<Gate>, call: Call) -> Pending {
    on(gate, move |gate, accounts| async move {
        let id = call.asked("id").unwrap_or_default();
        let none = || Answer::wrong(StatusCode::NOT_FOUND, "this account has no such key");
        accounts.service.revoke_key(&call.segment, &id).map_err(|_| none())?;
        gate.log.event("info", "key_revoked", &[("user", &call.segment), ("key", &id), ("by", "operator")]);
        Ok(json!({ "id": id }))
    })
}
