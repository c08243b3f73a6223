//! The far end of logs that leave by network: takes TCP connections and UDP datagrams and throws them away.
//!
//! Used only by candidates whose access log goes to a collector, so that nobody's log is free.
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::Context;

use crate::reactor::Reactor;

/// Where to listen.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to listen on, TCP and UDP.
    #[arg(long)]
    listen: SocketAddr,
}

const LISTENER: usize = 0;
const DATAGRAMS: usize = 1;

/// Serves until killed.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind(arguments.listen).with_context(|| format!("listening on {}", arguments.listen))?;
    let mut reactor = Reactor::new()?;
    reactor.add(&listener, LISTENER)?;
    let datagrams = UdpSocket::bind(arguments.listen).with_context(|| format!("binding UDP {}", arguments.listen))?;
    datagrams.set_nonblocking(true)?;
    reactor.add(&datagrams, DATAGRAMS)?;
    let mut streams: Vec<Option<TcpStream>> = vec![None, None];
    let mut ready = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        reactor.wait(None, &mut ready)?;
        for &token in &ready {
            if token == LISTENER {
                let (stream, _) = listener.accept().context("accepting a connection")?;
                stream.set_nonblocking(true)?;
                reactor.add(&stream, streams.len())?;
                streams.push(Some(stream));
            } else if token == DATAGRAMS {
                while datagrams.recv(&mut buffer).is_ok() {}
            } else if let Some(stream) = &mut streams[token] {
                match stream.read(&mut buffer) {
                    Ok(read) if read > 0 => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    _ => streams[token] = None,
                }
            }
        }
    }
}
