//! Permissions over the control socket: list records, change them, check.
//!
//! A change is answered when it is written down and in force, or with why it is not. Checks answer from the same policy as
//! the routes, remembered decisions included. The admin listener of later versions mounts the same rows.
//!
//! Invariant: an order is understood whole or refused; an unknown key is never ignored.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portcullis_core::clock::Clock;
use portcullis_store::permissions::{Change, Effect, Fact, Name, Question, Record, Subject};
use serde_json::{Map, Value, json};

use super::routes::{Answer, Call, Pending};
use crate::life::Gate;
use crate::permissions::{NotMade, change};

/// Records in one answer; the rest follows with `after`.
const MOST_LISTED: usize = 500;
/// Changes in one order, and checks in one batch.
const MOST_AT_ONCE: usize = 500;
/// Roles and permissions in one check.
const MOST_ASKED: usize = 64;
/// How long a call waits for its change: the store's own patience, four times.
const PATIENCE: Duration = Duration::from_secs(12);

/// `GET /api/v1/permissions?tenant=NAME&after=RECORD`: in order; `after` is the last record of the page before, as JSON.
pub(super) fn list(gate: Arc<Gate>, call: Call) -> Pending {
    let after = call.asked("after").map(|text| {
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("after: {error}"))?;
        record_of(&value).map_err(|error| format!("after: {error}"))
    });
    let after = match after.transpose() {
        Ok(after) => after,
        Err(why) => return Answer::wrong(StatusCode::BAD_REQUEST, why).now(),
    };
    let tenant = call.asked("tenant");
    let found = gate.ground.permissions.list(tenant.as_deref(), after.as_ref(), MOST_LISTED);
    let records: Vec<Value> = found.iter().map(shown).collect();
    let next = records.last().filter(|_| records.len() == MOST_LISTED).cloned();
    Answer::ok(json!({ "records": records, "next": next })).now()
}

/// `POST /api/v1/permissions/changes` with `{"changes": [{"add": RECORD}, {"remove": RECORD}]}`: all of them or none.
pub(super) fn make(gate: Arc<Gate>, call: Call) -> Pending {
    Box::pin(async move {
        let orders = match orders_of(&call.body) {
            Ok(orders) => orders,
            Err(why) => return Answer::wrong(StatusCode::BAD_REQUEST, why),
        };
        match tokio::time::timeout(PATIENCE, change(&gate, orders)).await {
            Ok(Ok(changes)) => {
                let changes: Vec<Value> = changes
                    .iter()
                    .map(|change| match change {
                        Change::Add(record) => json!({ "add": shown(record) }),
                        Change::Remove(record) => json!({ "remove": shown(record) }),
                    })
                    .collect();
                Answer::ok(json!({ "changes": changes, "durable": gate.keeper.is_durable() }))
            }
            Ok(Err(NotMade::Refused(why))) => Answer::wrong(StatusCode::CONFLICT, why.to_string()),
            Ok(Err(NotMade::Store(error))) => {
                Answer::wrong(StatusCode::SERVICE_UNAVAILABLE, format!("nothing was changed: {error}"))
            }
            Err(_) => {
                let why =
                    format!("the store did not answer within {} s; the change may still be made", PATIENCE.as_secs());
                Answer::wrong(StatusCode::SERVICE_UNAVAILABLE, why)
            }
        }
    })
}

