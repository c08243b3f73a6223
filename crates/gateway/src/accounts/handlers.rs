//! What can be asked below `accounts.path`: one table of method, path and handler.
//!
//! A handler reads its body, asks the service, and says what must be written before it is answered. Every unsafe method is
//! refused where another site made the browser send it; everything but registering and logging in needs a session.
//!
//! Invariant: no name, address or token of one account is told to another; what went wrong with a login is told to nobody.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use portcullis_accounts::config::Rules;
use portcullis_accounts::register::{Client, LiveSession, Refused};
use portcullis_accounts::service::{LoggedIn, Login, No};
use portcullis_core::clock::{Clock, rfc3339};
use portcullis_core::refusal::{Code, Refusal};
use portcullis_core::secret::Secret;
use portcullis_core::units::Duration;
use portcullis_guards::exchange::Exchange;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Accounts;
use super::client::{self, DEVICE, SESSION};
use super::reply::{Cookie, Reply};
use crate::life::Gate;

/// How long a browser remembers that it has logged in before.
const DEVICE_SECONDS: u64 = 365 * 86_400;

/// A request, as far as handlers need it.
pub(super) struct Asked {
    method: Method,
    /// Below `accounts.path`, with its slash.
    path: String,
    body: Bytes,
    client: Client,
    session: Option<Secret>,
    /// Whether the session came in a field and not in a cookie: a cookie's token never appears in a body.
    is_bearer: bool,
    device: Option<Secret>,
}

impl Asked {
    /// Reads it.
    ///
    /// # Errors
    /// When another site made the browser send it, when its body is no JSON, or its credentials disagree.
    pub(super) fn new(exchange: &Exchange, below: &str, body: Bytes, rules: &Rules) -> Result<Asked, Refusal> {
        if client::is_cross_site(exchange) {
            return Err(Refusal::new(Code::CrossSiteRequest));
        }
        let is_json = |value: &http::HeaderValue| {
            let name = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"application/json")
        };
        if !body.is_empty() && !exchange.headers.get(CONTENT_TYPE).is_some_and(is_json) {
            return Err(Refusal::new(Code::UnsupportedMediaType).because("send application/json"));
        }
        let path = exchange.path.as_ref().map_or(exchange.uri.path(), |path| path.matched(&exchange.uri));
        let path = path.strip_prefix(below).unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Asked {
            method: exchange.method.clone(),
            path,
            body,
            client: client::client(exchange, rules.sessions.headers),
            session: client::session_token(&exchange.headers)?.map(Secret::from),
            is_bearer: client::cookie(&exchange.headers, SESSION)?.is_none(),
            device: client::cookie(&exchange.headers, DEVICE)?.map(Secret::from),
        })
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Refusal::new(Code::BodyMalformed).because("this is not the JSON object that is read here"))
    }
}

/// Somebody who is logged in.
struct Caller<'a> {
    accounts: &'a Accounts,
    asked: &'a Asked,
    gate: &'a Gate,
    session: Arc<LiveSession>,
}

