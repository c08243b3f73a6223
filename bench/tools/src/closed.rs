//! Closed loop: N connections, each sending its next request as soon as the last was answered.
//!
//! Used for CPU per request. The window is cut here and not in `xtask`, so that the requests counted and the
//! CPU time read belong to the same interval to within microseconds.
//!
//! Invariant: requests in flight at the end are waited for, so that no proxy sees clients hang up.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::client::{Client, Received, is_right};
use crate::reactor::Reactor;
use crate::request;
use crate::tls::Dialer;
use crate::watch::{self, Usage};

/// Longest silence before the target counts as hung; far above any stall seen under valgrind.
const SILENCE: Duration = Duration::from_secs(20);

/// What to load, and for how long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to connect to.
    #[arg(long)]
    target: SocketAddr,
    /// Connections to keep busy.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Milliseconds before counting starts.
    #[arg(long, default_value_t = 0)]
    warm_ms: u64,
    /// Milliseconds to count.
    #[arg(long, default_value_t = 1000, conflicts_with = "requests")]
    for_ms: u64,
    /// Send exactly this many requests instead of counting for a time.
    #[arg(long)]
    requests: Option<u64>,
    /// Status every answer must have.
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// TLS, trusting the certificate in this file (PEM).
    #[arg(long)]
    tls: Option<PathBuf>,
    /// A new connection for every request.
    #[arg(long)]
    fresh: bool,
    /// Ask in turn for a path below each of `/s0`, `/s1` and so on, up to so many, instead of the usual one.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    routes: Option<u32>,
    /// Send the tokens in this file in turn, one a line, as `Authorization: Bearer`.
    #[arg(long, conflicts_with = "routes")]
    tokens: Option<PathBuf>,
    /// Process whose CPU time to read; may be repeated.
    #[arg(long)]
    watch: Vec<u32>,
}

/// What the counting window saw.
#[derive(Default)]
struct Window {
    answered: u64,
    wrong: u64,
    lost: u64,
    statuses: BTreeMap<u16, u64>,
}

struct Load<'a> {
    arguments: &'a Arguments,
    /// Sent in turn.
    requests: Vec<Vec<u8>>,
    next: usize,
    reactor: Reactor,
    clients: Vec<Client>,
    window: Window,
    /// Requests not sent yet, where their number is fixed.
    left: Option<u64>,
    in_flight: usize,
    answered_in_all: u64,
    buffer: Vec<u8>,
    ready: Vec<usize>,
}

/// Runs the load and prints what was counted as one JSON line.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let reactor = Reactor::new()?;
    let dialer = arguments.tls.as_deref().map(|file| Dialer::new(file, arguments.target)).transpose()?;
    let clients = (0..arguments.connections)
        .map(|token| Client::connect(arguments.target, dialer.clone(), &reactor, token))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let paths = arguments.routes.map_or_else(|| vec![request::LOAD_PATH.to_owned()], request::scattered);
    let target = arguments.target.to_string();
    let requests = match &arguments.tokens {
        Some(file) => request::with_tokens(&target, file)?,
        None => paths.iter().map(|path| request::render(&target, path)).collect(),
    };
    let mut load = Load {
        arguments,
        requests,
        next: 0,
        reactor,
        clients,
        window: Window::default(),
        left: arguments.requests,
        in_flight: 0,
        answered_in_all: 0,
        buffer: vec![0; 32 * 1024],
        ready: Vec::new(),
    };
    for token in 0..load.clients.len() {
        load.send(token)?;
    }
    if arguments.requests.is_none() {
        load.until(Instant::now() + Duration::from_millis(arguments.warm_ms))?;
    }
    load.window = Window::default();
    let usage = watch::usage(&arguments.watch)?;
    let started = Instant::now();
    if arguments.requests.is_none() {
        load.until(started + Duration::from_millis(arguments.for_ms))?;
    } else {
        load.finish()?;
    }
    let elapsed = started.elapsed();
    let usage = watch::usage(&arguments.watch)?.since(&usage);
    let window = std::mem::take(&mut load.window);
    load.left = Some(0);
    load.finish()?;
    print(&window, &load, elapsed, &usage);
    Ok(())
}

fn print(window: &Window, load: &Load<'_>, elapsed: Duration, usage: &Usage) {
    println!(
        "{}",
        serde_json::json!({
            "answered": window.answered,
            "wrong": window.wrong + load.window.wrong,
            "lost": window.lost + load.window.lost,
            "statuses": window.statuses,
            "answered_in_all": load.answered_in_all,
            "elapsed_ns": elapsed.as_nanos() as u64,
            "cpu_ns": usage.cpu_ns(),
            "disturbed_ns": usage.disturbed_ns(),
        })
    );
}

impl Load<'_> {
    fn send(&mut self, token: usize) -> anyhow::Result<()> {
        match &mut self.left {
            Some(0) => return Ok(()),
            Some(left) => *left -= 1,
            None => {}
        }
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        if !self.clients[token].send(request) {
            self.window.lost += 1;
            self.clients[token].reconnect(&self.reactor)?;
            if !self.clients[token].send(request) {
                bail!("{} closes every connection at once", self.arguments.target);
            }
        }
        self.in_flight += 1;
        Ok(())
    }

    fn until(&mut self, end: Instant) -> anyhow::Result<()> {
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        while self.in_flight > 0 {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits once and handles what became ready.
    fn turn(&mut self) -> anyhow::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.reactor.wait(Some(SILENCE), &mut ready)?;
        if ready.is_empty() {
            bail!("{} has been silent for {SILENCE:?} with {} requests open", self.arguments.target, self.in_flight);
        }
        for &token in &ready {
            let received = self.clients[token].receive(&mut self.buffer);
            match received.with_context(|| format!("an answer of {}", self.arguments.target))? {
                Received::Part => continue,
                Received::Whole(answer) => {
                    self.window.answered += 1;
                    self.answered_in_all += 1;
                    self.window.wrong += u64::from(!is_right(answer, self.arguments.expect));
                    *self.window.statuses.entry(answer.status).or_default() += 1;
                    if self.arguments.fresh {
                        self.clients[token].reconnect(&self.reactor)?;
                    }
                }
                Received::Lost => {
                    self.window.lost += 1;
                    self.clients[token].reconnect(&self.reactor)?;
                }
            }
            self.in_flight -= 1;
            self.send(token)?;
        }
        self.ready = ready;
        Ok(())
    }
}
