//! Start, reload, drain and end of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_testkit::client::{Client, get};
use portcullis_testkit::gate::{Gate, ON_FREE_PORTS};

use crate::{BINARY, misbehaving};

const LIMIT: Duration = Duration::from_secs(30);

fn config(upstream: std::net::SocketAddr, more: &str) -> String {
    format!(
        "upstreams: {{ app: {{ url: \"http://{upstream}\" }} }}\nrate_limit: [{{ name: all, by: [address], limit: 1000000/1s, burst: 1000000 }}]\n{more}"
    )
}

/// Sixteen clients that keep their connections, as a load balancer does: told to close, they ask whether the gateway is
/// ready, and go elsewhere when it is not.
#[test]
fn row_180_term_under_load_loses_no_request_and_exits_0() {
    let upstream = misbehaving::start();
    let mut gate = Gate::start(BINARY, &config(upstream.address, "shutdown: { drain_delay: 1s }\n"));
    let lost = Arc::new(AtomicUsize::new(0));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (data, telemetry) = (gate.data, gate.telemetry);
            let (lost, answered) = (Arc::clone(&lost), Arc::clone(&answered));
            std::thread::spawn(move || {
                loop {
                    let mut client = Client::connect(data);
                    loop {
                        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
                        let Some(response) = client.response().filter(|response| response.is_whole) else {
                            lost.fetch_add(1, Ordering::SeqCst);
                            return;
                        };
                        assert_eq!(response.status, 200, "{}", response.text());
                        answered.fetch_add(1, Ordering::SeqCst);
                        if response.field("connection") == Some("close") {
                            break;
                        }
                    }
                    if get(telemetry, "/readyz").status != 200 {
                        return;
                    }
                }
            })
        })
        .collect();
    while answered.load(Ordering::SeqCst) < 500 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut resting = Client::connect(gate.data);
    resting.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(resting.response().expect("an answer").field("connection"), None);
    gate.signal("TERM");
    gate.wait_for_event("draining");
    assert_eq!(get(gate.telemetry, "/readyz").status, 503, "not ready at once");
    assert_eq!(get(gate.telemetry, "/livez").status, 200, "and still alive");
    assert_eq!(get(gate.data, "/x").status, 200, "and still accepting");
    resting.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let told = resting.response().expect("a connection that rested is not closed under a request");
    assert_eq!(told.field("connection"), Some("close"));
    assert_eq!(gate.wait(LIMIT).code(), Some(0));
    for client in clients {
        client.join().expect("no client saw anything but 200");
    }
    assert_eq!(lost.load(Ordering::SeqCst), 0, "of {} requests", answered.load(Ordering::SeqCst));
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut gate = Gate::start(BINARY, &config(address, "shutdown: { drain_delay: 0s }\n"));
    let mut client = Client::connect(gate.data);
    client.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut service, _) = listener.accept().expect("it connects");
    gate.signal("TERM");
    gate.wait_for_event("draining");
    std::thread::sleep(Duration::from_millis(300));
    std::io::Write::write_all(&mut service, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").expect("sent");
    let response = client.response().expect("an answer");
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(gate.wait(LIMIT).code(), Some(0));
}

#[test]
fn what_is_not_done_in_time_is_cut_with_3_and_a_second_signal_forces_with_2() {
    let upstream = misbehaving::start();
    for (second, total, code) in [(false, "500ms", 3), (true, "30s", 2)] {
        let mut gate = Gate::start(
            BINARY,
            &config(upstream.address, &format!("shutdown: {{ drain_delay: 100ms, total: {total} }}\n")),
        );
        let mut client = Client::connect(gate.data);
        client.send(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
        let already = upstream.received().len();
        while upstream.received().len() == already
            && !upstream.received().iter().any(|request| request.path() == "/hang")
        {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(100));
        gate.signal("TERM");
        gate.wait_for_event("draining");
        if second {
            gate.signal("TERM");
        }
        assert_eq!(gate.wait(LIMIT).code(), Some(code));
    }
}

#[test]
fn a_good_config_is_taken_on_hup_and_on_change_and_a_bad_one_keeps_the_old() {
    let upstream = misbehaving::start();
    let mut gate = Gate::start(BINARY, &config(upstream.address, ""));
    let mut kept = Client::connect(gate.data);
    let mut ask_kept = || {
        kept.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        kept.response().expect("the connection outlives every reload")
    };
    assert_eq!(ask_kept().field("x-frame-options"), Some("SAMEORIGIN"));
    let write = |gate: &Gate, more: &str| {
        let text = format!("{ON_FREE_PORTS}{}", config(upstream.address, more));
        std::fs::write(&gate.config, text).expect("the config can be written");
    };
    write(&gate, "security_headers: { x_frame_options: DENY }\n");
    gate.signal("HUP");
    gate.wait_for_event("reloaded");
    assert_eq!(ask_kept().field("x-frame-options"), Some("DENY"));

    write(&gate, "security_headers: { x_frame_option: SAMEORIGIN }\n");
    let refused = gate.wait_for_event("reload_refused");
    let mistake = refused["mistake"].as_str().unwrap_or_default();
    assert!(mistake.contains(":5:") && mistake.contains("did you mean `x_frame_options`?"), "{mistake}");
    assert_eq!(ask_kept().field("x-frame-options"), Some("DENY"), "the old one goes on");
    assert_eq!(gate.metric("portcullis_config_last_reload_success{}"), Some(0.0));
    let health = get(gate.telemetry, "/health").text();
    assert!(health.contains("did you mean"), "{health}");

    // A change of what only a start can change is refused as well, whole.
    let text = format!("{ON_FREE_PORTS}workers: 7\n{}", config(upstream.address, ""));
    std::fs::write(&gate.config, text).expect("the config can be written");
    gate.wait_for("the refusal", |line| line["mistake"].as_str().is_some_and(|text| text.contains("needs a restart")));
    assert_eq!(ask_kept().field("x-frame-options"), Some("DENY"));

    write(&gate, "");
    gate.wait_for("the file's second good config", |line| line["msg"] == "reloaded" && line["trigger"] == "file");
    assert_eq!(ask_kept().field("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(gate.metric("portcullis_config_last_reload_success{}"), Some(1.0));
}

#[test]
fn an_unchanged_upstream_keeps_its_connections_and_a_limit_its_count_over_a_reload() {
    let upstream = misbehaving::start();
    let limited = "routes: [{ name: r, match: { path: /** }, rate_limit: [{ name: few, by: [address], limit: 3/1h, burst: 3 }] }]\n";
    let start = format!("workers: 1\nupstreams: {{ app: {{ url: \"http://{}\" }} }}\n{limited}", upstream.address);
    let mut gate = Gate::start(BINARY, &start);
    let first = get(gate.data, "/connection").text();
    std::fs::write(&gate.config, format!("{ON_FREE_PORTS}{start}security_headers: {{ x_frame_options: DENY }}\n"))
        .expect("written");
    gate.signal("HUP");
    gate.wait_for_event("reloaded");
    let second = get(gate.data, "/connection");
    assert_eq!(second.text(), first, "the same connection");
    assert_eq!(second.field("x-ratelimit-remaining"), Some("1"), "and the same bucket");
}

#[test]
fn a_taken_address_is_told_and_nothing_starts() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = std::process::Command::new(BINARY)
        .args(["run", "--upstream", "http://127.0.0.1:1", "--listen", &address, "--telemetry", "127.0.0.1:0"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&address), "{said}");
}
