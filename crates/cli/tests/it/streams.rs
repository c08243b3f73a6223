//! Bodies are streamed both ways, and a hang-up on one side ends the work on the other.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use portcullis_testkit::client::{Client, PATIENCE};
use portcullis_testkit::gate::Gate;

use crate::{BINARY, misbehaving};

fn before(address: std::net::SocketAddr, more: &str) -> Gate {
    Gate::start(BINARY, &format!("upstreams: {{ app: {{ url: \"http://{address}\" }} }}\n{more}"))
}

/// A service whose two ends the test holds: it says when.
fn held() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

fn head(socket: &mut TcpStream) -> String {
    socket.set_read_timeout(Some(PATIENCE)).expect("an option can be set");
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|read| read == 1) {
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn events_arrive_one_by_one() {
    let (listener, address) = held();
    let gate = before(address, "");
    let mut client = Client::connect(gate.data);
    client.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut service, _) = listener.accept().expect("it connects");
    head(&mut service);
    service
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("sent");
    for event in ["first", "second", "third"] {
        service.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).expect("sent");
        // The next event is only sent once this one has reached the client.
        while !String::from_utf8_lossy(client.unread()).contains(event) {
            assert!(client.read_more(), "{event} never came");
        }
    }
}

#[test]
fn an_upload_is_not_held_back_and_not_held_in_memory() {
    let (listener, address) = held();
    let gate = before(address, "limits: { body_bytes: 3GiB }\n");
    let mut client = Client::connect(gate.data);
    client.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2147483648\r\n\r\nthe first bytes");
    let (mut service, _) = listener.accept().expect("it connects");
    head(&mut service);
    let mut first = [0; 15];
    service.read_exact(&mut first).expect("the first bytes come before the last");
    assert_eq!(&first, b"the first bytes");
    // The service reads nothing more: what the client can push now is what the kernel and one frame hold.
    let before = resident_kib(gate.pid());
    let pusher = std::thread::spawn(move || {
        let chunk = vec![0; 1 << 20];
        for _ in 0..200 {
            client.send(&chunk);
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let grown = resident_kib(gate.pid()).saturating_sub(before);
    assert!(grown < 16 * 1024, "the gateway grew by {grown} KiB");
    drop(service);
    drop(gate);
    let _ = pusher.join();
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has a size");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
}

#[test]
fn a_clients_hang_up_cancels_the_upstreams_work_and_is_logged() {
    let (listener, address) = held();
    let mut gate = before(address, "");
    let client = TcpStream::connect(gate.data).expect("it listens");
    (&client).write_all(b"GET /work HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let (mut service, _) = listener.accept().expect("it connects");
    head(&mut service);
    client.shutdown(Shutdown::Both).expect("hung up");
    drop(client);
    let mut scratch = [0; 16];
    assert_eq!(service.read(&mut scratch).unwrap_or(0), 0, "the upstream sees the end");
    let line = gate.wait_for("the hang-up", |line| line["path"] == "/work");
    assert_eq!((&line["end"], &line["status"]), (&"client_gone".into(), &499.into()));
    assert_eq!(gate.metric("portcullis_http_requests_in_flight{}"), Some(0.0));
    assert_eq!(gate.metric("portcullis_circuit_breaker_requests_total{service=\"app\",result=\"failure\"}"), Some(0.0));
}

#[test]
fn row_31_no_100_is_sent_before_the_gateway_has_decided() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "limits: { body_bytes: 10B }\n");
    let mut refused = Client::connect(gate.data);
    refused.send(b"POST /read-all HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    let answer = refused.response().expect("an answer");
    assert_eq!((answer.status, answer.field("connection")), (413, Some("close")));
    let mut taken = Client::connect(gate.data);
    taken.send(b"POST /read-all HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(taken.response().expect("an answer").status, 100);
    taken.send(b"hello");
    assert_eq!(taken.response().expect("an answer").status, 200);
}

#[test]
fn head_and_keep_alive_and_row_40_pipelining_answer_in_order() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "");
    let mut client = Client::connect(gate.data);
    let mut requests = String::new();
    for index in 0..50 {
        requests.push_str(&if index == 30 {
            "BROKEN\r\n\r\n".to_owned()
        } else {
            format!("GET /number-{index} HTTP/1.1\r\nHost: a\r\n\r\n")
        });
    }
    client.send(requests.as_bytes());
    for index in 0..30 {
        let response = client.response().expect("an answer");
        assert!(response.text().starts_with(&format!("GET /number-{index} ")), "{}", response.text());
    }
    let broken = client.response().expect("an answer");
    assert_eq!(broken.status, 400);
    assert!(broken.text().contains("ERR_MALFORMED_REQUEST"), "{}", broken.text());
    assert!(client.is_closed());
}

#[test]
fn rows_15_and_36_trailers_and_nominated_fields_do_not_reach_the_upstream() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "");
    let mut client = Client::connect(gate.data);
    client.send(
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For, X-Request-Id, X-Drop\r\nX-Drop: 1\r\n\
          X-Forwarded-For: 9.9.9.9\r\nX-Request-Id: mine\r\nX-Portcullis-User: admin\r\nTransfer-Encoding: chunked\r\n\
          Trailer: X-Portcullis-User\r\n\r\n2\r\nhi\r\n0\r\nX-Portcullis-User: admin\r\n\r\n",
    );
    let seen = client.response().expect("an answer").text();
    let received = upstream.received();
    let head = &received.first().expect("it arrived").head.to_lowercase();
    assert!(head.contains("x-forwarded-for: 127.0.0.1"), "{head}");
    assert!(head.contains("x-request-id: ") && !head.contains("x-request-id: mine"), "{head}");
    for gone in ["x-drop", "9.9.9.9", "admin", "trailer"] {
        assert!(!head.contains(gone) && !seen.to_lowercase().contains(gone), "{gone} in {head}");
    }
}

