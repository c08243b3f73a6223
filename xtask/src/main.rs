//! Developer commands: `cargo xtask test|setup|gen|tidy|bench|instructions|new-guard`.
//!
//! One file a command in `commands/`-style modules; this file only parses and dispatches.
mod bench;
mod instructions;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Developer commands for Portcullis")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures the gateway beside HAProxy and nginx: CPU per request, latency, memory.
    Bench(bench::Arguments),
    /// Counts user instructions and system calls per request, and holds them against a baseline.
    Instructions(instructions::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
    }
}
