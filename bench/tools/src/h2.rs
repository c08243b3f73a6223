//! HTTP/2 over TLS by `h2load` (Debian: nghttp2-client), a real client that is cheaper than most servers.
//!
//! h2load says when its counting begins and ends, and the CPU time of the watched processes is read at those lines.
//! What was agreed on is checked in what it prints.
//!
//! Invariant: an answer that is not 2xx, a short body and another protocol than HTTP/2 over TLS 1.3 are errors.
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::request;
use crate::upstream::BODY_BYTES;
use crate::watch;

/// What h2load says when it begins and ends to count.
const BEGINS: &str = "Main benchmark duration is started";
const ENDS: &str = "Main benchmark duration is over";

/// What every session must have agreed on; the same as `tls.rs` asks for.
const AGREED: [&str; 4] = [
    "TLS Protocol: TLSv1.3",
    "Cipher: TLS_AES_128_GCM_SHA256",
    "Server Temp Key: X25519 253 bits",
    "Application protocol: h2",
];

/// What to load, and for how long.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to connect to.
    #[arg(long)]
    target: SocketAddr,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Streams kept busy on each of them.
    #[arg(long, default_value_t = 4)]
    streams: usize,
    /// Milliseconds before counting starts.
    #[arg(long, default_value_t = 200)]
    warm_ms: u64,
    /// Milliseconds to count.
    #[arg(long, default_value_t = 1000, conflicts_with = "requests")]
    for_ms: u64,
    /// Send exactly this many requests instead of counting for a time.
    #[arg(long)]
    requests: Option<u64>,
    /// Process whose CPU time to read; may be repeated.
    #[arg(long)]
    watch: Vec<u32>,
}

/// Runs h2load and prints what was counted as one JSON line, as `closed` does.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = Command::new("h2load");
    command.args(["--threads=1", "--groups=X25519", "--tls13-ciphers=TLS_AES_128_GCM_SHA256"]);
    command.args(["--clients", &arguments.connections.to_string()]);
    command.args(["--max-concurrent-streams", &arguments.streams.to_string()]);
    match arguments.requests {
        Some(requests) => command.args(["--requests", &requests.to_string()]),
        None => command
            .args(["--duration", &format!("{}ms", arguments.for_ms)])
            .args(["--warm-up-time", &format!("{}ms", arguments.warm_ms)]),
    };
    for (name, value) in request::FIELDS {
        command.args(["--header", &format!("{}: {value}", name.to_ascii_lowercase())]);
    }
    command.arg(format!("https://{}{}", arguments.target, request::LOAD_PATH));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting h2load (nghttp2-client)")?;
    let output = BufReader::new(child.stdout.take().context("h2load without an output")?);

    let (mut text, mut begin, mut end) = (String::new(), None, None);
    let mut window = (watch::usage(&arguments.watch)?, Instant::now());
    for line in output.lines() {
        let line = line.context("reading from h2load")?;
        if line.starts_with(BEGINS) {
            begin = Some((watch::usage(&arguments.watch)?, Instant::now()));
        } else if line.starts_with(ENDS) {
            end = Some((watch::usage(&arguments.watch)?, Instant::now()));
        }
        text.push_str(&line);
        text.push('\n');
    }
    let status = child.wait().context("waiting for h2load")?;
    if !status.success() {
        bail!("h2load ended with {status}:\n{text}");
    }
    let end = match (arguments.requests, begin, end) {
        (Some(_), _, _) => (watch::usage(&arguments.watch)?, Instant::now()),
        (None, Some(begin), Some(end)) => {
            window = begin;
            end
        }
        _ => bail!("h2load did not say when it counted:\n{text}"),
    };
    let (used, elapsed) = (end.0.since(&window.0), end.1.duration_since(window.1));
    let counts = read(&text).with_context(|| format!("h2load said:\n{text}"))?;
    println!(
        "{}",
        serde_json::json!({
            "answered": counts.answered,
            "wrong": counts.answered - counts.right,
            "lost": counts.lost,
            "statuses": { "2xx": counts.right },
            "answered_in_all": counts.answered,
            "elapsed_ns": elapsed.as_nanos() as u64,
            "cpu_ns": used.cpu_ns(),
            "disturbed_ns": used.disturbed_ns(),
        })
    );
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Counts {
    answered: u64,
    right: u64,
    lost: u64,
}

/// Reads h2load's report.
///
/// # Errors
/// When something else was agreed on, when bodies are too short, and when the report is not the one that is known.
fn read(text: &str) -> anyhow::Result<Counts> {
    for agreed in AGREED {
        if !text.lines().any(|line| line == agreed) {
            bail!("there is no {agreed:?}");
        }
    }
    let line =
        |front: &str| text.lines().find_map(|line| line.strip_prefix(front)).with_context(|| format!("no {front:?}"));
    let number = |line: &str, what: &str| -> anyhow::Result<u64> {
        let before = line.split(what).next().filter(|before| before.len() < line.len());
        let digits = before.and_then(|before| before.trim_end_matches([' ', '(']).rsplit([' ', '(']).next());
        digits.and_then(|digits| digits.parse().ok()).with_context(|| format!("no number of {what:?}"))
    };
    let (requests, statuses, traffic) = (line("requests: ")?, line("status codes: ")?, line("traffic: ")?);
    let answered = number(requests, " done")?;
    let lost = number(requests, " failed")? + number(requests, " errored")? + number(requests, " timeout")?;
    let right = number(statuses, " 2xx")?.min(number(requests, " succeeded")?).min(answered);
    // Bytes of the warm-up count too, so that there may be more.
    if number(traffic, ") data")? < right * BODY_BYTES as u64 {
        bail!("bodies are too short");
    }
    Ok(Counts { answered, right, lost })
}

#[cfg(test)]
mod tests {
    use super::{Counts, read};

    const REPORT: &str = "TLS Protocol: TLSv1.3\nCipher: TLS_AES_128_GCM_SHA256\nServer Temp Key: X25519 253 bits\n\
        Application protocol: h2\n\nfinished in 1.20s, 10.00 req/s, 2.28MB/s\n\
        requests: 10 total, 10 started, 10 done, 9 succeeded, 1 failed, 0 errored, 0 timeout\n\
        status codes: 9 2xx, 0 3xx, 0 4xx, 1 5xx\n\
        traffic: 2.28MB (2395699) total, 514.23KB (526570) headers (space savings 89.73%), 1.80KB (2000) data\n";

    #[test]
    fn a_report_is_read() {
        assert_eq!(read(REPORT).unwrap(), Counts { answered: 10, right: 9, lost: 1 });
    }

    #[test]
    fn another_protocol_and_short_bodies_are_errors() {
        for (right, wrong) in [
            ("Application protocol: h2", "Application protocol: http/1.1"),
            ("TLSv1.3", "TLSv1.2"),
            ("AES_128", "AES_256"),
            ("(2000) data", "(1000) data"),
            ("status codes", "codes"),
        ] {
            assert!(read(&REPORT.replace(right, wrong)).is_err(), "{wrong}");
        }
    }
}
