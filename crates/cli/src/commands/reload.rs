//! `reload`: sends HUP to the running gateway and waits until it says whether it took the config.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::telemetry_client;

/// How long the gateway may take to answer for its reload.
const LONGEST: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Options of `reload`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The telemetry listener of the running gateway.
    #[arg(long, default_value = "127.0.0.1:9701")]
    telemetry: SocketAddr,
}

/// Reloads and tells the outcome: exit 0 when the config was taken, 1 with every mistake when the old one goes on.
///
/// # Errors
/// When the gateway cannot be asked or does not answer for its reload in time.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let before = config_of(arguments.telemetry)?;
    let pid = before["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = pid.context("the health page names no process")?;
    kill_process(pid, Signal::HUP).with_context(|| format!("sending HUP to process {}", pid.as_raw_nonzero()))?;
    let started = Instant::now();
    while started.elapsed() < LONGEST {
        std::thread::sleep(LOOK_EVERY);
        let after = config_of(arguments.telemetry)?;
        if after["config"]["attempts"] == before["config"]["attempts"] {
            continue;
        }
        let Some(mistakes) = after["config"]["refused"].as_array() else {
            println!("reloaded: generation {}", after["config"]["generation"]);
            return Ok(ExitCode::SUCCESS);
        };
        for mistake in mistakes {
            eprintln!("{}", mistake.as_str().unwrap_or_default());
        }
        eprintln!("refused: generation {} goes on", after["config"]["generation"]);
        return Ok(ExitCode::from(1));
    }
    bail!("process {} did not answer for its reload within {} s", pid.as_raw_nonzero(), LONGEST.as_secs())
}

fn config_of(telemetry: SocketAddr) -> anyhow::Result<Value> {
    let (_, body) = telemetry_client::get(telemetry, "/health")?;
    serde_json::from_str(&body).with_context(|| format!("reading the health page of {telemetry}"))
}
