//! Failing safely, against the real binary: routes that are read-only, by hand and by themselves.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{Response, ask, get};
use portcullis_testkit::gate::Gate;
use serde_json::Value;

use crate::{BINARY, misbehaving};

fn before(address: std::net::SocketAddr, read_only: &str) -> Gate {
    Gate::start(
        BINARY,
        &format!(
            "upstreams: {{ app: {{ url: \"http://{address}\", retry: {{ attempts: 1 }}, circuit_breaker: {{ failures: 1000 }} }} }}\n\
             control: {{ socket: c.sock }}\nread_only: {read_only}\n\
             rate_limit: [{{ name: all, by: [address], limit: 100000/1s, burst: 100000 }}]\n\
             routes: [{{ name: api, match: {{ path: /** }} }}]\n"
        ),
    )
}

fn write(to: std::net::SocketAddr, path: &str) -> Response {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    );
    ask(to, &request)
}

fn is_read_only(answer: &Response) -> bool {
    let is_it = answer.status == 503 && answer.text().contains("ERR_READ_ONLY");
    assert_eq!(is_it, answer.status == 503, "{}", answer.text());
    assert!(!is_it || answer.field("retry-after").is_some());
    is_it
}

/// `portcullis read-only ...`: whether it ended well, and what it said.
fn command(gate: &Gate, arguments: &[&str]) -> (bool, Value) {
    let mut command = Command::new(BINARY);
    command.arg("read-only").args(arguments).arg("--json").arg("--config").arg(&gate.config);
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), serde_json::from_str(&said).unwrap_or(Value::String(said)))
}

#[test]
fn row_148_by_hand_writes_hear_503_reads_go_on_and_health_says_so() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "{ mode: never }");
    assert_eq!(write(gate.data, "/x").status, 200);
    let (is_done, said) = command(&gate, &["on", "api"]);
    assert!(is_done && said["routes"][0]["why"] == "hand", "{said}");
    assert!(is_read_only(&write(gate.data, "/x")));
    assert_eq!(get(gate.data, "/x").status, 200);
    assert_eq!(upstream.received().len(), 2, "the refused write never left");
    let health: Value = serde_json::from_str(&get(gate.telemetry, "/health").text()).expect("JSON");
    assert_eq!(health["read_only"][0]["read_only"], true, "{health}");
    assert_eq!(gate.metric("portcullis_read_only_active{route=\"api\"}"), Some(1.0));
    let (is_done, said) = command(&gate, &["list"]);
    assert!(is_done && said["routes"][0]["by_hand"] == "on", "{said}");
    assert!(!command(&gate, &["on", "nowhere"]).0, "a route that is not there");
    assert!(command(&gate, &["auto"]).0);
    assert_eq!(write(gate.data, "/x").status, 200);
    assert_eq!(gate.metric("portcullis_read_only_active{route=\"api\"}"), Some(0.0));
}

#[test]
fn writes_that_fail_make_a_route_read_only_until_one_succeeds() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "{ mode: auto, failures: 3, hold: 1s }");
    for _ in 0..3 {
        assert_eq!(write(gate.data, "/status?500+Oops").status, 500);
    }
    assert!(is_read_only(&write(gate.data, "/x")));
    assert_eq!(get(gate.data, "/x").status, 200, "reads go on");
    let started = Instant::now();
    while is_read_only(&write(gate.data, "/x")) {
        assert!(started.elapsed() < Duration::from_secs(10), "the service is well, and nobody finds out");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(write(gate.data, "/x").status, 200);
    // A connection that breaks is a failure too.
    for _ in 0..3 {
        assert_eq!(write(gate.data, "/close").status, 502);
    }
    assert!(is_read_only(&write(gate.data, "/x")));
}

#[test]
fn row_148_flipped_under_load_no_write_in_flight_is_lost() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "{ mode: never }");
    let (is_over, address) = (AtomicBool::new(false), gate.data);
    let (done, refused) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut done, mut refused) = (0, 0);
                    while !is_over.load(Ordering::SeqCst) {
                        let answer = write(address, "/read-all");
                        assert!(answer.is_whole);
                        match is_read_only(&answer) {
                            true => refused += 1,
                            false => {
                                assert_eq!((answer.status, answer.text().as_str()), (200, "read 2\n"));
                                done += 1;
                            }
                        }
                    }
                    (done, refused)
                })
            })
            .collect();
        for state in ["on", "off", "on", "auto", "on", "off"] {
            assert!(command(&gate, &[state]).0);
            std::thread::sleep(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::SeqCst);
        let counts = writers.into_iter().map(|writer| writer.join().expect("it is content"));
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    assert!(done > 0 && refused > 0, "{done} {refused}");
    assert_eq!(upstream.received().len(), done, "every write that left was answered, and no other left");
}
