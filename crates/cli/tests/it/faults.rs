//! Faults that need two moments: connections that break after the head, that are reused, that are tried again.

use std::process::Command;
use std::time::Duration;

use portcullis_testkit::client::{Client, ask, get};
use portcullis_testkit::gate::{Gate, signal};

use crate::{BINARY, misbehaving};

fn before(upstream: std::net::SocketAddr, more: &str) -> Gate {
    Gate::start(BINARY, &format!("upstreams: {{ app: {{ url: \"http://{upstream}\"{more} }} }}\n"))
}

#[test]
fn row_38_a_body_that_ends_early_is_cut_and_never_looks_complete() {
    let upstream = misbehaving::start();
    let mut gate = before(upstream.address, "");
    let response = get(gate.data, "/cut");
    assert_eq!(response.status, 200);
    assert!(!response.is_whole, "{}", response.text());
    assert_eq!(gate.wait_for("the cut", |line| line["path"] == "/cut")["end"], "upstream_cut");
}

#[test]
fn row_38_a_connection_with_a_doubtful_answer_is_not_used_again() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, ", retry: { attempts: 1 }");
    // Both cores have their own connections, so ask often enough for both to have been used.
    for path in ["/two-lengths", "/length-and-chunks", "/switch", "/garbage"] {
        let doubtful = get(gate.data, path);
        let connection = upstream.received().last().expect("it arrived").connection;
        for _ in 0..4 {
            let next = get(gate.data, "/connection").text();
            assert_ne!(next, format!("connection {connection}\n"), "after {path} ({})", doubtful.status);
        }
    }
}

#[test]
fn row_39_a_resting_connection_that_the_upstream_closed_is_replaced() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, ", retry: { attempts: 1 }");
    for round in 0..20 {
        assert_eq!(get(gate.data, "/then-close").status, 200, "round {round}");
        let posted = ask(gate.data, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        assert!(posted.status == 200 || posted.status == 502, "round {round}: {}", posted.status);
        assert_eq!(get(gate.data, "/x").status, 200, "round {round}");
    }
}

#[test]
fn row_146_a_post_is_never_sent_twice() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, ", retry: { attempts: 5, backoff: 1ms }, circuit_breaker: { failures: 100 }");
    let response = ask(gate.data, "POST /close HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(response.status, 502);
    assert_eq!(upstream.received().len(), 1);
    let response = get(gate.data, "/close");
    assert_eq!(response.status, 502);
    assert_eq!(upstream.received().len(), 1 + 5, "a GET is tried as often as configured");
}

#[test]
fn a_full_pool_is_503_and_says_when_to_come_back() {
    let upstream = misbehaving::start();
    let config = format!(
        "workers: 1\nupstreams: {{ app: {{ url: \"http://{}\", keep_alive: {{ connections: 1 }} }} }}\n",
        upstream.address
    );
    let mut gate = Gate::start(BINARY, &config);
    let mut first = Client::connect(gate.data);
    first.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    while upstream.received().is_empty() {
        std::thread::yield_now();
    }
    let second = get(gate.data, "/x");
    assert_eq!(second.status, 503);
    assert!(second.text().contains("ERR_OVERLOADED"), "{}", second.text());
    assert!(second.field("retry-after").is_some());
    assert_eq!(gate.wait_for("the refusal", |line| line["path"] == "/x")["guard"], "proxy");
}

#[test]
fn the_whole_time_of_a_request_is_bounded_even_where_the_first_byte_is_not() {
    let upstream = misbehaving::start();
    let config = format!(
        "limits: {{ total: 1s }}\nupstreams: {{ app: {{ url: \"http://{}\", timeout: {{ first_byte: 50s }} }} }}\n",
        upstream.address
    );
    let gate = Gate::start(BINARY, &config);
    let response = get(gate.data, "/hang");
    assert_eq!(response.status, 504);
    assert!(response.text().contains("ERR_DEADLINE_EXCEEDED"), "{}", response.text());
}

#[test]
fn rows_141_to_143_a_real_service_that_is_killed_opens_the_breaker_and_comes_back() {
    let port = misbehaving::nobody().port();
    let service = || {
        Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("python3 runs")
    };
    let mut running = service();
    let gate = before(
        ([127, 0, 0, 1], port).into(),
        ", retry: { attempts: 1 }, circuit_breaker: { failures: 5, window: 60s, ratio: 0, open_for: 1s }",
    );
    let series = "portcullis_circuit_breaker_state{service=\"app\"}";
    let comes_to = |wanted: u16| {
        for _ in 0..400 {
            if get(gate.data, "/").status == wanted {
                return true;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        false
    };
    assert!(comes_to(200), "the service starts");
    signal(running.id(), "KILL");
    let _ = running.wait();
    let codes: Vec<u16> = (0..6).map(|_| get(gate.data, "/").status).collect();
    assert!(codes.contains(&502) && codes.ends_with(&[503]), "{codes:?}");
    assert_eq!(gate.metric(series), Some(2.0), "open");
    // No traffic, and still it does not look open for ever.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(gate.metric(series), Some(1.0), "half-open");
    let mut again = service();
    assert!(comes_to(200), "the service is back");
    assert_eq!(gate.metric(series), Some(0.0), "closed");
    // Stopped, it neither answers nor closes: that is a timeout, and counts as one.
    signal(again.id(), "STOP");
    let _ = ask(gate.data, "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status;
    signal(again.id(), "CONT");
    let _ = again.kill();
    let _ = again.wait();
}