/// `POST /api/v1/permissions/check` with one CHECK, or `{"checks": [CHECK, ...]}`.
pub(super) fn check(gate: Arc<Gate>, call: Call) -> Pending {
    let batch = match &call.body["checks"] {
        Value::Null => None,
        Value::Array(checks)
            if checks.len() <= MOST_AT_ONCE && call.body.as_object().is_some_and(|all| all.len() == 1) =>
        {
            Some(checks.as_slice())
        }
        _ => {
            return Answer::wrong(StatusCode::BAD_REQUEST, format!("`checks` is a list of at most {MOST_AT_ONCE}"))
                .now();
        }
    };
    let asked: Result<Vec<Asking>, String> = match batch {
        None => asking_of(&call.body).map(|one| vec![one]),
        Some(checks) => checks
            .iter()
            .enumerate()
            .map(|(place, check)| asking_of(check).map_err(|why| format!("checks[{place}]: {why}")))
            .collect(),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(why) => return Answer::wrong(StatusCode::BAD_REQUEST, why).now(),
    };
    let began = gate.clock.now().monotonic_nanos;
    let answers: Vec<_> = asked.iter().map(|asking| asking.ask(&gate, began)).collect();
    let took = Duration::from_nanos(gate.clock.now().monotonic_nanos.saturating_sub(began));
    gate.permissions.count(answers.iter().map(|answer| (answer.why, answer.is_remembered)), took);
    if answers.iter().any(|answer| answer.why.is_none()) {
        let why = "nobody knows what the store holds: it failed in a change and cannot be read";
        return Answer::wrong(StatusCode::SERVICE_UNAVAILABLE, why).now();
    }
    let mut answers: Vec<Value> = answers.iter().map(Heard::shown).collect();
    match (batch, answers.pop()) {
        (None, Some(only)) => Answer::ok(only),
        (_, last) => {
            answers.extend(last);
            Answer::ok(json!({ "results": answers }))
        }
    }
    .now()
}

/// One check as it is asked: `{"tenant": "acme", "user": "ada", "carried": ["editor"], "roles": [], "permissions":
/// ["documents:write"], "resource": "document:42", "explain": true}`. All but `user` can be left out.
struct Asking {
    tenant: String,
    user: String,
    carried: Vec<String>,
    roles: Vec<Name>,
    permissions: Vec<Name>,
    resource: Option<String>,
    explains: bool,
}

struct Heard {
    why: Option<portcullis_store::permissions::Why>,
    is_remembered: bool,
    by: Option<String>,
}

impl Asking {
    fn ask(&self, gate: &Gate, now_nanos: u64) -> Heard {
        let question = Question {
            tenant: &self.tenant,
            user: &self.user,
            carried: &self.carried,
            roles: &self.roles,
            permissions: &self.permissions,
            resource: self.resource.as_deref(),
        };
        if self.explains && gate.ground.permissions.is_sure() {
            // Answer and words come from one look.
            let answer = gate.ground.permissions.explain(&question);
            return Heard { why: Some(answer.why), is_remembered: false, by: Some(answer.by) };
        }
        let age = gate.running().config.path.permissions.age_nanos();
        let asked = gate.ground.permissions.check(&question, now_nanos, age, false);
        let is_remembered = asked.is_some_and(|asked| asked.is_remembered);
        Heard { why: asked.map(|asked| asked.why), is_remembered, by: None }
    }
}

impl Heard {
    fn shown(&self) -> Value {
        let why = self.why.map(|why| why.name());
        let mut shown = json!({ "allowed": self.why.is_some_and(|why| why.is_allowed()), "why": why });
        if let Some(by) = &self.by {
            shown["by"] = Value::from(by.as_str());
        }
        shown
    }
}

fn asking_of(value: &Value) -> Result<Asking, String> {
    const KEYS: &[&str] = &["tenant", "user", "carried", "roles", "permissions", "resource", "explain"];
    let fields = fields_of(value, KEYS)?;
    let texts = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MOST_ASKED => {
            let texts = list.iter().map(|text| text.as_str().filter(|text| !text.is_empty()).map(str::to_owned));
            texts.collect::<Option<Vec<String>>>().ok_or_else(|| format!("`{key}` must hold texts"))
        }
        Some(_) => Err(format!("`{key}` must be a list of at most {MOST_ASKED} texts")),
    };
    let names = |key| Ok::<_, String>(texts(key)?.into_iter().map(Name::from).collect());
    let explains = match fields.get("explain") {
        None | Some(Value::Null) => false,
        Some(value) => value.as_bool().ok_or("`explain` must be true or false")?,
    };
    Ok(Asking {
        tenant: optional(fields, "tenant")?.unwrap_or_default(),
        user: needed(fields, "user")?,
        carried: texts("carried")?,
        roles: names("roles")?,
        permissions: names("permissions")?,
        resource: optional(fields, "resource")?.filter(|resource| !resource.is_empty()),
        explains,
    })
}

