//! `sessions list|end`: who is logged in to an account of the running gateway.

use std::process::ExitCode;

use serde_json::Value;

use super::accounts::text;
use crate::control_client::{Common, encoded};

/// What to do with sessions.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show the sessions of an account.
    List {
        /// The account.
        user: String,
        #[command(flatten)]
        common: Common,
    },
    /// End one session of an account, or all of them.
    End {
        /// The account.
        user: String,
        /// The session, as `sessions list` shows it. Without it all of them.
        #[arg(long)]
        id: Option<String>,
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
        Command::List { user, common } => {
            let answer = common.which.ask_well("GET", &format!("/api/v1/sessions/{}", encoded(&user)), &Value::Null)?;
            if common.json {
                println!("{}", answer["sessions"]);
                return Ok(ExitCode::SUCCESS);
            }
            println!("{:<18} {:<26} {:<26} {:<20} {:<6} CLIENT", "ID", "SINCE", "SEEN", "NETWORK", "TOTP");
            for session in answer["sessions"].as_array().into_iter().flatten() {
                let field = |name: &str| text(&session[name]);
                let totp = if session["secondFactor"] == true { "yes" } else { "no" };
                let (id, since, seen, network) = (field("id"), field("since"), field("seen"), field("network"));
                println!("{id:<18} {since:<26} {seen:<26} {network:<20} {totp:<6} {}", field("agent"));
            }
        }
        Command::End { user, id, common } => {
            let id = id.map_or(String::new(), |id| format!("?id={}", encoded(&id)));
            let path = format!("/api/v1/sessions/{}{id}", encoded(&user));
            let answer = common.which.ask_well("DELETE", &path, &Value::Null)?;
            if common.json {
                println!("{answer}");
            } else {
                println!("ended {} session(s) of {user}", text(&answer["ended"]));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
