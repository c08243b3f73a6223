//! `admin-token`: makes a token for the admin API. The config holds its hash; the token itself is printed once and kept nowhere.

use std::process::ExitCode;

use anyhow::{Context, bail};
use portcullis_gateway::admin;

/// What the token may do.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Whose it is, in logs and in the record of acts.
    #[arg(long, default_value = "admin")]
    name: String,
    /// What it may do: an action as bans.add, all of a kind as bans.*, or *. May be given several times.
    #[arg(long = "scope", value_name = "SCOPE", required_unless_present = "scopes")]
    scope: Vec<String>,
    /// List all actions and exit.
    #[arg(long)]
    scopes: bool,
}

/// Prints the token to standard output and what belongs into the config to standard error, so that a pipe gets the token alone.
///
/// # Errors
/// When a scope names nothing, or there is no randomness.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.scopes {
        for action in admin::actions() {
            println!("{action}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = arguments.scope.iter().find(|scope| !admin::is_scope(scope)) {
        bail!("`{unknown}` is no action of the API; `portcullis admin-token --scopes` lists them");
    }
    let made = admin::make_token().context("the operating system gave no random bytes")?;
    let scopes: Vec<String> = arguments.scope.iter().map(|scope| format!("\"{scope}\"")).collect();
    eprintln!("The token, shown this once, is on standard output. Into the config:\n\nadmin:\n  tokens:");
    eprintln!("    - {{ name: {}, sha256: {}, scopes: [{}] }}\n", arguments.name, made.sha256, scopes.join(", "));
    println!("{}", made.token.expose());
    Ok(ExitCode::SUCCESS)
}