fn orders_of(body: &Value) -> Result<Vec<Change>, String> {
    let fields = fields_of(body, &["changes"])?;
    let list = fields.get("changes").and_then(Value::as_array).ok_or("`changes` must be a list")?;
    if list.is_empty() || list.len() > MOST_AT_ONCE {
        return Err(format!("`changes` has {} entries, 1 to {MOST_AT_ONCE} are possible", list.len()));
    }
    let order = |(place, value): (usize, &Value)| {
        let order = || {
            let fields = fields_of(value, &["add", "remove"])?;
            match (fields.get("add"), fields.get("remove")) {
                (Some(record), None) => record_of(record).map(Change::Add),
                (None, Some(record)) => record_of(record).map(Change::Remove),
                _ => Err("either `add` or `remove` is expected".to_owned()),
            }
        };
        order().map_err(|why| format!("changes[{place}]: {why}"))
    };
    list.iter().enumerate().map(order).collect()
}

/// A record as JSON: `{"kind": "grant", "tenant": "acme", "user": "ada", "role": "editor"}`.
fn record_of(value: &Value) -> Result<Record, String> {
    let kind =
        value["kind"].as_str().ok_or("`kind` is missing: role, permission, grant, member, entry or deactivated")?;
    let keys: &[&str] = match kind {
        "role" => &["role"],
        "permission" => &["role", "permission"],
        "grant" => &["user", "group", "role"],
        "member" => &["user", "group", "of"],
        "entry" => &["resource", "user", "group", "permission", "effect"],
        "deactivated" => &["user"],
        other => return Err(format!("`{other}` is no kind: role, permission, grant, member, entry or deactivated")),
    };
    let fields = fields_of(value, &[&["kind", "tenant"], keys].concat())?;
    let name = |key: &str| needed(fields, key).map(Name::from);
    let subject = || match (optional(fields, "user")?, optional(fields, "group")?) {
        (Some(user), None) => Ok(Subject::User(user.into())),
        (None, Some(group)) => Ok(Subject::Group(group.into())),
        _ => Err("either `user` or `group` is expected".to_owned()),
    };
    let effect = || {
        let word = optional(fields, "effect")?.unwrap_or_else(|| Effect::Allow.name().to_owned());
        Effect::named(&word).ok_or_else(|| format!("`{word}` is no effect: allow or deny"))
    };
    let fact = match kind {
        "role" => Fact::Role { role: name("role")? },
        "permission" => Fact::Permission { role: name("role")?, permission: name("permission")? },
        "grant" => Fact::Grant { subject: subject()?, role: name("role")? },
        "member" => Fact::Member { subject: subject()?, group: name("of")? },
        "entry" => Fact::Entry {
            resource: name("resource")?,
            subject: subject()?,
            permission: name("permission")?,
            effect: effect()?,
        },
        _ => Fact::Deactivated { user: name("user")? },
    };
    Ok(Record { tenant: optional(fields, "tenant")?.unwrap_or_default().into(), fact })
}

fn shown(record: &Record) -> Value {
    let mut fields = Map::new();
    let mut put = |key: &str, text: &str| {
        fields.insert(key.to_owned(), Value::from(text));
    };
    put("kind", record.fact.kind());
    put("tenant", &record.tenant);
    match &record.fact {
        Fact::Role { role } => put("role", role),
        Fact::Permission { role, permission } => {
            put("role", role);
            put("permission", permission);
        }
        Fact::Grant { subject, role } => {
            put(subject.kind(), subject.name());
            put("role", role);
        }
        Fact::Member { subject, group } => {
            put(subject.kind(), subject.name());
            put("of", group);
        }
        Fact::Entry { resource, subject, permission, effect } => {
            put("resource", resource);
            put(subject.kind(), subject.name());
            put("permission", permission);
            put("effect", effect.name());
        }
        Fact::Deactivated { user } => put("user", user),
    }
    Value::Object(fields)
}

fn fields_of<'v>(value: &'v Value, known: &[&str]) -> Result<&'v Map<String, Value>, String> {
    let fields = value.as_object().ok_or("an object is expected")?;
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(format!("`{unknown}` is not known; there are {}", known.join(", "))),
        None => Ok(fields),
    }
}

fn optional(fields: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` must be a text")),
    }
}

fn needed(fields: &Map<String, Value>, key: &str) -> Result<String, String> {
    optional(fields, key)?.filter(|text| !text.is_empty()).ok_or_else(|| format!("`{key}` is missing"))
}
