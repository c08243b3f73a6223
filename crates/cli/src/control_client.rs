//! Asks the running gateway over its control socket.
//!
//! Invariant: every step has a time limit, so that a command never hangs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use portcullis_gateway::config::Config;
use portcullis_gateway::control::socket;
use serde_json::Value;

use crate::source;

/// Longer than the gateway itself waits for its store.
const LONGEST: Duration = Duration::from_secs(14);
const MOST_BYTES: u64 = 16 << 20;

/// Which gateway is meant.
#[derive(Clone, clap::Args)]
pub(crate) struct Which {
    /// The control socket of the running gateway. Default: where the config has it.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The config file of the running gateway. Default: portcullis.yaml, and without it the defaults of `run --upstream`.
    #[arg(long, short, conflicts_with = "socket")]
    config: Option<PathBuf>,
}

/// What every command that asks the running gateway takes.
#[derive(clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Which {
    /// The one with this socket.
    pub(crate) fn at(socket: PathBuf) -> Which {
        Which { socket: Some(socket), config: None }
    }

    /// The one with this config file.
    pub(crate) fn of(config: PathBuf) -> Which {
        Which { socket: None, config: Some(config) }
    }

    /// Where its socket is.
    ///
    /// # Errors
    /// When the config has mistakes, or has no socket.
    pub(crate) fn socket(&self) -> anyhow::Result<PathBuf> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let default = Path::new(source::DEFAULT_FILE);
        let config = match &self.config {
            Some(path) => Some(path.as_path()),
            None => default.exists().then_some(default),
        };
        let config = match config {
            Some(path) => source::read(path).map_err(|mistakes| anyhow::anyhow!("{}", mistakes.join("\n")))?.value,
            None => Config::default(),
        };
        let place = socket::place(&config).map(|(path, _)| path);
        place.context("the config has no control socket; name it with --socket, or in control.socket")
    }

    /// Asks for `path`; status and body.
    ///
    /// # Errors
    /// When nobody answers, or not in time.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        ask(&self.socket()?, method, path, body)
    }

    /// The same, and what is not 200 is an error with what the gateway said.
    ///
    /// # Errors
    /// As [`Which::ask`], and when the gateway says no.
    pub(crate) fn ask_well(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(method, path, body)?;
        if status != 200 {
            bail!("{}", answer["error"].as_str().unwrap_or("the gateway said no"));
        }
        Ok(answer)
    }
}

fn ask(socket: &Path, method: &str, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no gateway answers at {} (see control.socket in its config)", socket.display()))?;
    stream.set_read_timeout(Some(LONGEST))?;
    stream.set_write_timeout(Some(LONGEST))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    let head = format!("{method} {path} HTTP/1.0\r\nHost: control\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream
        .take(MOST_BYTES)
        .read_to_string(&mut answer)
        .with_context(|| format!("reading from {}", socket.display()))?;
    let (head, body) =
        answer.split_once("\r\n\r\n").context("the gateway does not speak HTTP on its control socket")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.context("the gateway does not speak HTTP on its control socket")?;
    Ok((status, serde_json::from_str(body).context("reading the gateway's answer")?))
}

/// A text as one segment of a path, or as a value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
