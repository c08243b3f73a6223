//! WebSocket and other switches of protocol: a real client and a real server, and those who only pretend.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{Client, PATIENCE};
use portcullis_testkit::gate::{Folder, Gate};
use portcullis_testkit::upstream::{Then, Upstream, answer, say};

use super::{gate, python, run, script};
use crate::BINARY;

const PLAIN: &str = "{ address: \"127.0.0.1:0\" }";
const WISH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A WebSocket server as a process.
pub(crate) struct Server(Child, pub(crate) u16);

impl Server {
    /// Starts one.
    pub(crate) fn start() -> Server {
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a free port").port();
        let child = Command::new(python())
            .args([script("websocket.py").to_string_lossy().as_ref(), "serve", &port.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("python");
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Server(child, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn before(server: &Server, more: &str) -> Gate {
    Gate::start(BINARY, &format!("upstreams: {{ app: {{ url: \"http://127.0.0.1:{}\" }} }}\n{more}", server.1))
}

/// Has a client talk through the gateway.
pub(crate) fn talk(gate: &Gate, how: &str) -> String {
    let (ok, text) =
        run(python(), &[&script("websocket.py").to_string_lossy(), how, &format!("ws://{}/chat", gate.data)]);
    assert!(ok, "{text}");
    text
}

#[test]
fn a_real_client_talks_to_a_real_server() {
    let server = Server::start();
    let mut gate = before(&server, "");
    assert_eq!(talk(&gate, "talk").trim(), "100 messages, 1000000 bytes");
    let line = gate.wait_for("the tunnel's line", |line| line["status"] == 101);
    assert_eq!(line["end"], "complete");
    assert!(line["bytes_in"].as_u64() > Some(1_000_000) && line["bytes_out"].as_u64() > Some(1_000_000), "{line}");
    assert_eq!(gate.metric("portcullis_tunnels_open{}"), Some(0.0));
}

#[test]
fn a_silent_tunnel_is_closed() {
    let server = Server::start();
    let mut gate = before(&server, "connections: { tunnel_idle: 1s }\n");
    assert_eq!(talk(&gate, "silent").trim(), "closed");
    assert_eq!(gate.wait_for("the tunnel's line", |line| line["status"] == 101)["end"], "deadline");
}

#[test]
fn a_tunnel_ends_when_the_gateway_does() {
    let server = Server::start();
    let mut gate = before(&server, "shutdown: { drain_delay: 100ms, total: 10s }\n");
    let mut client = Client::connect(gate.data);
    client.send(format!("GET /chat HTTP/1.1\r\nHost: a\r\n{WISH}\r\n").as_bytes());
    while !client.unread().windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(client.read_more(), "no answer");
    }
    gate.signal("TERM");
    assert!(client.is_closed());
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn row_35_nothing_is_tunnelled_and_nothing_read_as_a_request_when_the_upstream_refuses() {
    let upstream = Upstream::start(|socket, _| answer(socket, "426 Upgrade Required", "no"));
    let gate = gate(Folder::new(), &upstream, PLAIN, "");
    let mut client = Client::connect(gate.data);
    client.send(
        format!("GET /chat HTTP/1.1\r\nHost: a\r\n{WISH}\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(),
    );
    let response = client.response().expect("an answer");
    assert_eq!((response.status, response.field("connection")), (426, Some("close")));
    assert!(client.is_closed());
    let paths: Vec<_> = upstream.received().iter().map(|request| request.path().to_owned()).collect();
    assert_eq!(paths, ["/chat"]);
}

#[test]
fn row_35_what_came_ahead_reaches_the_upstream_only_after_its_101() {
    let upstream = Upstream::start(|socket, _| {
        say(socket, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ");
        let mut ahead = [0; 5];
        std::io::Read::read_exact(socket, &mut ahead).expect("what was sent ahead");
        socket.write_all(&ahead).expect("sent");
        Then::Close
    });
    let gate = gate(Folder::new(), &upstream, PLAIN, "");
    let mut client = Client::connect(gate.data);
    client.send(format!("GET /chat HTTP/1.1\r\nHost: a\r\n{WISH}\r\nahead").as_bytes());
    while client.read_more() {}
    let text = String::from_utf8_lossy(client.unread()).into_owned();
    assert!(text.starts_with("HTTP/1.1 101") && text.ends_with("\r\n\r\nhello ahead"), "{text}");
    let head = upstream.received()[0].head.to_lowercase();
    assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
}

#[test]
fn rows_33_and_34_what_is_no_whole_wish_gets_a_plain_answer_and_the_upstream_sees_no_upgrade() {
    let upstream = Upstream::start(|socket, _| answer(socket, "200 OK", "plain"));
    let gate = gate(Folder::new(), &upstream, PLAIN, "");
    for head in [
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{WISH}"),
        format!("GET / HTTP/1.0\r\nHost: a\r\n{WISH}"),
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}", WISH.replace("13", "8")),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
            .to_owned(),
    ] {
        let mut client = Client::connect(gate.data);
        client.send(format!("{head}\r\n").as_bytes());
        assert_eq!(client.response().map(|response| response.status), Some(200), "{head}");
    }
    for request in upstream.received() {
        let head = request.head.to_lowercase();
        assert!(!head.contains("\r\nupgrade:") && !head.contains("http2-settings"), "{head}");
    }
}

#[test]
fn a_route_can_forbid_every_switch() {
    let upstream = Upstream::start(|socket, _| answer(socket, "200 OK", "plain"));
    let gate = gate(Folder::new(), &upstream, PLAIN, "routes: [{ name: all, match: { path: /** }, switch_to: [] }]\n");
    let mut client = Client::connect(gate.data);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{WISH}\r\n").as_bytes());
    assert_eq!(client.response().map(|response| response.status), Some(200));
    assert!(!upstream.received()[0].head.to_lowercase().contains("upgrade"));
}

#[test]
fn an_upstream_that_agrees_to_what_it_was_not_asked_is_an_error() {
    let upstream = Upstream::start(|socket, _| {
        say(socket, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\ntunnelled");
        Then::Keep
    });
    let gate = gate(Folder::new(), &upstream, PLAIN, "routes: [{ name: all, match: { path: /** }, switch_to: [] }]\n");
    let mut client = Client::connect(gate.data);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{WISH}\r\n").as_bytes());
    let response = client.response().expect("an answer");
    assert_eq!(response.status, 502);
    assert!(!response.text().contains("tunnelled"));
}

#[test]
fn tunnels_count_as_connections_to_the_upstream() {
    let server = Server::start();
    let gate = Gate::start(
        BINARY,
        &format!(
            "workers: 1\nupstreams: {{ app: {{ url: \"http://127.0.0.1:{}\", keep_alive: {{ connections: 2 }} }} }}\n",
            server.1
        ),
    );
    let mut statuses = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(gate.data);
        client.send(format!("GET /chat HTTP/1.1\r\nHost: a\r\n{WISH}\r\n").as_bytes());
        while !client.unread().windows(4).any(|end| end == b"\r\n\r\n") && client.read_more() {}
        statuses.push(String::from_utf8_lossy(client.unread()).get(9..12).map(str::to_owned));
        clients.push(client);
    }
    let expected = ["101", "101", "503", "503"].map(|status| Some(status.to_owned()));
    assert_eq!(statuses, expected);
}

#[test]
fn an_upstream_that_agrees_to_something_else_is_an_error() {
    let upstream = Upstream::start(|socket, _| {
        say(socket, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
        Then::Keep
    });
    let gate = gate(Folder::new(), &upstream, PLAIN, "");
    let mut client = Client::connect(gate.data);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{WISH}\r\n").as_bytes());
    assert_eq!(client.response().map(|response| response.status), Some(502));
}