/// Two channels make sure that both sides are really open at the same time.
#[test]
fn both_directions_flow_at_once() {
    let (listener, address) = held();
    let gate = before(address, "");
    let mut client = Client::connect(gate.data);
    client.send(b"POST /both HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let (tell, told) = channel();
    let service = std::thread::spawn(move || {
        let (mut service, _) = listener.accept().expect("it connects");
        head(&mut service);
        service.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n").expect("sent");
        let mut bytes = Vec::new();
        let mut scratch = [0; 64];
        while !bytes.ends_with(b"0\r\n\r\n") {
            let read = service.read(&mut scratch).expect("the rest of the request");
            assert!(read > 0, "the request was cut");
            bytes.extend_from_slice(&scratch[..read]);
        }
        service.write_all(b"0\r\n\r\n").expect("sent");
        tell.send(bytes).expect("the test waits");
    });
    while !String::from_utf8_lossy(client.unread()).contains("1\r\nb") {
        assert!(client.read_more(), "the answer must come before the request has ended");
    }
    client.send(b"1\r\nc\r\n0\r\n\r\n");
    let request = told.recv_timeout(PATIENCE).expect("the service got it all");
    assert!(String::from_utf8_lossy(&request).contains('c'));
    service.join().expect("the service is content");
}

#[test]
fn row_131_a_slow_head_is_answered_with_408_and_a_client_that_does_not_read_is_cut() {
    let upstream = misbehaving::start();
    let mut gate = before(upstream.address, "limits: { header_timeout: 1s, total: 2s }\n");
    let mut slow = Client::connect(gate.data);
    slow.send(b"GET / HTTP/1.1\r\nHo");
    let answer = slow.response().expect("an answer");
    assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
    assert!(answer.text().contains("ERR_HEADER_TIMEOUT"), "{}", answer.text());
    assert!(slow.is_closed());
    // The upstream sends far more than the kernel's buffers hold, and the client reads none of it.
    let mut deaf = Client::connect(gate.data);
    deaf.send(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(gate.wait_for("the cut", |line| line["path"] == "/flood")["end"], "deadline");
}
