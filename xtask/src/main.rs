//! Developer commands: `cargo xtask test|setup|gen|tidy|bench|instructions|new-guard`.
//!
//! One file a command in `commands/`-style modules; this file only parses and dispatches.
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Developer commands for Portcullis")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says which commands exist (placeholder until the first one lands).
    List,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::List => {
            println!("no commands yet");
            Ok(())
        }
    }
}
