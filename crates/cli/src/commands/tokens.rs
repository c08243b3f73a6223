//! `tokens revoke|list`: JSON Web Tokens that the running gateway takes no more.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::control_client::Common;

/// What to do with tokens.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show what is withdrawn.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Withdraw one token, or all of a user that were issued until now, from the next request on. It holds in the running
    /// gateway, until no such token can be valid any more or the process ends.
    #[command(group(clap::ArgGroup::new("what").required(true).args(["id", "user"])))]
    Revoke {
        /// The issuer, as `iss` has it.
        #[arg(long)]
        issuer: String,
        /// The token's `jti`.
        #[arg(long)]
        id: Option<String>,
        /// The user, as the access log names it.
        #[arg(long)]
        user: Option<String>,
        /// For how long, as 30m, 4h, 7d. Without it as long as the issuer's tokens can be valid.
        #[arg(long = "for", value_name = "TIME")]
        time: Option<String>,
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
        Command::List { common } => {
            let answer = common.which.ask_well("GET", "/api/v1/tokens/revoked", &Value::Null)?;
            if common.json {
                println!("{}", answer["revoked"]);
                return Ok(ExitCode::SUCCESS);
            }
            println!("{:<40} {:<6} {:<40} UNTIL", "ISSUER", "WHAT", "NAME");
            for record in answer["revoked"].as_array().into_iter().flatten() {
                println!("{}", line(record));
            }
        }
        Command::Revoke { issuer, id, user, time, common } => {
            let order = json!({ "issuer": issuer, "id": id, "user": user, "for": time });
            let answer = common.which.ask_well("POST", "/api/v1/tokens/revoked", &order)?;
            if common.json {
                println!("{answer}");
            } else {
                println!("revoked {}", line(&answer["revoked"]));
                println!("(kept in the running gateway only: a restart forgets it)");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    let (what, name) = if record["id"].is_null() { ("user", text("user")) } else { ("id", text("id")) };
    format!("{:<40} {what:<6} {name:<40} {}", text("issuer"), text("until"))
}
