//! Idle connections: what a keep-alive connection costs in memory while nothing happens on it.
//!
//! Each connection carries one request first, so that whatever a proxy keeps for a used connection is there.
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::client::{Client, Received, is_right};
use crate::reactor::Reactor;
use crate::{request, watch};

/// Longest wait for one answer.
const SILENCE: Duration = Duration::from_secs(5);

/// How many connections, and whose memory.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to connect to.
    #[arg(long)]
    target: SocketAddr,
    /// Connections to open.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Milliseconds to leave them idle before memory is read.
    #[arg(long, default_value_t = 1000)]
    settle_ms: u64,
    /// Status every answer must have.
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// Process whose memory to read; may be repeated.
    #[arg(long, required = true)]
    watch: Vec<u32>,
    /// After the report, keep the connections until killed.
    #[arg(long)]
    hold: bool,
}

/// Opens the connections and prints resident memory before and after as one JSON line.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    allow_descriptors();
    let before = watch::resident_bytes(&arguments.watch)?;
    let mut reactor = Reactor::new()?;
    let request = request::render(&arguments.target.to_string(), request::LOAD_PATH);
    let (mut clients, mut ready, mut buffer) = (Vec::new(), Vec::new(), vec![0; 32 * 1024]);
    for token in 0..arguments.connections {
        let mut client = Client::connect(arguments.target, None, &reactor, token)?;
        if !client.send(&request) {
            bail!("connection {token} was closed at once");
        }
        loop {
            reactor.wait(Some(SILENCE), &mut ready)?;
            if ready.is_empty() {
                bail!("connection {token} got no answer for {SILENCE:?}");
            }
            if ready.iter().any(|&other| other != token) {
                bail!("an idle connection was closed while {token} was being opened");
            }
            match client.receive(&mut buffer).with_context(|| format!("an answer on connection {token}"))? {
                Received::Part => {}
                Received::Whole(answer) if is_right(answer, arguments.expect) => break,
                Received::Whole(answer) => bail!("connection {token} was answered with status {}", answer.status),
                Received::Lost => bail!("connection {token} was closed without an answer"),
            }
        }
        clients.push(client);
    }
    reactor.wait(Some(Duration::from_millis(arguments.settle_ms)), &mut ready)?;
    if !ready.is_empty() {
        bail!("the target closed idle connections within {} ms", arguments.settle_ms);
    }
    let after = watch::resident_bytes(&arguments.watch)?;
    println!("{}", serde_json::json!({ "before_bytes": before, "after_bytes": after, "connections": clients.len() }));
    if arguments.hold {
        reactor.wait(None, &mut ready)?;
        bail!("the target closed {} idle connections", ready.len());
    }
    Ok(())
}

/// A connection is a descriptor, and the usual bound of 1024 is too low. What may not be raised shows when one cannot be had.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