/// Answers.
///
/// # Errors
/// The refusal that tells the client what was wrong.
pub(super) async fn answer(accounts: &Accounts, asked: &Asked, gate: &Gate) -> Result<Reply, Refusal> {
    // HEAD is answered as GET, without the body.
    let method = if asked.method == Method::HEAD { "GET" } else { asked.method.as_str() };
    match (method, asked.path.as_str()) {
        ("POST", "/register") => return register(accounts, asked, gate).await,
        ("POST", "/login") => return log_in(accounts, asked, gate).await,
        _ => {}
    }
    let (path, id) = match asked.path.rsplit_once('/') {
        Some((before @ ("/sessions" | "/keys"), id)) if !id.is_empty() => (before, Some(id)),
        _ => (asked.path.as_str(), None),
    };
    let methods = match (path, id) {
        ("/logout" | "/password" | "/totp" | "/totp/confirm" | "/totp/remove", None) => &["POST"][..],
        ("/me", None) => &["GET"],
        ("/sessions", None) => &["GET", "DELETE"],
        ("/keys", None) => &["GET", "POST"],
        ("/sessions" | "/keys", Some(_)) => &["DELETE"],
        ("/register" | "/login", None) => &["POST"],
        _ => return Err(Refusal::new(Code::ResourceNotFound)),
    };
    if !methods.contains(&method) {
        return Err(Refusal::method_not_allowed(methods.join(", ").into()));
    }
    let caller = Caller { accounts, asked, gate, session: session(accounts, asked, gate)? };
    match (method, path, id) {
        ("POST", "/logout", _) => Ok(caller.log_out()),
        ("POST", "/password", _) => caller.change_password().await,
        ("POST", "/totp", _) => caller.begin_totp().await,
        ("POST", "/totp/confirm", _) => caller.confirm_totp(),
        ("POST", "/totp/remove", _) => caller.remove_totp().await,
        ("GET", "/me", _) => Ok(caller.me()),
        ("GET", "/sessions", _) => Ok(caller.list_sessions()),
        ("DELETE", "/sessions", id) => caller.end_sessions(id),
        ("GET", "/keys", _) => Ok(caller.list_keys()),
        ("POST", "/keys", _) => caller.add_key(),
        ("DELETE", "/keys", Some(id)) => caller.revoke_key(id),
        _ => Err(Refusal::new(Code::ResourceNotFound)),
    }
}

