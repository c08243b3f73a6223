//! Connections that rest: what they cost, and that they come back.

use std::time::{Duration, Instant};

use portcullis_testkit::client::{Client, PATIENCE};
use portcullis_testkit::gate::{Folder, Gate};

use super::{echo, gate};

const PLAIN: &str = "{ address: \"127.0.0.1:0\" }";
const CONNECTIONS: usize = 2000;

fn resident_bytes(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("Linux tells it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

fn ask(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let response = client.response().expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (200, path));
}

#[test]
fn a_resting_connection_keeps_little_more_than_its_socket_and_comes_back() {
    let upstream = echo();
    let gate = gate(
        Folder::new(),
        &upstream,
        PLAIN,
        "rate_limit: [{ name: all, by: [address], limit: 1000000/1s, burst: 1000000 }]\n\
         overload: { connections_per_address: 10000 }\n",
    );
    let mut warm: Vec<Client> = (0..64).map(|_| Client::connect(gate.data)).collect();
    warm.iter_mut().for_each(|client| ask(client, "/warm"));
    std::thread::sleep(Duration::from_millis(500));
    let before = resident_bytes(&gate);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(gate.data);
        ask(&mut client, "/first");
        clients.push(client);
    }
    // What serves a connection is put away 200 ms after its last answer, and its memory goes back soon after that.
    let each = || resident_bytes(&gate).saturating_sub(before) / CONNECTIONS as u64;
    let began = Instant::now();
    while each() > 8 * 1024 {
        assert!(began.elapsed() < PATIENCE, "{} bytes a resting connection", each());
        std::thread::sleep(Duration::from_millis(50));
    }
    for client in &mut clients {
        ask(client, "/second");
    }
}

#[test]
fn the_first_head_has_what_silence_left_of_its_time() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, PLAIN, "limits: { header_timeout: 2s }\n");
    let began = Instant::now();
    let mut client = Client::connect(gate.data);
    std::thread::sleep(Duration::from_millis(1500));
    client.send(b"GET / HTT");
    assert_eq!(client.response().map(|response| response.status), Some(408));
    assert!(began.elapsed() < Duration::from_millis(3200), "{:?}", began.elapsed());
}

#[test]
fn half_a_head_behind_an_answer_gets_the_heads_time_not_the_idle_time() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, PLAIN, "limits: { header_timeout: 1s }\nconnections: { idle: 60s }\n");
    let mut client = Client::connect(gate.data);
    client.send(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTT");
    assert_eq!(client.response().map(|response| response.text()), Some("/one".to_owned()));
    assert_eq!(client.response().map(|response| response.status), Some(408));
    assert!(client.is_closed());
    // And a head whose second half comes in time is a request like any other.
    let mut client = Client::connect(gate.data);
    client.send(b"GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTT");
    assert_eq!(client.response().map(|response| response.text()), Some("/one".to_owned()));
    std::thread::sleep(Duration::from_millis(400));
    client.send(b"P/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().map(|response| response.text()), Some("/two".to_owned()));
}
