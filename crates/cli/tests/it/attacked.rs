//! What an attacker with the source found, each held by a test.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use portcullis_testkit::client::{Client, ask, get};
use portcullis_testkit::gate::Gate;

use crate::{BINARY, misbehaving};

fn before(address: std::net::SocketAddr, upstream: &str, more: &str) -> Gate {
    Gate::start(BINARY, &format!("upstreams: {{ app: {{ url: \"http://{address}\"{upstream} }} }}\n{more}"))
}

/// hyper writes an absolute target without a path as nothing at all; five such requests opened the breaker for everyone.
#[test]
fn row_25_an_absolute_target_without_a_path_is_sent_as_a_slash() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "", "");
    for (target, expected) in [("http://b", "GET / HTTP/1.1"), ("http://b?q=1", "GET /?q=1 HTTP/1.1")] {
        let seen = ask(gate.data, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(seen.text().starts_with(expected), "{target}: {}", seen.text());
    }
}

#[test]
fn row_143_clients_that_withhold_their_bodies_cannot_hold_the_probe() {
    let port = misbehaving::nobody().port();
    let gate = before(
        ([127, 0, 0, 1], port).into(),
        ", retry: { attempts: 1 }, circuit_breaker: { failures: 2, ratio: 0, open_for: 2s }",
        "limits: { total: 20s }\n",
    );
    while get(gate.data, "/").status != 503 {}
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            std::thread::spawn(move || {
                let mut scratch = [0; 1024];
                while socket.read(&mut scratch).is_ok_and(|read| read > 0) {
                    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    let mut withholding = Vec::new();
    let started = Instant::now();
    loop {
        let mut client = Client::connect(gate.data);
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx");
        withholding.push(client);
        if get(gate.data, "/").status == 200 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(4), "the upstream is back, and nobody gets through");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_first_bytes_time_begins_when_the_upload_ends() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let gate = before(address, ", retry: { attempts: 1 }, timeout: { first_byte: 1s }", "limits: { total: 60s }\n");
    std::thread::spawn(move || {
        let sockets: Vec<_> = listener.incoming().collect();
        drop(sockets);
    });
    let mut client = Client::connect(gate.data);
    client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    std::thread::sleep(Duration::from_millis(1500));
    client.send(b"b");
    let sent = Instant::now();
    let answer = client.response().expect("an answer");
    assert!(answer.text().contains("ERR_UPSTREAM_TIMEOUT"), "{}", answer.text());
    let took = sent.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[test]
fn an_upstream_that_does_not_read_is_not_the_clients_fault() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let gate = before(address, ", retry: { attempts: 1 }", "limits: { total: 2s, body_bytes: 1GiB }\n");
    let mut client = Client::connect(gate.data);
    client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n");
    let socket = listener.accept().expect("it connects");
    let data = gate.data;
    let pusher = std::thread::spawn(move || {
        let chunk = vec![0; 1 << 20];
        for _ in 0..64 {
            client.send(&chunk);
        }
        client.response()
    });
    let answer = pusher.join().expect("the client is content");
    drop(socket);
    // The answer may be lost where the client was still sending when it came; the breaker is told in any case.
    if let Some(answer) = answer {
        assert_eq!(answer.status, 504, "{}", answer.text());
    }
    let errors = gate.metric("portcullis_circuit_breaker_errors_total{service=\"app\",error_type=\"timeout\"}");
    assert_eq!(errors, Some(1.0), "{data}");
}

#[test]
fn a_body_that_is_cut_counts_against_the_upstream() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, ", circuit_breaker: { failures: 3, open_for: 60s }", "");
    let statuses: Vec<u16> = (0..5).map(|_| get(gate.data, "/cut").status).collect();
    assert_eq!(statuses, [200, 200, 200, 503, 503]);
}

#[test]
fn a_kept_connection_does_not_hold_up_the_end() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut gate = before(address, "", "shutdown: { drain_delay: 100ms, total: 20s }\n");
    let mut client = Client::connect(gate.data);
    client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut service, _) = listener.accept().expect("it connects");
    let read = service.read(&mut [0; 1024]).expect("the request");
    assert!(read > 0);
    service.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").expect("sent");
    while !String::from_utf8_lossy(client.unread()).contains("half") {
        assert!(client.read_more());
    }
    gate.signal("TERM");
    gate.wait_for_event("draining");
    std::thread::sleep(Duration::from_millis(300));
    service.write_all(b"done").expect("sent");
    let answer = client.response().expect("the rest");
    assert!(answer.is_whole);
    // The client keeps its socket and says nothing more.
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn row_49_the_gateways_own_fields_have_no_twins() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, ", request_headers: { X-Gateway-User: gw }", "");
    let seen = ask(
        gate.data,
        "GET /x HTTP/1.1\r\nHost: a\r\nX_Gateway_User: admin\r\nX.Gateway.User: admin\r\nX-Gateway-User: admin\r\nProxy: http://evil\r\n\r\n",
    );
    assert!(seen.text().contains("x-gateway-user: gw"), "{}", seen.text());
    assert!(!seen.text().contains("admin") && !seen.text().contains("evil"), "{}", seen.text());
}

#[test]
fn row_132_a_chunked_get_reaches_the_upstream_whole() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "", "");
    let seen = ask(gate.data, "GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    assert_eq!(seen.status, 200);
    assert!(seen.text().contains("transfer-encoding: chunked"), "{}", seen.text());
}

#[test]
fn row_131_a_client_that_reads_slowly_is_cut_by_the_requests_own_time() {
    let upstream = misbehaving::start();
    let mut gate =
        before(upstream.address, "", "limits: { total: 2s, header_timeout: 1s }\nconnections: { idle: 3s }\n");
    let mut client = Client::connect(gate.data);
    client.send(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    let started = Instant::now();
    while client.read_more() && started.elapsed() < Duration::from_secs(15) {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(started.elapsed() < Duration::from_secs(15), "a little progress must not win time");
    assert_eq!(gate.wait_for("the cut", |line| line["path"] == "/flood")["end"], "deadline");
}

#[test]
fn probes_are_answered_while_others_hold_telemetry_connections() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "", "");
    let held: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::connect(gate.telemetry);
            client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    let started = Instant::now();
    assert_eq!(get(gate.telemetry, "/livez").status, 200);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    drop(held);
}
