//! `roles ...`: who may do what, in the running gateway.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::control_client::{Which, encoded};

/// What to do with roles and all that belongs to them.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show every record: roles and what they permit, grants, members of groups, entries, deactivated users.
    List {
        /// Only of this kind.
        #[arg(long, value_parser = ["role", "permission", "grant", "member", "entry", "deactivated"])]
        kind: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show what a role permits and who has it. Exit 1 when there is no such role.
    Show {
        /// The role.
        role: String,
        #[command(flatten)]
        common: Common,
    },
    /// Add a role, or permissions to one that is there.
    Add {
        /// The role.
        role: String,
        /// What it permits, as `documents:write`, `documents:*` or `*`. Can be given several times.
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a role with all its grants, or only some of its permissions.
    Remove {
        /// The role.
        role: String,
        /// Only these permissions.
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Grant a role to a user or to everyone in a group.
    Grant {
        /// The role.
        role: String,
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        common: Common,
    },
    /// Take a role back from a user or group.
    Revoke {
        /// The role.
        role: String,
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        common: Common,
    },
    /// Put a user or a group into a group. A group is there as long as something names it.
    Join {
        /// The group.
        #[arg(value_name = "GROUP")]
        into: String,
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        common: Common,
    },
    /// Take a user or a group out of a group.
    Leave {
        /// The group.
        #[arg(value_name = "GROUP")]
        from: String,
        #[command(flatten)]
        subject: Subject,
        #[command(flatten)]
        common: Common,
    },
    /// Allow something on a resource.
    Allow {
        #[command(flatten)]
        entry: Entry,
        #[command(flatten)]
        common: Common,
    },
    /// Deny something on a resource, whatever else allows it.
    Deny {
        #[command(flatten)]
        entry: Entry,
        #[command(flatten)]
        common: Common,
    },
    /// Forget what was allowed or denied on a resource.
    Clear {
        #[command(flatten)]
        entry: Entry,
        #[command(flatten)]
        common: Common,
    },
    /// Let a user do nothing any more on routes that ask for permissions.
    Deactivate {
        /// The user.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// End that.
    Activate {
        /// The user.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// Ask whether a user may do something, and why. Exit 0 for yes, 1 for no.
    Check {
        /// The user.
        user: String,
        /// A permission it must have. Can be given several times.
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// A role, of which it must have at least one. Can be given several times.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// A role that its token carries. Can be given several times.
        #[arg(long = "carried", value_name = "ROLE")]
        carried: Vec<String>,
        /// The resource that the permissions are asked for on.
        #[arg(long, value_name = "RESOURCE")]
        on: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

/// What all of them take.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// The tenant. Default: the one of users without a tenant; for `list`, all of them.
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A user or a group.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Subject {
    /// A user, as its identity names it.
    #[arg(long)]
    user: Option<String>,
    /// Everyone in this group.
    #[arg(long)]
    group: Option<String>,
}

/// An entry on a resource.
#[derive(clap::Args)]
pub(crate) struct Entry {
    /// What may be done or not, as `documents:write`, `documents:*` or `*`.
    permission: String,
    /// On which resource, as `document:42`, `document:*` or `*`.
    #[arg(long, value_name = "RESOURCE")]
    on: String,
    #[command(flatten)]
    subject: Subject,
}

/// Does one of them.
///
/// # Errors
/// When the gateway cannot be asked, or says no.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { kind, common } => list(kind.as_deref(), &common),
        Command::Show { role, common } => show(&role, &common),
        Command::Add { role, permissions, common } => {
            let of_role = |permission: &String| json!({ "kind": "permission", "role": role, "permission": permission });
            let all = [json!({ "kind": "role", "role": role })].into_iter().chain(permissions.iter().map(of_role));
            change("add", all.collect(), &common)
        }
        Command::Remove { role, permissions, common } => {
            let of_role = |permission: &String| json!({ "kind": "permission", "role": role, "permission": permission });
            let some: Vec<Value> = permissions.iter().map(of_role).collect();
            let all = if some.is_empty() { vec![json!({ "kind": "role", "role": role })] } else { some };
            change("remove", all, &common)
        }
        Command::Grant { role, subject, common } => change("add", vec![grant(&role, &subject)], &common),
        Command::Revoke { role, subject, common } => change("remove", vec![grant(&role, &subject)], &common),
        Command::Join { into, subject, common } => change("add", vec![member(&into, &subject)], &common),
        Command::Leave { from, subject, common } => change("remove", vec![member(&from, &subject)], &common),
        Command::Allow { entry, common } => change("add", vec![entry.record("allow")], &common),
        Command::Deny { entry, common } => change("add", vec![entry.record("deny")], &common),
        Command::Clear { entry, common } => change("remove", vec![entry.record("allow")], &common),
        Command::Deactivate { user, common } => {
            change("add", vec![json!({ "kind": "deactivated", "user": user })], &common)
        }
        Command::Activate { user, common } => {
            change("remove", vec![json!({ "kind": "deactivated", "user": user })], &common)
        }
        Command::Check { user, permissions, roles, carried, on, common } => {
            let asked = json!({
                "tenant": common.tenant, "user": user, "permissions": permissions, "roles": roles, "carried": carried,
                "resource": on, "explain": true,
            });
            check(&asked, &common)
        }
    }
}

fn grant(role: &str, subject: &Subject) -> Value {
    subject.with(json!({ "kind": "grant", "role": role }))
}

fn member(group: &str, subject: &Subject) -> Value {
    subject.with(json!({ "kind": "member", "of": group }))
}

impl Subject {
    fn with(&self, mut record: Value) -> Value {
        for (key, name) in [("user", &self.user), ("group", &self.group)] {
            if let Some(name) = name {
                record[key] = Value::from(name.as_str());
            }
        }
        record
    }
}

impl Entry {
    fn record(&self, effect: &str) -> Value {
        self.subject
            .with(json!({ "kind": "entry", "resource": self.on, "permission": self.permission, "effect": effect }))
    }
}

/// Makes one change of all `records`. Exit 1 when it changed nothing.
fn change(what: &str, mut records: Vec<Value>, common: &Common) -> anyhow::Result<ExitCode> {
    for record in &mut records {
        record["tenant"] = Value::from(common.tenant.clone().unwrap_or_default());
    }
    let orders: Vec<Value> =
        records.into_iter().map(|record| Value::Object(Map::from_iter([(what.to_owned(), record)]))).collect();
    let answer = common.which.ask_well("POST", "/api/v1/permissions/changes", &json!({ "changes": orders }))?;
    let changes = answer["changes"].as_array().map_or(&[][..], Vec::as_slice);
    if common.json {
        println!("{answer}");
    } else {
        for change in changes {
            let told = |record: &Value, what| (!record.is_null()).then(|| println!("{what} {}", line(record)));
            let _ = (told(&change["add"], "added"), told(&change["remove"], "removed"));
        }
        if changes.is_empty() {
            println!("nothing to change: it is so already");
        } else if answer["durable"] != true {
            println!("(the gateway has no durable store: this is forgotten when it ends; see store.url)");
        }
    }
    Ok(ExitCode::from(u8::from(changes.is_empty())))
}

fn check(asked: &Value, common: &Common) -> anyhow::Result<ExitCode> {
    let answer = common.which.ask_well("POST", "/api/v1/permissions/check", asked)?;
    let is_allowed = answer["allowed"] == true;
    if common.json {
        println!("{answer}");
    } else {
        let by = text(&answer["by"]);
        let word = if is_allowed { "allowed" } else { "refused" };
        println!("{}", if by.is_empty() { word.to_owned() } else { format!("{word}: {by}") });
    }
    Ok(ExitCode::from(u8::from(!is_allowed)))
}

/// Every record that there is, or of one tenant.
fn records(common: &Common) -> anyhow::Result<Vec<Value>> {
    let tenant = common.tenant.as_ref().map_or(String::new(), |tenant| format!("&tenant={}", encoded(tenant)));
    let mut records: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/permissions?{}", format!("{after}{tenant}").trim_start_matches('&'));
        let mut page = common.which.ask_well("GET", &path, &Value::Null)?;
        if let Value::Array(more) = page["records"].take() {
            records.extend(more);
        }
        match &page["next"] {
            Value::Null => return Ok(records),
            next => after = format!("&after={}", encoded(&next.to_string())),
        }
    }
}

fn list(kind: Option<&str>, common: &Common) -> anyhow::Result<ExitCode> {
    let mut found = records(common)?;
    found.retain(|record| kind.is_none_or(|kind| record["kind"] == kind));
    tell(found, common);
    Ok(ExitCode::SUCCESS)
}

fn show(role: &str, common: &Common) -> anyhow::Result<ExitCode> {
    let tenant = common.tenant.clone().unwrap_or_default();
    let mut found = records(common)?;
    found.retain(|record| record["tenant"] == *tenant && record["role"] == *role);
    let is_there = found.iter().any(|record| record["kind"] == "role");
    tell(found, common);
    Ok(ExitCode::from(u8::from(!is_there)))
}

fn tell(records: Vec<Value>, common: &Common) {
    if common.json {
        println!("{}", Value::Array(records));
        return;
    }
    for record in &records {
        println!("{}", line(record));
    }
}

/// A record in words.
fn line(record: &Value) -> String {
    let of = |key: &str| text(&record[key]);
    let subject = match record["user"].as_str() {
        Some(user) => format!("user {user}"),
        None => format!("group {}", of("group")),
    };
    let said = match of("kind") {
        "role" => format!("role {}", of("role")),
        "permission" => format!("role {} permits {}", of("role"), of("permission")),
        "grant" => format!("{subject} has role {}", of("role")),
        "member" => format!("{subject} is in group {}", of("of")),
        "entry" => format!("{} {subject}: {} on {}", of("effect"), of("permission"), of("resource")),
        _ => format!("{subject} is deactivated"),
    };
    match of("tenant") {
        "" => said,
        tenant => format!("{tenant}: {said}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
