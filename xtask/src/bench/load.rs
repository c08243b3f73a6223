//! Calls of `bench-tools`, with typed results.
//!
//! Invariant: a run in which an answer was wrong or missing is an error here and never reaches a table.
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::candidate::{Peers, Running, free_address};
use super::machine::{self, LOAD_CPU};
use super::scenario::{Burden, Scenario, Traffic};

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

impl Slice {
    /// Both, as one load on two cores that ran at the same time; `other` watched nothing.
    fn beside(mut self, other: Self) -> Self {
        self.answered += other.answered;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.answered_in_all += other.answered_in_all;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self
    }
}

/// Resident memory around many idle connections.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Idle {
    /// Before they were opened, after the load had run.
    pub(crate) before_bytes: u64,
    after_bytes: u64,
    /// How many.
    pub(crate) connections: u64,
}

impl Idle {
    /// Bytes each connection added.
    pub(crate) fn bytes_per_connection(&self) -> f64 {
        self.after_bytes.saturating_sub(self.before_bytes) as f64 / self.connections as f64
    }
}

/// How many answers of a slice may be wrong: none, or one where a limiter lets a request through now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expectation {
    /// The status.
    pub(crate) status: u16,
    /// Answers that may be different.
    pub(crate) slips: u64,
}

/// Whom to load, and how.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    target: SocketAddr,
    traffic: Traffic,
    certificate: String,
    /// Tokens to send in turn.
    tokens: Option<String>,
    /// Routes to spread the requests over.
    routes: Option<u32>,
    /// The cores of the load, a process on each.
    cpus: Vec<String>,
    expectation: Expectation,
}

impl Aim {
    /// At a proxy, as the scenario says.
    pub(crate) fn new(scenario: Scenario, burden: Burden, running: &Running, expectation: Expectation) -> Self {
        Self {
            target: running.listen,
            traffic: scenario.traffic(),
            certificate: running.certificate.display().to_string(),
            tokens: running.tokens.as_ref().map(|tokens| tokens.display().to_string()),
            // One is the probe's.
            routes: scenario.routes(burden).map(|count| count - 1),
            cpus: load_cpus(scenario, burden),
            expectation,
        }
    }

    fn verb(&self) -> &'static str {
        if self.traffic == Traffic::Http2 { "h2" } else { "closed" }
    }

    fn arguments(&self) -> Vec<String> {
        if self.traffic == Traffic::Http2 {
            return Vec::new();
        }
        let mut arguments =
            vec![format!("--connections={CONNECTIONS}"), format!("--expect={}", self.expectation.status)];
        if self.traffic != Traffic::Plain {
            arguments.push(format!("--tls={}", self.certificate));
        }
        if self.traffic == Traffic::Handshakes {
            arguments.push("--fresh".to_owned());
        }
        arguments.extend(self.tokens.as_ref().map(|tokens| format!("--tokens={tokens}")));
        arguments.extend(self.routes.map(|routes| format!("--routes={routes}")));
        arguments
    }

    fn check(&self, slice: Slice) -> anyhow::Result<Slice> {
        check(slice.wrong, slice.lost, self.expectation, &format!("{:?}", slice.statuses))?;
        if slice.answered == 0 {
            bail!("nothing was answered");
        }
        Ok(slice)
    }
}

/// The cores of load and upstream.
fn load_cpus(scenario: Scenario, burden: Burden) -> Vec<String> {
    if scenario.shares_cores() {
        (0..scenario.cores(burden)).map(|core| core.to_string()).collect()
    } else {
        vec![LOAD_CPU.to_owned()]
    }
}

fn tools(cpu: &str) -> anyhow::Result<Command> {
    let mut command = machine::pinned(cpu);
    command.arg(machine::built("bench-tools")?);
    Ok(command)
}

