//! An upstream that does on purpose what no real one can be asked to do: lies about lengths, hangs, closes, floods.
//!
//! Each connection is a thread; the path of a request says what happens. Everything it received is kept.
//!
//! Invariant: it sends exactly what its script says, byte for byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What an upstream does with a request.
pub type Script = fn(&mut TcpStream, &Received) -> Then;

/// What happens to the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It waits for another request.
    Keep,
    /// It closes.
    Close,
}

/// One request as it arrived: its head, as text.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and fields.
    pub head: String,
    /// Which connection it came on, counted from 1.
    pub connection: usize,
    /// What followed the head in the same read.
    pub rest: Vec<u8>,
}

impl Received {
    /// The target.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// A scripted upstream.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Upstream {
    /// Starts one.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(script: Script) -> Upstream {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&received);
        std::thread::spawn(move || {
            for (index, socket) in listener.incoming().enumerate() {
                let Ok(socket) = socket else { break };
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || converse(socket, index + 1, script, &seen));
            }
        });
        Upstream { address, received }
    }

    /// Everything that arrived so far.
    ///
    /// # Panics
    /// When a script panicked.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no script panicked").clone()
    }
}

fn converse(mut socket: TcpStream, connection: usize, script: Script, seen: &Mutex<Vec<Received>>) {
    let mut bytes = Vec::new();
    let mut scratch = [0; 16 * 1024];
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            match socket.read(&mut scratch) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&scratch[..read]),
                _ => return,
            }
        };
        let rest = bytes.split_off(end + 4);
        bytes.truncate(end);
        let received = Received { head: String::from_utf8_lossy(&bytes).into_owned(), connection, rest };
        bytes.clear();
        seen.lock().expect("no script panicked").push(received.clone());
        if script(&mut socket, &received) == Then::Close {
            return;
        }
    }
}

/// Sends bytes; the gateway may have hung up, which is then what the test is about.
pub fn say(socket: &mut TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
}

/// A plain answer with a length.
pub fn answer(socket: &mut TcpStream, status: &str, body: &str) -> Then {
    say(socket, format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    Then::Keep
}

/// Waits, as a slow service does. The time is the service's, not the test's: nothing asserts on it.
pub fn dawdle(time: Duration) {
    std::thread::sleep(time);
}
