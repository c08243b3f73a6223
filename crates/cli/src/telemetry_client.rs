//! Asks the telemetry listener of a running gateway for one page.
//!
//! Invariant: every step has a time limit, so that a health check never hangs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;

const LONGEST: Duration = Duration::from_secs(5);
const MOST_BYTES: u64 = 16 << 20;

/// Status and body of `page`.
///
/// # Errors
/// When nobody answers at `address`, or not with HTTP.
pub(crate) fn get(address: SocketAddr, page: &str) -> anyhow::Result<(u16, String)> {
    let mut socket = TcpStream::connect_timeout(&address, LONGEST)
        .with_context(|| format!("no gateway answers at {address} (see telemetry.address in its config)"))?;
    socket.set_read_timeout(Some(LONGEST))?;
    socket.set_write_timeout(Some(LONGEST))?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    write!(socket, "GET {page} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    socket.take(MOST_BYTES).read_to_string(&mut answer).with_context(|| format!("reading {page} from {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{address} does not speak HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("{address} does not speak HTTP"))?, body.to_owned()))
}
