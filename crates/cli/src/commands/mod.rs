//! The verbs, one file each.

mod accounts;
mod admin_token;
mod audit;
mod bans;
mod completion;
mod config;
mod demo;
mod explain;
mod health;
mod keys;
mod read_only;
mod reload;
mod roles;
mod run;
mod sessions;
mod tokens;
mod validate;

use std::process::ExitCode;

use clap::Subcommand;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve, from a config file or with `--upstream` alone.
    Run(run::Arguments),
    /// Show it: a sample service, the gateway before it, and what to try.
    Demo(demo::Arguments),
    /// Tell every mistake in a config file, with file:line:column. Connects to nothing without `--connect`. Also: `portcullis -t`.
    Validate(validate::Arguments),
    /// Show what each guard would decide about a request, and by which rule. Changes nothing.
    Explain(explain::Arguments),
    /// Show the effective config, its JSON Schema, a commented example, or what differs between two files.
    #[command(subcommand)]
    Config(config::Command),
    /// Show which routes of the running gateway refuse writes, and make them do so or not by hand.
    #[command(subcommand)]
    ReadOnly(read_only::Command),
    /// Show, add and lift bans of the running gateway.
    #[command(subcommand)]
    Bans(bans::Command),
    /// Make a token for the admin API: prints it once, and what belongs into the config.
    AdminToken(admin_token::Arguments),
    /// Show who changed what in the running gateway.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Show and change who may do what: roles, grants, groups, entries on resources; and check.
    #[command(subcommand)]
    Roles(roles::Command),
    /// Make, show, disable and unlock accounts of the running gateway.
    #[command(subcommand)]
    Accounts(accounts::Command),
    /// Show and end sessions of an account.
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Make, show and revoke API keys of an account.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Withdraw JSON Web Tokens before they expire, and show what is withdrawn.
    #[command(subcommand)]
    Tokens(tokens::Command),
    /// Make the running gateway read its config again, and tell whether it took it.
    Reload(reload::Arguments),
    /// Exit 0 when the running gateway is ready, 1 when not: for Docker's HEALTHCHECK.
    Health(health::Arguments),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completion(completion::Arguments),
}

/// Does one verb.
///
/// # Errors
/// What could not be done, with its cause.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Config(command) => config::run(command),
        Command::ReadOnly(command) => read_only::run(command),
        Command::Bans(command) => bans::run(command),
        Command::AdminToken(arguments) => admin_token::run(&arguments),
        Command::Audit(command) => audit::run(&command),
        Command::Roles(command) => roles::run(command),
        Command::Accounts(command) => accounts::run(command),
        Command::Sessions(command) => sessions::run(command),
        Command::Keys(command) => keys::run(command),
        Command::Tokens(command) => tokens::run(command),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Version => {
            println!("portcullis {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completion(arguments) => completion::run(&arguments),
    }
}
