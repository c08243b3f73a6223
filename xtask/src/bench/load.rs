//! Calls of `bench-tools`, with typed results.
//!
//! Invariant: a run in which an answer was wrong or missing is an error here and never reaches a table.
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::candidate::{Peers, free_address};
use super::machine::{self, LOAD_CPU};

/// Connections of every load.
pub(crate) const CONNECTIONS: usize = 64;

/// One slice of closed-loop load.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Slice {
    answered: u64,
    wrong: u64,
    lost: u64,
    elapsed_ns: u64,
    cpu_ns: u64,
    disturbed_ns: u64,
    /// Answers in all, warm-up included; what the access log must account for.
    pub(crate) answered_in_all: u64,
    statuses: std::collections::BTreeMap<String, u64>,
}

impl Slice {
    /// Requests answered a second.
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.answered as f64 * 1e9 / self.elapsed_ns as f64
    }

    /// The proxy's own CPU time per request, kernel included, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1000.0 / self.answered as f64
    }

    /// The share of the slice in which the proxy was ready to run but a stranger had its core.
    pub(crate) fn disturbed(&self) -> f64 {
        self.disturbed_ns as f64 / self.elapsed_ns as f64
    }
}

#[cfg(test)]
impl Slice {
    /// A slice of one second with this CPU per request and this share of waiting.
    pub(crate) fn pretend(cpu_us: f64, disturbed: f64) -> Self {
        Self {
            answered: 1000,
            wrong: 0,
            lost: 0,
            elapsed_ns: 1_000_000_000,
            cpu_ns: (cpu_us * 1e6) as u64,
            disturbed_ns: (disturbed * 1e9) as u64,
            answered_in_all: 1000,
            statuses: std::collections::BTreeMap::new(),
        }
    }
}

/// One slice of open-loop load: latency from the moment a request was due, in microseconds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Latency {
    wrong: u64,
    lost: u64,
    /// Half of the requests were faster.
    pub(crate) p50_us: f64,
    /// 99 in 100 were faster.
    pub(crate) p99_us: f64,
}

/// Resident memory around many idle connections.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Idle {
    /// Before they were opened, after the load had run.
    pub(crate) before_bytes: u64,
    after_bytes: u64,
    connections: u64,
}

impl Idle {
    /// Bytes each connection added.
    pub(crate) fn bytes_per_connection(&self) -> f64 {
        self.after_bytes.saturating_sub(self.before_bytes) as f64 / self.connections as f64
    }
}

/// One answer, as `checks.rs` reads it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Probe {
    /// Status code.
    pub(crate) status: u16,
    /// Header fields by lower-case name.
    pub(crate) fields: std::collections::BTreeMap<String, String>,
    /// The head as the upstream saw it, where it was asked.
    pub(crate) body: String,
}

/// How many answers of a slice may be wrong: none, or one where a limiter lets a request through now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expectation {
    /// The status.
    pub(crate) status: u16,
    /// Answers that may be different.
    pub(crate) slips: u64,
}

fn tools() -> anyhow::Result<Command> {
    let mut command = machine::pinned(LOAD_CPU);
    command.arg(machine::built("bench-tools")?);
    Ok(command)
}

fn ask<T: DeserializeOwned>(verb: &str, target: SocketAddr, arguments: &[String]) -> anyhow::Result<T> {
    let output = tools()?
        .args([verb, "--target", &target.to_string()])
        .args(arguments)
        .stderr(Stdio::piped())
        .output()
        .context("starting bench-tools")?;
    if !output.status.success() {
        bail!("bench-tools {verb}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading the answer of bench-tools {verb}"))
}

fn watch(pids: &[u32]) -> impl Iterator<Item = String> {
    pids.iter().flat_map(|pid| ["--watch".to_owned(), pid.to_string()])
}

