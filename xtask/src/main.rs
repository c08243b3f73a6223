//! Developer commands: `cargo xtask test|setup|tidy|gen|fuzz|slow|new-guard|bench|instructions`.
//!
//! One module a command; this file only parses and dispatches.
//!
//! Invariant: every command says what it does before it takes long, and fails with a non-zero exit.

mod bench;
mod fuzz;
mod generate;
mod instructions;
mod new_guard;
mod process;
mod setup;
mod slow;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Developer commands for Portcullis")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what the tests need, then runs every check and every test. What CI calls.
    Test,
    /// Installs what the tests need: programs of Debian, Node, Python and Go. Quick when all is there.
    Setup,
    /// Holds the tree against the rules of the house: arrows, guard folders, headers, sizes, clocks, the error catalogue.
    Tidy,
    /// Writes docs/reference from the declarations in the code.
    Gen(generate::Arguments),
    /// Runs every fuzz target for a while.
    Fuzz(fuzz::Arguments),
    /// A thousand slow clients of four kinds, and what others notice of them. Takes some minutes.
    Slow(slow::Arguments),
    /// Makes the folder of a new guard and tells what else it needs.
    NewGuard(new_guard::Arguments),
    /// Measures the gateway beside HAProxy and nginx: CPU per request, latency, memory.
    Bench(bench::Arguments),
    /// Counts user instructions and system calls per request, and holds them against a baseline.
    Instructions(instructions::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Test => test::run(),
        Command::Setup => setup::run(),
        Command::Tidy => tidy::run(),
        Command::Gen(arguments) => generate::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Slow(arguments) => slow::run(&arguments),
        Command::NewGuard(arguments) => new_guard::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
    }
}
