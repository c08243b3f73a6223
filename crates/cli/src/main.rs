//! The binary `portcullis`: reads the command line, does one verb, and turns its result into an exit code.
//!
//! Each verb is a file in `commands/`. Exit codes: 0 done, 1 failed, 2 forced to stop, 3 could not finish cleanly.
//!
//! Invariant: no verb prints a secret.

mod commands;
mod control_client;
mod demo;
mod source;
mod telemetry_client;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;

/// A request allocates some forty times, most of it inside hyper; this allocator does that with a third of the
/// instructions of the system's (`cargo xtask instructions`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One gate in front of any HTTP service.
#[derive(Parser)]
#[command(name = "portcullis", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    // `-t` is what nginx and HAProxy users type.
    let words = std::env::args_os().enumerate().map(
        |(index, word)| {
            if index == 1 && word == "-t" { "validate".into() } else { word }
        },
    );
    match commands::run(Arguments::parse_from(words).command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::from(1)
        }
    }
}
