//! System calls per request, by strace.
//!
//! `strace -c` would give totals per name, but a `write` to a socket and one to the access log are different things
//! here, so the calls themselves are recorded with what their first argument is (`-y`) and counted here.
//!
//! Invariant: strace is attached before the first request of a load and ended by its pid after the last.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::bench::candidate::Running;
use crate::bench::load::{self, Aim};
use crate::bench::machine;

/// Requests before anything is counted.
const WARM: u64 = 2_000;
/// Requests of the two loads.
const FEW: u64 = 2_000;
const MANY: u64 = 8_000;
/// How long attaching and detaching may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Calls rarer than this per request are not listed.
const LISTED_FROM: f64 = 0.005;

/// Calls per request.
#[derive(Debug, Default)]
pub(crate) struct Syscalls {
    /// Sends on sockets, by whatever call.
    pub(crate) sends: f64,
    /// Receives on sockets, those that found nothing included.
    pub(crate) receives: f64,
    /// Everything else, by name.
    pub(crate) other: BTreeMap<String, f64>,
}

impl Syscalls {
    /// The other calls in words, the frequent ones first.
    pub(crate) fn others(&self) -> String {
        let mut calls: Vec<_> = self.other.iter().filter(|(_, count)| **count >= LISTED_FROM).collect();
        calls.sort_by(|a, b| b.1.total_cmp(a.1));
        let words: Vec<String> = calls.into_iter().map(|(name, count)| format!("{name} {count:.2}")).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

/// Drives two loads under strace and returns their difference per request.
///
/// # Errors
/// When an answer is wrong or strace cannot attach.
pub(crate) fn per_request(running: &Running, aim: &Aim) -> anyhow::Result<Syscalls> {
    load::exactly(WARM, aim)?;
    let few = record(running, FEW, aim)?;
    let many = record(running, MANY, aim)?;
    let mut calls = Syscalls::default();
    for (kind, count) in &many {
        let difference = *count as f64 - few.get(kind).copied().unwrap_or(0) as f64;
        let each = difference.max(0.0) / (MANY - FEW) as f64;
        match kind {
            Kind::Send => calls.sends = each,
            Kind::Receive => calls.receives = each,
            Kind::Other(name) => {
                calls.other.insert(name.clone(), each);
            }
        }
    }
    Ok(calls)
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Send,
    Receive,
    Other(String),
}

fn record(running: &Running, requests: u64, aim: &Aim) -> anyhow::Result<BTreeMap<Kind, u64>> {
    let output = running.folder().join("strace.out");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-q", "-s", "0", "-o"]).arg(&output);
    for pid in &running.pids {
        command.args(["-p", &pid.to_string()]);
    }
    let mut strace = command.stderr(Stdio::null()).spawn().context("starting strace")?;
    let outcome = wait_until_traced(&mut strace, &running.pids).and_then(|()| load::exactly(requests, aim));
    // SIGTERM makes strace detach and write what it holds.
    machine::terminate(&mut strace, Signal::TERM, LIMIT);
    outcome?;
    count(&output)
}

fn wait_until_traced(strace: &mut Child, pids: &[u32]) -> anyhow::Result<()> {
    let end = Instant::now() + LIMIT;
    while !pids.iter().all(|&pid| is_traced(pid)) {
        if let Some(status) = strace.try_wait()? {
            bail!("strace ended ({status}); tracing other processes may be forbidden here");
        }
        if Instant::now() > end {
            bail!("strace did not attach within {LIMIT:?}");
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether every thread of a process has a tracer.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.filter_map(Result::ok).all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

fn count(output: &Path) -> anyhow::Result<BTreeMap<Kind, u64>> {
    let text = fs::read_to_string(output).with_context(|| format!("reading {}", output.display()))?;
    fs::remove_file(output)?;
    let mut counts = BTreeMap::new();
    for kind in text.lines().filter_map(kind) {
        *counts.entry(kind).or_default() += 1;
    }
    Ok(counts)
}

/// What a line of strace's output records; `None` for the second half of an interrupted call, signals and exits.
fn kind(line: &str) -> Option<Kind> {
    let call = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, arguments) = call.split_once('(')?;
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let first = arguments.split(',').next().unwrap_or_default();
    let is_socket = first.contains("<socket:") || first.contains("<TCP:");
    Some(match name {
        "sendto" | "sendmsg" | "write" | "writev" if is_socket => Kind::Send,
        "recvfrom" | "recvmsg" | "read" | "readv" if is_socket => Kind::Receive,
        name => Kind::Other(name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, kind};

    #[test]
    fn lines_are_told_apart_by_call_and_by_what_it_is_called_on() {
        let other = |name: &str| Some(Kind::Other(name.to_owned()));
        for (line, expected) in [
            ("812  sendto(9<socket:[55]>, \"\"..., 120, 0, NULL, 0) = 120", Some(Kind::Send)),
            ("812  writev(9<socket:[55]>, [{iov_base=\"\"..., iov_len=3}], 1) = 3", Some(Kind::Send)),
            ("812  write(1</dev/shm/log>, \"\"..., 80) = 80", other("write")),
            ("812  recvfrom(9<socket:[55]>, 0x1, 8192, 0, NULL, NULL) = -1 EAGAIN", Some(Kind::Receive)),
            ("812  epoll_wait(3<anon_inode:[eventpoll]>,  <unfinished ...>", other("epoll_wait")),
            ("812  <... epoll_wait resumed>[], 1024, 0) = 0", None),
            ("812  --- SIGTERM {si_signo=SIGTERM} ---", None),
            ("812  +++ exited with 0 +++", None),
        ] {
            assert_eq!(kind(line), expected, "{line}");
        }
    }
}
