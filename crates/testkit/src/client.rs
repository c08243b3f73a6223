//! A client that sends exactly the bytes it is told and shows exactly what came back.
//!
//! Invariant: no call waits longer than its time limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a test waits for an answer that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One response as it came.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The header fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
    /// Whether the body was as long as its framing said.
    pub is_whole: bool,
}

impl Response {
    /// The first field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
pub struct Client {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens, here and below: a test cannot go on.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect(address).expect("the gateway listens"))
    }

    /// Speaks over a socket that is connected already, for example from an address of one's own.
    #[must_use]
    pub fn over(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        socket.set_nodelay(true).expect("an option can be set");
        Client { socket, unread: Vec::new() }
    }

    /// Sends bytes. The other end may have closed already; what it said is then still there to be read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Says that nothing more will come.
    pub fn finish(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Reads one response, leaving what comes after it. `None` when the connection ended before a whole head.
    pub fn response(&mut self) -> Option<Response> {
        let head_end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            if !self.read_more() {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..head_end]).into_owned();
        self.unread.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Response { status, fields, body: Vec::new(), is_whole: true };
        if status == 100 {
            return Some(response);
        }
        if response.field("transfer-encoding") == Some("chunked") {
            response.is_whole = self.read_chunks(&mut response.body);
        } else if let Some(length) = response.field("content-length").and_then(|length| length.parse::<usize>().ok()) {
            while self.unread.len() < length && self.read_more() {}
            response.is_whole = self.unread.len() >= length;
            let length = length.min(self.unread.len());
            response.body = self.unread.drain(..length).collect();
        } else {
            while self.read_more() {}
            response.body = std::mem::take(&mut self.unread);
        }
        Some(response)
    }

    /// Whether the other end closes within `PATIENCE`, reading what it still sends.
    pub fn is_closed(&mut self) -> bool {
        let mut scratch = [0; 4096];
        loop {
            match self.socket.read(&mut scratch) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Reads until something new has come; whether it did.
    pub fn read_more(&mut self) -> bool {
        let mut scratch = [0; 64 * 1024];
        match self.socket.read(&mut scratch) {
            Ok(read) if read > 0 => {
                self.unread.extend_from_slice(&scratch[..read]);
                true
            }
            _ => false,
        }
    }

    /// What has come and was not taken by [`Client::response`].
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let line_end = loop {
                if let Some(at) = find(&self.unread, b"\r\n") {
                    break at;
                }
                if !self.read_more() {
                    return false;
                }
            };
            let line = String::from_utf8_lossy(&self.unread[..line_end]).into_owned();
            let Ok(size) = usize::from_str_radix(line.trim(), 16) else { return false };
            while self.unread.len() < line_end + 2 + size + 2 {
                if !self.read_more() {
                    return false;
                }
            }
            let start = line_end + 2;
            body.extend_from_slice(&self.unread[start..start + size]);
            self.unread.drain(..start + size + 2);
            if size == 0 {
                return true;
            }
        }
    }
}

/// One request on a connection of its own.
///
/// # Panics
/// When there is no answer.
#[must_use]
pub fn ask(address: SocketAddr, request: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(request.as_bytes());
    client.response().expect("an answer")
}

/// `GET path` with a Host, on a connection of its own.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Response {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
