//! HTTP/2 to upstreams: one connection for many, and what becomes of requests when the upstream leaves or refuses.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use portcullis_testkit::client::{Client, ask, get};
use portcullis_testkit::gate::Gate;

use super::servers::{Authority, directives, nginx, s_server};
use super::{gate, until};
use crate::edge::websocket;

const SAYS: &str = "location / { return 200 \"$server_protocol $connection $host $request_method $content_length\"; }";

#[test]
fn prior_knowledge_and_alpn_carry_many_requests_on_one_connection() {
    let authority = Authority::new();
    let plain = nginx(&format!("listen LISTEN http2; {SAYS}"));
    let secure = nginx(&format!("listen LISTEN ssl http2; {} {SAYS}", directives(&authority.sign("localhost", 90))));
    let ca = authority.file();
    for upstream in [
        format!("url: \"http://{}\"", plain.address),
        format!("url: \"https://localhost:{}\", tls: {{ ca: \"{}\" }}", secure.address.port(), ca.display()),
    ] {
        let gate = gate(&format!("{upstream}, protocol: http2"));
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(gate.data)).collect();
        for client in &mut clients {
            client.send(b"GET /x HTTP/1.1\r\nHost: shop.test:81\r\n\r\n");
        }
        let answers: HashSet<String> =
            clients.iter_mut().map(|client| client.response().expect("an answer").text()).collect();
        assert_eq!(answers.len(), 1, "one connection: {answers:?}");
        let answer = answers.into_iter().next().unwrap_or_default();
        assert!(answer.starts_with("HTTP/2.0 ") && answer.ends_with(" shop.test GET "), "{answer}");
        let posted = ask(gate.data, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        assert!(posted.text().ends_with(" a POST 2"), "{}", posted.text());
    }
}

#[test]
fn an_upstream_that_does_not_agree_on_http2_is_502_and_not_asked_otherwise() {
    let authority = Authority::new();
    let issued = authority.sign("localhost", 90);
    // nginx ends the handshake; openssl goes on without having agreed.
    let server = nginx(&format!("listen LISTEN ssl; {} {SAYS}", directives(&issued)));
    let silent = s_server(&authority, &issued, &[]);
    for (address, code, event) in [
        (server.address, "ERR_UPSTREAM_UNTRUSTED", "upstream_untrusted"),
        (silent.address, "ERR_UPSTREAM_MALFORMED", "upstream_not_http2"),
    ] {
        let tls = format!("tls: {{ ca: \"{}\" }}", authority.file().display());
        let mut gate = gate(&format!("url: \"https://localhost:{}\", {tls}, protocol: http2", address.port()));
        let refused = get(gate.data, "/");
        assert_eq!(refused.status, 502);
        assert!(refused.text().contains(code), "{}", refused.text());
        gate.wait_for_event(event);
    }
}

#[test]
fn an_upstream_that_leaves_after_every_few_requests_loses_none() {
    // nginx says GOAWAY when a connection has had its number.
    let server = nginx(&format!("listen LISTEN http2; keepalive_requests 5; {SAYS}"));
    let gate = gate(&format!("url: \"http://{}\", protocol: http2", server.address));
    let mut connections = HashSet::new();
    for round in 0..60 {
        let response = get(gate.data, "/x");
        assert_eq!(response.status, 200, "round {round}: {}", response.text());
        connections.extend(response.text().split(' ').nth(1).map(str::to_owned));
    }
    assert!(connections.len() >= 10, "{connections:?}");
}

#[test]
fn a_websocket_goes_over_a_connection_of_its_own() {
    let server = websocket::Server::start();
    let authority = Authority::new();
    let tunnel = format!(
        "location / {{ proxy_pass http://127.0.0.1:{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} location = /x {{ return 200 $server_protocol; }}",
        server.1
    );
    let edge = nginx(&format!("listen LISTEN ssl http2; {} {tunnel}", directives(&authority.sign("localhost", 90))));
    let gate = gate(&format!(
        "url: \"https://localhost:{}\", protocol: http2, tls: {{ ca: \"{}\" }}",
        edge.address.port(),
        authority.file().display()
    ));
    assert_eq!(websocket::talk(&gate, "talk").trim(), "100 messages, 1000000 bytes");
    assert_eq!(get(gate.data, "/x").text(), "HTTP/2.0");
}

