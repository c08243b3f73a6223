//! `audit list`: who changed what in the running gateway.

use std::process::ExitCode;

use serde_json::Value;

use crate::control_client::Common;

/// What to do with the record.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show acts, newest first. One without a status was interrupted, and may or may not have been done.
    List {
        /// How many at most.
        #[arg(long, default_value_t = 50)]
        most: usize,
        #[command(flatten)]
        common: Common,
    },
}

/// Does it.
///
/// # Errors
/// When the gateway cannot be asked, or says no.
pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let Command::List { most, common } = command;
    let mut acts: Vec<Value> = Vec::new();
    let mut before = String::new();
    while acts.len() < *most {
        let mut page = common.which.ask_well("GET", &format!("/api/v1/audit{before}"), &Value::Null)?;
        if let Value::Array(more) = page["acts"].take() {
            acts.extend(more);
        }
        match page["next"].as_u64() {
            Some(next) => before = format!("?before={next}"),
            None => break,
        }
    }
    acts.truncate(*most);
    if common.json {
        println!("{}", Value::Array(acts));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<7} {:<24} {:<20} {:<20} {:<6} TARGET", "NUMBER", "TIME", "WHO", "ACTION", "STATUS");
    for act in &acts {
        let text = |key: &str| act[key].as_str().unwrap_or("-");
        let status = act["status"].as_u64().map_or_else(|| "?".to_owned(), |status| status.to_string());
        println!(
            "{:<7} {:<24} {:<20} {:<20} {status:<6} {}",
            act["number"],
            text("time"),
            text("who"),
            text("action"),
            text("target").escape_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}