fn begin(cpu: &str, verb: &str, target: SocketAddr, arguments: &[String]) -> anyhow::Result<Child> {
    tools(cpu)?
        .args([verb, "--target", &target.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting bench-tools")
}

fn end<T: DeserializeOwned>(verb: &str, child: Child) -> anyhow::Result<T> {
    let output = child.wait_with_output().context("waiting for bench-tools")?;
    if !output.status.success() {
        bail!("bench-tools {verb}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading the answer of bench-tools {verb}"))
}

fn ask<T: DeserializeOwned>(verb: &str, target: SocketAddr, arguments: &[String]) -> anyhow::Result<T> {
    end(verb, begin(LOAD_CPU, verb, target, arguments)?)
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
pub(crate) fn closed(aim: &Aim, pids: &[u32], warm: Duration, length: Duration) -> anyhow::Result<Slice> {
    let mut arguments = aim.arguments();
    arguments.push(format!("--warm-ms={}", warm.as_millis()));
    arguments.push(format!("--for-ms={}", length.as_millis()));
    let watching = [arguments.clone(), watch(pids).collect()].concat();
    let verb = aim.verb();
    let mut loads = Vec::new();
    for (index, cpu) in aim.cpus.iter().enumerate() {
        loads.push(begin(cpu, verb, aim.target, if index == 0 { &watching } else { &arguments })?);
    }
    // All are waited for before one's failure is told.
    let slices: Vec<anyhow::Result<Slice>> = loads.into_iter().map(|load| end(verb, load)).collect();
    let slices = slices.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    aim.check(slices.into_iter().reduce(Slice::beside).context("a load without a core")?)
}

/// Sends exactly `requests` requests.
pub(crate) fn exactly(requests: u64, aim: &Aim) -> anyhow::Result<()> {
    let mut arguments = aim.arguments();
    arguments.push(format!("--requests={requests}"));
    aim.check(ask(aim.verb(), aim.target, &arguments)?).map(drop)
}

/// Measures latency at a fixed rate, in plain text.
pub(crate) fn open(target: SocketAddr, rate: u32, expectation: Expectation) -> anyhow::Result<Latency> {
    let arguments =
        [format!("--connections={CONNECTIONS}"), format!("--rate={rate}"), format!("--expect={}", expectation.status)];
    let latency: Latency = ask("open", target, &arguments)?;
    check(latency.wrong, latency.lost, expectation, "")?;
    Ok(latency)
}

fn idle_arguments(pids: &[u32], connections: usize, expectation: Expectation) -> Vec<String> {
    let mut arguments = vec![format!("--connections={connections}"), format!("--expect={}", expectation.status)];
    arguments.extend(watch(pids));
    arguments
}

/// Opens idle connections and closes them again.
pub(crate) fn idle(
    target: SocketAddr,
    pids: &[u32],
    connections: usize,
    expectation: Expectation,
) -> anyhow::Result<Idle> {
    ask("idle", target, &idle_arguments(pids, connections, expectation))
}

/// Idle connections that stay until this is dropped.
pub(crate) struct Held {
    child: Child,
    /// What they took.
    pub(crate) idle: Idle,
}

impl Held {
    /// Opens them.
    pub(crate) fn open(
        target: SocketAddr,
        pids: &[u32],
        connections: usize,
        expectation: Expectation,
    ) -> anyhow::Result<Self> {
        let mut arguments = idle_arguments(pids, connections, expectation);
        arguments.push("--hold".to_owned());
        let mut child = begin(LOAD_CPU, "idle", target, &arguments)?;
        let output = child.stdout.take().context("bench-tools without an output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("reading from bench-tools idle")?;
        if line.is_empty() {
            return end("idle", child).and_then(|never: Idle| bail!("{never:?} and no more"));
        }
        let idle = serde_json::from_str(&line).context("reading the answer of bench-tools idle")?;
        Ok(Self { child, idle })
    }

    /// Whether they are all still there.
    ///
    /// # Errors
    /// When one was closed.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("an idle connection was closed ({status})");
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        machine::terminate(&mut self.child, Signal::TERM, Duration::from_secs(1));
    }
}

/// The upstream and the log drain, running on the load's core until dropped.
pub(crate) struct Surroundings {
    children: Vec<Child>,
    /// Where they listen.
    pub(crate) peers: Peers,
}

impl Surroundings {
    /// Starts both; where cores are shared an upstream on each, all at one address.
    pub(crate) fn start(scenario: Scenario, burden: Burden) -> anyhow::Result<Self> {
        let peers = Peers { upstream: free_address()?, drain: free_address()? };
        let mut surroundings = Self { children: Vec::new(), peers };
        for cpu in load_cpus(scenario, burden) {
            surroundings.add(&cpu, "upstream", peers.upstream)?;
        }
        surroundings.add(LOAD_CPU, "drain", peers.drain)?;
        Ok(surroundings)
    }

    fn add(&mut self, cpu: &str, verb: &str, address: SocketAddr) -> anyhow::Result<()> {
        let before = listeners(address)?;
        self.children.push(tools(cpu)?.args([verb, "--listen", &address.to_string()]).spawn()?);
        let limit = Instant::now() + Duration::from_secs(5);
        while listeners(address)? == before {
            if Instant::now() > limit {
                bail!("bench-tools {verb} does not listen on {address}");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// How many sockets listen at an address; a connection would not tell the second from the first.
fn listeners(address: SocketAddr) -> anyhow::Result<usize> {
    let table = fs::read_to_string("/proc/net/tcp").context("reading /proc/net/tcp")?;
    Ok(count_listeners(&table, address.port()))
}

fn count_listeners(table: &str, port: u16) -> usize {
    const LISTEN: &str = "0A";
    let is_one = |line: &&str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, state) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        state == LISTEN && local.rsplit(':').next() == Some(&format!("{port:04X}"))
    };
    table.lines().filter(is_one).count()
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        for child in &mut self.children {
            machine::terminate(child, Signal::TERM, Duration::from_secs(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectation, Slice, check, count_listeners};

    #[test]
    fn listeners_are_counted_by_port_and_state() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
            2: 0100007F:1F90 0100007F:C001 01 00000000:00000000\n\
            3: 0100007F:1F91 00000000:0000 0A 00000000:00000000\n";
        assert_eq!((count_listeners(table, 8080), count_listeners(table, 8081), count_listeners(table, 1)), (2, 1, 0));
    }

    #[test]
    fn two_loads_add_up_and_the_cpu_time_is_that_of_the_one_that_watched() {
        let both = Slice::pretend(20.0, 0.0).beside(Slice::pretend(0.0, 0.0));
        assert_eq!((both.requests_per_second(), both.cpu_us(), both.answered_in_all), (2000.0, 10.0, 2000));
    }

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