#[test]
fn health_checks_speak_http2_too() {
    let server = nginx(&format!("listen LISTEN http2; location = /healthz {{ return 503; }} {SAYS}"));
    let url = format!("url: \"http://{}\", protocol: http2", server.address);
    let series = |result| {
        format!(
            "portcullis_upstream_health_checks_total{{upstream=\"app\",target=\"{}\",result=\"{result}\"}}",
            server.address
        )
    };
    for (path, result) in [("/well", "passed"), ("/healthz", "failed")] {
        let gate = gate(&format!("{url}, health_check: {{ path: {path}, interval: 100ms }}"));
        until("it was asked twice", || gate.metric(&series(result)).is_some_and(|count| count >= 2.0));
        let other = if result == "passed" { "failed" } else { "passed" };
        assert_eq!(gate.metric(&series(other)), Some(0.0), "{path}");
    }
}

/// An upstream that misbehaves as its paths say (`clients/http2_upstream.py`), and the lines it has said.
struct Scripted {
    address: std::net::SocketAddr,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn start() -> Scripted {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(folder.join("../../target/tools/python/bin/python3"))
            .arg(folder.join("tests/clients/http2_upstream.py"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python is there (run `cargo xtask setup`)");
        let mut said = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port: u16 = said.next().and_then(|port| port.parse().ok()).expect("it says its port");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&lines);
        std::thread::spawn(move || said.for_each(|line| seen.lock().expect("nobody panics with it").push(line)));
        Scripted { address: ([127, 0, 0, 1], port).into(), child, lines }
    }

    fn asked(&self, path: &str) -> usize {
        let lines = self.lines.lock().expect("nobody panics with it");
        lines.iter().filter(|line| line.ends_with(&format!(" {path}"))).count()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn before(upstream: &Scripted, more: &str) -> Gate {
    gate(&format!(
        "url: \"http://{}\", protocol: http2, retry: {{ attempts: 2, backoff: 1ms, budget: 1 }}, circuit_breaker: {{ failures: 1000 }}{more}",
        upstream.address
    ))
}

#[test]
fn a_stream_that_was_not_processed_is_asked_again_and_others_are_not() {
    let upstream = Scripted::start();
    let gate = before(&upstream, "");
    for (path, status, times) in [
        ("/refuse-once", 200, 2),
        // A GOAWAY that leaves the stream out.
        ("/leave-once", 200, 2),
        ("/refuse", 502, 2),
        ("/reset", 502, 2),
    ] {
        let response = get(gate.data, path);
        assert_eq!(response.status, status, "{path}: {}", response.text());
        // What it says comes a moment later.
        until("it says so", || upstream.asked(path) >= times);
        assert_eq!(upstream.asked(path), times, "{path}");
    }
    // What was not processed may be repeated whatever its method; what may have been is not.
    for (path, status, times) in [("/refuse-once?post", 200, 2), ("/leave-once?post", 200, 2), ("/reset?post", 502, 1)]
    {
        let posted = ask(
            gate.data,
            &format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        );
        assert_eq!(posted.status, status, "{path}: {}", posted.text());
        until("it says so", || upstream.asked(path) >= times);
        assert_eq!(upstream.asked(path), times, "{path}");
    }
    // A body that has left is not sent twice, refused or not.
    let posted = ask(gate.data, "POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    assert_eq!(posted.status, 502, "{}", posted.text());
    until("it says so", || upstream.asked("/refuse") >= 3);
    assert_eq!(get(gate.data, "/x").status, 200);
    until("what came after is there", || upstream.asked("/x") == 1);
    assert_eq!(upstream.asked("/refuse"), 3);
}

#[test]
fn what_breaks_one_request_does_not_break_its_neighbours() {
    let upstream = Scripted::start();
    let gate = before(&upstream, ", timeout: { first_byte: 1s }");
    let first = get(gate.data, "/x").text();
    let mut client = Client::connect(gate.data);
    client.send(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    // The reset may overtake the head; then the client's connection closes without one.
    assert!(client.response().is_none_or(|cut| !cut.is_whole));
    assert_eq!(get(gate.data, "/x").text(), first, "a reset stream leaves the connection as it was");
    let late = get(gate.data, "/hang");
    assert_eq!(late.status, 504, "{}", late.text());
    let second = get(gate.data, "/x").text();
    assert_ne!(second, first, "a connection on which a request ran out of time gets no new one");
    for path in ["/garbage", "/die"] {
        assert_eq!(get(gate.data, path).status, 502, "{path}");
        assert_eq!(get(gate.data, "/x").status, 200, "after {path}");
    }
}
