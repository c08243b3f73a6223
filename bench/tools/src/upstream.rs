//! The upstream: a keep-alive HTTP/1.1 responder as cheap as one can be.
//!
//! It answers every request head with 200 and a fixed body of 200 bytes, except `/bench/echo`, which answers with
//! the head as it arrived, so that the harness can check what each proxy made of a request.
//!
//! Invariant: it reads no request bodies; the load is GET only.
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use memchr::memmem::Finder;
use socket2::{Domain, Socket, Type};

use crate::reactor::Reactor;
use crate::request::ECHO_PATH;

/// Bytes of an ordinary answer's body.
pub(crate) const BODY_BYTES: usize = 200;

/// Where to listen.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to listen on.
    #[arg(long)]
    listen: SocketAddr,
}

struct Connection {
    stream: TcpStream,
    /// An incomplete head, kept until the rest arrives; empty nearly always.
    pending: Vec<u8>,
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// The token of the listener; connections have theirs from 1 up.
const LISTENER: usize = 0;

/// Serves until killed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let listener = listen(arguments.listen).with_context(|| format!("listening on {}", arguments.listen))?;
    let mut reactor = Reactor::new()?;
    reactor.add(&listener, LISTENER)?;
    let head_end = Finder::new(b"\r\n\r\n");
    let mut answer = FixedAnswer::default();
    let mut connections: Vec<Option<Connection>> = vec![None];
    let mut ready = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        reactor.wait(None, &mut ready)?;
        answer.refresh();
        for &token in &ready {
            if token == LISTENER {
                accept(&listener, &reactor, &mut connections)?;
            } else if let Some(connection) = &mut connections[token]
                && !serve(connection, &answer.bytes, &head_end, &mut buffer)
            {
                connections[token] = None;
            }
        }
    }
}

/// Several upstreams may share one address, so that there can be one a core behind proxies that know of one.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, reactor: &Reactor, connections: &mut Vec<Option<Connection>>) -> anyhow::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("accepting a connection"),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let token = match connections.iter().skip(1).position(Option::is_none) {
            Some(free) => free + 1,
            None => {
                connections.push(None);
                connections.len() - 1
            }
        };
        reactor.add(&stream, token)?;
        connections[token] = Some(Connection { stream, pending: Vec::new() });
    }
}

/// Answers all complete heads that arrived; `false` when the connection is over.
fn serve(connection: &mut Connection, answer: &[u8], head_end: &Finder<'_>, buffer: &mut [u8]) -> bool {
    let read = match connection.stream.read(buffer) {
        Ok(0) => return false,
        Ok(read) => read,
        Err(error) => return error.kind() == ErrorKind::WouldBlock,
    };
    let joined;
    let mut rest = if connection.pending.is_empty() {
        &buffer[..read]
    } else {
        connection.pending.extend_from_slice(&buffer[..read]);
        joined = std::mem::take(&mut connection.pending);
        &joined[..]
    };
    while let Some(end) = head_end.find(rest) {
        let (head, behind) = rest.split_at(end + 4);
        let written =
            if is_echo(head) { connection.stream.write_all(&echo(head)) } else { connection.stream.write_all(answer) };
        if written.is_err() {
            return false;
        }
        rest = behind;
    }
    if !rest.is_empty() {
        connection.pending = rest.to_vec();
    }
    true
}

fn is_echo(head: &[u8]) -> bool {
    head.strip_prefix(b"GET ").is_some_and(|rest| rest.starts_with(ECHO_PATH.as_bytes()))
}

fn echo(head: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", head.len()).into_bytes();
    bytes.extend_from_slice(head);
    bytes
}

/// The rendered answer; its `Date` is brought up to date once a second.
#[derive(Default)]
struct FixedAnswer {
    second: u64,
    bytes: Vec<u8>,
}

impl FixedAnswer {
    fn refresh(&mut self) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second == self.second && !self.bytes.is_empty() {
            return;
        }
        self.second = second;
        self.bytes = format!(
            "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: application/json\r\nContent-Length: {BODY_BYTES}\r\n\r\n{}",
            httpdate::fmt_http_date(now),
            body()
        )
        .into_bytes();
    }
}

/// A JSON text of exactly [`BODY_BYTES`] bytes.
fn body() -> String {
    let (front, back) = ("{\"padding\":\"", "\"}");
    format!("{front}{}{back}", "x".repeat(BODY_BYTES - front.len() - back.len()))
}

#[cfg(test)]
mod tests {
    use super::{BODY_BYTES, FixedAnswer, body, echo, is_echo};
    use crate::{answer, request};

    #[test]
    fn the_answer_is_well_framed_and_its_body_has_the_promised_size() {
        assert_eq!(body().len(), BODY_BYTES);
        let mut fixed = FixedAnswer::default();
        fixed.refresh();
        let answer = answer::read(&fixed.bytes).unwrap().expect("a complete answer");
        assert_eq!((answer.status, answer.body_bytes, answer.bytes()), (200, BODY_BYTES, fixed.bytes.len()));
    }

    #[test]
    fn only_the_echo_path_is_echoed() {
        let load = request::render("127.0.0.1:1", request::LOAD_PATH);
        let head = request::render("127.0.0.1:1", request::ECHO_PATH);
        assert!(!is_echo(&load));
        assert!(is_echo(&head));
        let bytes = echo(&head);
        let answer = answer::read(&bytes).unwrap().expect("a complete answer");
        assert_eq!(&bytes[answer.head_bytes..], &head[..]);
    }
}
