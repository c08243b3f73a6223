//! One request, printed: how the harness checks that every candidate does the work it claims to do.
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{answer, request};

/// Whom to ask, and for what.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to connect to.
    #[arg(long)]
    target: SocketAddr,
    /// Path to ask for; the upstream answers this one with the head it received.
    #[arg(long, default_value = request::ECHO_PATH)]
    path: String,
}

/// Sends the request and prints status, header fields and body as one JSON line.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let target = arguments.target;
    let mut stream = TcpStream::connect(target).with_context(|| format!("connecting to {target}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&request::render(&target.to_string(), &arguments.path))?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let answer = loop {
        match stream.read(&mut buffer).with_context(|| format!("reading from {target}"))? {
            0 => bail!("{target} closed the connection before a complete answer"),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
        if let Some(answer) = answer::read(&bytes)? {
            break answer;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..answer.head_bytes]).into_owned();
    let body = String::from_utf8_lossy(&bytes[answer.head_bytes..answer.bytes()]).into_owned();
    let fields: BTreeMap<String, String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    println!(
        "{}",
        serde_json::json!({ "status": answer.status, "head_bytes": answer.head_bytes, "fields": fields, "body": body })
    );
    Ok(())
}
