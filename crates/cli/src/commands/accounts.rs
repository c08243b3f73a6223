//! `accounts create|list|show|disable|enable|unlock`: who may log in to the running gateway.
//!
//! Invariant: a password comes from standard input or a file, never from an argument, where others could read it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::control_client::{Common, encoded};

/// A password is shorter than this.
const MOST_BYTES: u64 = 4096;

/// What to do with accounts.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make an account. The password is read from standard input, without the line's end.
    Create {
        /// Its name: letters a-z, digits, dots, dashes and underscores.
        user: String,
        /// Give it the role `admin`.
        #[arg(long)]
        admin: bool,
        /// Give it a role. May be given several times.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// The tenant it belongs to.
        #[arg(long, default_value = "")]
        tenant: String,
        /// Its address for mail.
        #[arg(long)]
        email: Option<String>,
        /// Read the password from this file instead.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Show all accounts.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one account.
    Show {
        /// Its name.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let nobody log in to it: its sessions end and its keys are refused, from the next request on.
    Disable {
        /// Its name.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let its owner log in again.
    Enable {
        /// Its name.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// Forget wrong guesses at it.
    Unlock {
        /// Its name.
        user: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Does one of them.
///
/// # Errors
/// When the gateway cannot be asked, or says no.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create { user, admin, mut roles, tenant, email, password_file, common } => {
            if admin && !roles.iter().any(|role| role == "admin") {
                roles.push("admin".to_owned());
            }
            let password = password(password_file.as_deref())?;
            let order = json!({ "user": user, "password": password, "tenant": tenant, "email": email, "roles": roles });
            told("made", &common.which.ask_well("POST", "/api/v1/accounts", &order)?, &common)
        }
        Command::List { common } => list(&common),
        Command::Show { user, common } => {
            let account = common.which.ask_well("GET", &at(&user), &Value::Null)?;
            if common.json {
                println!("{account}");
            } else if let Some(fields) = account.as_object() {
                for (name, value) in fields {
                    println!("{name:<14} {}", text(value));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Disable { user, common } => change("disabled", &user, &json!({ "disabled": true }), &common),
        Command::Enable { user, common } => change("enabled", &user, &json!({ "disabled": false }), &common),
        Command::Unlock { user, common } => change("unlocked", &user, &json!({ "unlock": true }), &common),
    }
}

fn at(user: &str) -> String {
    format!("/api/v1/accounts/{}", encoded(user))
}

fn change(what: &str, user: &str, change: &Value, common: &Common) -> anyhow::Result<ExitCode> {
    told(what, &common.which.ask_well("POST", &at(user), change)?, common)
}

fn told(what: &str, account: &Value, common: &Common) -> anyhow::Result<ExitCode> {
    if common.json {
        println!("{account}");
    } else {
        println!("{what} {}", text(&account["user"]));
        if account["durable"] == false {
            println!("(the gateway has no durable store: this is forgotten when it ends; see store.url)");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(common: &Common) -> anyhow::Result<ExitCode> {
    let mut accounts: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let mut page = common.which.ask_well("GET", &format!("/api/v1/accounts?after={after}"), &Value::Null)?;
        if let Value::Array(more) = page["accounts"].take() {
            accounts.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => after = encoded(next),
            None => break,
        }
    }
    if common.json {
        println!("{}", Value::Array(accounts));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<24} {:<16} {:<10} {:<6} {:<8} ROLES", "USER", "TENANT", "STATE", "TOTP", "SESSIONS");
    for account in &accounts {
        let state = match (&account["disabled"], &account["locked"]) {
            (Value::Bool(true), _) => "disabled",
            (_, Value::Bool(true)) => "locked",
            _ => "active",
        };
        let totp = if account["secondFactor"] == true { "yes" } else { "no" };
        let (user, tenant, roles) = (text(&account["user"]), text(&account["tenant"]), text(&account["roles"]));
        let line = format!("{user:<24} {tenant:<16} {state:<10} {totp:<6} {:<8} {roles}", text(&account["sessions"]));
        println!("{}", line.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

/// The password: the first line of the file or of standard input.
fn password(file: Option<&Path>) -> anyhow::Result<String> {
    let mut password = String::new();
    match file {
        Some(path) => {
            let opened = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
            opened
                .take(MOST_BYTES)
                .read_to_string(&mut password)
                .with_context(|| format!("reading {}", path.display()))?
        }
        None => std::io::stdin().take(MOST_BYTES).read_to_string(&mut password).context("reading the password")?,
    };
    let line = password.lines().next().unwrap_or_default();
    anyhow::ensure!(
        !line.is_empty(),
        "there is no password: write it to standard input, or name a file with --password-file"
    );
    Ok(line.to_owned())
}

/// A value as people read it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
