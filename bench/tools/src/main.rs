//! The upstream and the load generators of `cargo xtask bench`.
//!
//! One single-threaded binary, so that it can be pinned to one core with `taskset` and costs next to
//! nothing beside the proxy under test. `xtask` starts it and reads one JSON line from its standard output.
//!
//! Invariant: every answer is checked (status, framing, body length); a proxy that answers wrongly is
//! counted as failing, never as fast.
mod answer;
mod client;
mod closed;
mod drain;
mod h2;
mod idle;
mod open;
mod reactor;
mod request;
mod tls;
mod tokens;
mod upstream;
mod watch;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench-tools", about = "Upstream and load generators for `cargo xtask bench`")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers every request with 200 and 200 bytes, until killed.
    Upstream(upstream::Arguments),
    /// Throws away what arrives over TCP and UDP (the far end of a log that leaves by network), until killed.
    Drain(drain::Arguments),
    /// N connections, each sending its next request as soon as the last was answered.
    Closed(closed::Arguments),
    /// HTTP/2 over TLS, by h2load, with the counting window of `closed`.
    H2(h2::Arguments),
    /// A fixed rate; latency counts from the moment a request was due, not from when it was sent.
    Open(open::Arguments),
    /// Makes JSON Web Tokens for a load, and the keys to check them.
    Tokens(tokens::Arguments),
    /// Opens connections, uses each once and leaves them idle; reports the memory that took.
    Idle(idle::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Upstream(arguments) => upstream::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Closed(arguments) => closed::run(&arguments),
        Command::H2(arguments) => h2::run(&arguments),
        Command::Open(arguments) => open::run(&arguments),
        Command::Tokens(arguments) => tokens::run(&arguments),
        Command::Idle(arguments) => idle::run(&arguments),
    }
}
