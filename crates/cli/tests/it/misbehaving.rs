//! The upstream that the tests stand the gateway before: the path says what it does wrong.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use portcullis_testkit::upstream::{Received, Then, Upstream, answer, dawdle, say};
use socket2::{Domain, Socket, Type};

/// Longer than any time limit of a test's config.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Starts it.
pub(crate) fn start() -> Upstream {
    Upstream::start(script)
}

fn script(socket: &mut TcpStream, request: &Received) -> Then {
    match request.path().split('?').next().unwrap_or_default() {
        "/close" => Then::Close,
        "/hang" => {
            dawdle(FOR_EVER);
            Then::Close
        }
        "/garbage" => {
            say(socket, b"this is not HTTP\r\n\r\n");
            Then::Close
        }
        "/two-lengths" => {
            say(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde");
            Then::Keep
        }
        "/length-and-chunks" => {
            say(
                socket,
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            );
            Then::Keep
        }
        "/switch" => {
            say(socket, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
            Then::Keep
        }
        "/huge-head" => {
            let head = format!("HTTP/1.1 200 OK\r\nX-Huge: {}\r\n\r\n", "a".repeat(200_000));
            say(socket, head.as_bytes());
            Then::Close
        }
        "/endless-head" => {
            say(socket, b"HTTP/1.1 200 OK\r\n");
            for index in 0..100_000 {
                say(socket, format!("X-Endless-{index}: {}\r\n", "a".repeat(100)).as_bytes());
            }
            Then::Close
        }
        "/cut" => {
            say(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
            Then::Close
        }
        "/status" => {
            let status = request.path().split_once('?').map_or("500 Oops", |(_, status)| status);
            answer(socket, &status.replace('+', " "), "as asked\n")
        }
        "/hops" => {
            say(socket, b"HTTP/1.1 200 OK\r\nConnection: x-secret-hop\r\nX-Secret-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\nServer: Leaky/1.0\r\nContent-Length: 0\r\n\r\n");
            Then::Keep
        }
        "/read-all" => {
            let mut left = length_of(request).saturating_sub(request.rest.len());
            let mut scratch = vec![0; 64 * 1024];
            while left > 0 {
                match socket.read(&mut scratch) {
                    Ok(read) if read > 0 => left = left.saturating_sub(read),
                    _ => return Then::Close,
                }
            }
            answer(socket, "200 OK", &format!("read {}\n", length_of(request)))
        }
        "/flood" => {
            say(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            let chunk = vec![b'a'; 1 << 20];
            for _ in 0..950 {
                say(socket, &chunk);
            }
            Then::Close
        }
        "/connection" => answer(socket, "200 OK", &format!("connection {}\n", request.connection)),
        // Answers once and closes the connection while it rests, which is what a keep-alive timeout looks like.
        "/then-close" => {
            let _ = answer(socket, "200 OK", "and gone\n");
            Then::Close
        }
        _ => answer(socket, "200 OK", &format!("{}\n", request.head)),
    }
}

fn length_of(request: &Received) -> usize {
    request
        .head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())
        .unwrap_or(0)
}

/// A port where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// A listener that takes no more connections: its queue is full, so the kernel drops whoever knocks.
pub(crate) struct Deaf {
    /// Where it does not answer.
    pub(crate) address: SocketAddr,
    _listener: Socket,
    _queue: Vec<Socket>,
}

impl Deaf {
    /// Fills the queue.
    pub(crate) fn start() -> Deaf {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let queue = (0..4)
            .map(|_| {
                let knock = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                knock.set_nonblocking(true).expect("an option can be set");
                // In progress or queued: either way it takes a place.
                let _ = knock.connect(&address.into());
                knock
            })
            .collect();
        Deaf { address, _listener: listener, _queue: queue }
    }
}
