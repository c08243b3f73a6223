//! `health`: asks the telemetry listener whether the gateway is ready.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::telemetry_client;

/// Options of `health`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The telemetry listener of the running gateway.
    #[arg(long, default_value = "127.0.0.1:9701")]
    telemetry: SocketAddr,
}

/// Prints `/health` and exits 0 when it is 200.
///
/// # Errors
/// When nobody answers.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (status, body) = telemetry_client::get(arguments.telemetry, "/health")?;
    print!("{body}");
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