/// The session of a request.
fn session(accounts: &Accounts, asked: &Asked, gate: &Gate) -> Result<Arc<LiveSession>, Refusal> {
    let token = asked.session.as_ref().ok_or(Refusal::new(Code::Unauthenticated))?;
    let found = accounts.service.register.session(token.expose(), &asked.client, &gate.clock.now());
    found.map_err(|why| match why {
        Refused::Unknown | Refused::Over => Refusal::new(Code::SessionExpired),
        Refused::Elsewhere => {
            gate.log.event("warn", "session_elsewhere", &[("network", &asked.client.network.to_string())]);
            Refusal::new(Code::SessionMismatch)
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Registering {
    user: String,
    password: Secret,
    email: Option<String>,
}

async fn register(accounts: &Accounts, asked: &Asked, gate: &Gate) -> Result<Reply, Refusal> {
    let Registering { user, password, email } = asked.read()?;
    let service = &accounts.service;
    let name = service.register(&user, email.as_deref(), &password, &*gate.clock).await.map_err(refusal)?;
    gate.log.event("info", "account_registered", &[("user", &name)]);
    let reply = Reply::new(json!({ "user": name }), service.register.version());
    Ok(Reply { status: StatusCode::CREATED, ..reply })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LoggingIn {
    user: String,
    password: Secret,
    code: Option<Secret>,
    new_password: Option<Secret>,
    /// The token of a device, for programs that keep no cookies.
    device: Option<Secret>,
    /// `false`: the tokens are told in the body, for programs that keep no cookies.
    #[serde(default = "yes")]
    cookie: bool,
}

fn yes() -> bool {
    true
}

async fn log_in(accounts: &Accounts, asked: &Asked, gate: &Gate) -> Result<Reply, Refusal> {
    let LoggingIn { user, password, code, new_password, device, cookie } = asked.read()?;
    let device = device.or_else(|| asked.device.clone());
    let login = Login {
        name: &user,
        password: &password,
        code: code.as_ref(),
        new_password: new_password.as_ref(),
        device: device.as_ref().map(Secret::expose),
        previous: asked.session.as_ref().map(Secret::expose),
    };
    let network = asked.client.network.to_string();
    match accounts.service.log_in(&login, &asked.client, &*gate.clock).await {
        Ok(logged_in) => {
            gate.log.event("info", "logged_in", &[("user", &logged_in.session.record.account), ("network", &network)]);
            Ok(told(accounts, gate, logged_in, json!({}), cookie))
        }
        Err(why) => {
            // Only names that exist are logged: people type passwords into the wrong field.
            let known = accounts.service.register.find(&user.to_ascii_lowercase()).map(|owner| owner.now());
            let known = known.as_ref().map_or("", |account| account.name.as_str());
            let fields = [("user", known), ("network", &network), ("why", &*why.to_string())];
            gate.log.event("warn", "login_failed", &fields);
            Err(refusal(why))
        }
    }
}

/// What somebody who has got a session is told.
fn told(accounts: &Accounts, gate: &Gate, logged_in: LoggedIn, mut body: Value, with_cookie: bool) -> Reply {
    let LoggedIn { token, session, device } = logged_in;
    let account = session.owner.now();
    body["user"] = json!(account.name);
    body["secondFactor"] = json!(session.record.has_second_factor);
    body["secondsLeft"] = json!(session.seconds_left(&gate.clock.now()));
    let mut cookies = Vec::new();
    if with_cookie {
        let seconds = accounts.service.rules().sessions.absolute.as_secs();
        cookies.push(Cookie { name: SESSION, value: Some(token), seconds, is_strict: false });
        let device =
            device.map(|device| Cookie { name: DEVICE, value: Some(device), seconds: DEVICE_SECONDS, is_strict: true });
        cookies.extend(device);
    } else {
        body["token"] = json!(token.expose());
        body["device"] = json!(device.as_ref().map(Secret::expose));
    }
    let version = accounts.service.register.version();
    Reply { cookies, begun: Some(session.record.id), ..Reply::new(body, version) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Changing {
    password: Secret,
    new_password: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proving {
    password: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Coding {
    code: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Removing {
    password: Secret,
    code: Secret,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keying {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
    expires_in: Option<Duration>,
}

impl Caller<'_> {
    fn account(&self) -> &str {
        &self.session.record.account
    }

    /// 200 once everything up to now is written.
    fn done(&self, what: &'static str, body: Value) -> Reply {
        self.gate.log.event("info", what, &[("user", self.account()), ("session", &self.session.short_id())]);
        Reply::new(body, self.accounts.service.register.version())
    }

    /// Whether the client keeps its session in a cookie.
    fn renewed(&self, what: &'static str, logged_in: LoggedIn, body: Value) -> Reply {
        self.gate.log.event("info", what, &[("user", self.account())]);
        told(self.accounts, self.gate, logged_in, body, !self.asked.is_bearer)
    }

    fn log_out(&self) -> Reply {
        self.accounts.service.log_out(&self.session);
        let away = Cookie { name: SESSION, value: None, seconds: 0, is_strict: false };
        Reply { cookies: vec![away], ..self.done("logged_out", json!({})) }
    }

    async fn change_password(&self) -> Result<Reply, Refusal> {
        let Changing { password, new_password } = self.asked.read()?;
        let service = &self.accounts.service;
        let changed =
            service.change_password(&self.session, &password, &new_password, &self.asked.client, &*self.gate.clock);
        Ok(self.renewed("password_changed", changed.await.map_err(refusal)?, json!({})))
    }

    async fn begin_totp(&self) -> Result<Reply, Refusal> {
        let Proving { password } = self.asked.read()?;
        let begun = self.accounts.service.begin_totp(&self.session, &password, &*self.gate.clock).await;
        let (secret, uri) = begun.map_err(refusal)?;
        Ok(self.done("totp_begun", json!({ "secret": secret.expose(), "uri": uri.expose() })))
    }

    fn confirm_totp(&self) -> Result<Reply, Refusal> {
        let Coding { code } = self.asked.read()?;
        let now = self.gate.clock.now();
        let confirmed = self.accounts.service.confirm_totp(&self.session, &code, &self.asked.client, &now);
        let (logged_in, codes) = confirmed.map_err(refusal)?;
        let codes: Vec<&str> = codes.iter().map(Secret::expose).collect();
        Ok(self.renewed("totp_confirmed", logged_in, json!({ "recoveryCodes": codes })))
    }

    async fn remove_totp(&self) -> Result<Reply, Refusal> {
        let Removing { password, code } = self.asked.read()?;
        let service = &self.accounts.service;
        let removed = service.remove_totp(&self.session, &password, &code, &self.asked.client, &*self.gate.clock);
        Ok(self.renewed("totp_removed", removed.await.map_err(refusal)?, json!({})))
    }

    fn me(&self) -> Reply {
        let account = self.session.owner.now();
        let body = json!({
            "user": account.name,
            "tenant": account.tenant,
            "email": account.email,
            "roles": account.roles,
            "secondFactor": account.totp.as_ref().is_some_and(|totp| totp.is_confirmed),
            "recoveryCodesLeft": account.recovery.len(),
            "session": self.session.short_id(),
            "secondsLeft": self.session.seconds_left(&self.gate.clock.now()),
        });
        // Nothing was done that must be written.
        Reply::new(body, 0)
    }

    fn list_sessions(&self) -> Reply {
        let now = self.gate.clock.now();
        let own = self.accounts.service.register.sessions_of(self.account(), &now);
        let sessions: Vec<Value> = own.iter().map(|session| shown_session(session, Some(&self.session))).collect();
        Reply::new(json!({ "sessions": sessions }), 0)
    }

    /// One of them, or all but this one.
    fn end_sessions(&self, id: Option<&str>) -> Result<Reply, Refusal> {
        let ended = self.accounts.service.end_sessions(self.account(), id, Some(&self.session));
        if id.is_some() && ended == 0 {
            return Err(Refusal::new(Code::ResourceNotFound));
        }
        Ok(self.done("sessions_ended", json!({ "ended": ended })))
    }

    fn list_keys(&self) -> Reply {
        let keys = self.accounts.service.register.keys_of(self.account());
        let keys: Vec<Value> = keys.iter().map(|key| shown_key(key)).collect();
        Reply::new(json!({ "keys": keys }), 0)
    }

    fn add_key(&self) -> Result<Reply, Refusal> {
        let Keying { name, scopes, expires_in } = self.asked.read()?;
        let now = self.gate.clock.now();
        let time = expires_in.map(|time| *time);
        let made = self.accounts.service.add_key(self.account(), &name, scopes, time, &now);
        let (text, key) = made.map_err(refusal)?;
        let mut body = shown_key(&key);
        body["key"] = json!(text.expose());
        Ok(Reply { status: StatusCode::CREATED, ..self.done("key_added", body) })
    }

    fn revoke_key(&self, id: &str) -> Result<Reply, Refusal> {
        self.accounts.service.revoke_key(self.account(), id).map_err(refusal)?;
        Ok(self.done("key_revoked", json!({})))
    }
}

/// A session, for its owner and the operator.
pub(crate) fn shown_session(session: &LiveSession, own: Option<&Arc<LiveSession>>) -> Value {
    json!({
        "id": session.short_id(),
        "since": time(session.record.since_unix_millis),
        "seen": time(session.seen_unix_millis()),
        "until": time(session.record.until_unix_millis),
        "network": session.record.network,
        "agent": session.record.agent,
        "secondFactor": session.record.has_second_factor,
        "elsewhere": session.was_elsewhere(),
        "current": own.is_some_and(|own| own.record.id == session.record.id),
    })
}

/// A key, for its owner and the operator.
pub(crate) fn shown_key(key: &portcullis_accounts::register::LiveKey) -> Value {
    json!({
        "id": key.record.id,
        "name": key.record.name,
        "scopes": key.record.scopes,
        "since": time(key.record.since_unix_millis),
        "until": key.record.until_unix_millis.map(time),
        "used": key.used_unix_millis().map(time),
    })
}

pub(crate) fn time(unix_millis: u64) -> String {
    String::from_utf8_lossy(&rfc3339(unix_millis)).into_owned()
}

/// What a client hears.
pub(crate) fn refusal(why: No) -> Refusal {
    match why {
        No::Credentials => Refusal::new(Code::CredentialsInvalid),
        No::SecondFactor => Refusal::new(Code::SecondFactorRequired),
        No::Password(refused) => Refusal::new(Code::PasswordRefused).because(refused.reason()),
        No::Expired => {
            Refusal::new(Code::PasswordRefused).because("the password has expired: send newPassword with the login")
        }
        No::Wrong(reason) => Refusal::new(Code::RuleViolated).because(reason),
        No::Taken => Refusal::new(Code::Conflict).because("the name is taken"),
        No::Unknown => Refusal::new(Code::ResourceNotFound),
        No::Busy => Refusal::new(Code::Overloaded),
        No::Closed => Refusal::new(Code::Forbidden).because("only the operator makes accounts"),
        No::Failed => Refusal::internal(),
    }
}
