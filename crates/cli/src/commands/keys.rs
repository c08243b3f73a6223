//! `keys create|list|revoke`: API keys of an account of the running gateway.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::accounts::text;
use crate::control_client::{Common, encoded};

/// What to do with API keys.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key. It is shown this once.
    Create {
        /// The account that it acts for.
        user: String,
        /// What to call it.
        #[arg(long)]
        name: String,
        /// What it may be used for. May be given several times; without it everything that its owner may do.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// For how long, as 30d. Without it until somebody revokes it.
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show the keys of an account.
    List {
        /// The account.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// Revoke a key, from the next request on.
    Revoke {
        /// The account.
        user: String,
        /// The key, as `keys list` shows it.
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Does one of them.
///
/// # Errors
/// When the gateway cannot be asked, or says no.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    let at = |user: &str| format!("/api/v1/keys/{}", encoded(user));
    match command {
        Command::Create { user, name, scopes, time, common } => {
            let order = json!({ "name": name, "scopes": scopes, "for": time });
            let answer = common.which.ask_well("POST", &at(&user), &order)?;
            if common.json {
                println!("{answer}");
            } else {
                println!("{}", text(&answer["key"]));
                eprintln!("(shown this once; what is kept cannot be turned back into it)");
            }
        }
        Command::List { user, common } => {
            let answer = common.which.ask_well("GET", &at(&user), &Value::Null)?;
            if common.json {
                println!("{}", answer["keys"]);
                return Ok(ExitCode::SUCCESS);
            }
            println!("{:<18} {:<20} {:<26} {:<26} SCOPES", "ID", "NAME", "UNTIL", "USED");
            for key in answer["keys"].as_array().into_iter().flatten() {
                let (id, name, until) = (text(&key["id"]), text(&key["name"]), text(&key["until"]));
                println!("{id:<18} {name:<20} {until:<26} {:<26} {}", text(&key["used"]), text(&key["scopes"]));
            }
        }
        Command::Revoke { user, id, common } => {
            let path = format!("{}?id={}", at(&user), encoded(&id));
            let answer = common.which.ask_well("DELETE", &path, &Value::Null)?;
            if common.json {
                println!("{answer}");
            } else {
                println!("revoked {id}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