fn check(wrong: u64, lost: u64, expectation: Expectation, statuses: &str) -> anyhow::Result<()> {
    if wrong > expectation.slips || lost > 0 {
        bail!("{wrong} answers were wrong (expected {}) and {lost} never came {statuses}", expectation.status);
    }
    Ok(())
}

/// Counts for `length` after `warm`, watching the CPU time of `pids`.
pub(crate) fn closed(
    target: SocketAddr,
    pids: &[u32],
    warm: Duration,
    length: Duration,
    expectation: Expectation,
) -> anyhow::Result<Slice> {
    let mut arguments = vec![
        format!("--connections={CONNECTIONS}"),
        format!("--warm-ms={}", warm.as_millis()),
        format!("--for-ms={}", length.as_millis()),
        format!("--expect={}", expectation.status),
    ];
    arguments.extend(watch(pids));
    let slice: Slice = ask("closed", target, &arguments)?;
    check(slice.wrong, slice.lost, expectation, &format!("{:?}", slice.statuses))?;
    if slice.answered == 0 {
        bail!("nothing was answered");
    }
    Ok(slice)
}

/// Sends exactly `requests` requests.
pub(crate) fn exactly(requests: u64, target: SocketAddr, expectation: Expectation) -> anyhow::Result<()> {
    let arguments = [
        format!("--connections={CONNECTIONS}"),
        format!("--requests={requests}"),
        format!("--expect={}", expectation.status),
    ];
    let slice: Slice = ask("closed", target, &arguments)?;
    check(slice.wrong, slice.lost, expectation, &format!("{:?}", slice.statuses))
}

/// Measures latency at a fixed rate.
pub(crate) fn open(target: SocketAddr, rate: u32, expectation: Expectation) -> anyhow::Result<Latency> {
    let arguments =
        [format!("--connections={CONNECTIONS}"), format!("--rate={rate}"), format!("--expect={}", expectation.status)];
    let latency: Latency = ask("open", target, &arguments)?;
    check(latency.wrong, latency.lost, expectation, "")?;
    Ok(latency)
}

/// Opens idle connections.
pub(crate) fn idle(
    target: SocketAddr,
    pids: &[u32],
    connections: usize,
    expectation: Expectation,
) -> anyhow::Result<Idle> {
    let mut arguments = vec![format!("--connections={connections}"), format!("--expect={}", expectation.status)];
    arguments.extend(watch(pids));
    ask("idle", target, &arguments)
}

/// Sends one request that the upstream answers with what it saw.
pub(crate) fn probe(target: SocketAddr) -> anyhow::Result<Probe> {
    ask("probe", target, &[])
}

/// The upstream and the log drain, running on the load's core until dropped.
pub(crate) struct Surroundings {
    children: Vec<Child>,
    /// Where they listen.
    pub(crate) peers: Peers,
}

impl Surroundings {
    /// Starts both.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let peers = Peers { upstream: free_address()?, drain: free_address()? };
        let mut surroundings = Self { children: Vec::new(), peers };
        for (verb, address) in [("upstream", peers.upstream), ("drain", peers.drain)] {
            surroundings.children.push(tools()?.args([verb, "--listen", &address.to_string()]).spawn()?);
            let limit = Instant::now() + Duration::from_secs(5);
            while TcpStream::connect(address).is_err() {
                if Instant::now() > limit {
                    bail!("bench-tools {verb} does not listen on {address}");
                }
                sleep(Duration::from_millis(20));
            }
        }
        Ok(surroundings)
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        for child in &mut self.children {
            machine::terminate(child, Duration::from_secs(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectation, check};

    #[test]
    fn wrong_and_missing_answers_are_errors() {
        let strict = Expectation { status: 200, slips: 0 };
        assert!(check(0, 0, strict, "").is_ok());
        assert!(check(1, 0, strict, "").is_err());
        assert!(check(0, 1, strict, "").is_err());
        let lenient = Expectation { status: 429, slips: 1 };
        assert!(check(1, 0, lenient, "").is_ok());
        assert!(check(2, 0, lenient, "").is_err());
    }
}
