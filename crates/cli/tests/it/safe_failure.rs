//! Failing safely, against the real binary: routes that are read-only, by hand and by themselves.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{Response, ask, get};
use portcullis_testkit::gate::{Gate, signal};
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

/// A service that ends with this.
struct News(Child);

impl News {
    fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }
}

impl Drop for News {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service in Node: `/page` may be kept by anybody, `/mine` by nobody, and a PUT changes the page.
fn news(port: u16) -> News {
    const SERVICE: &str = r#"
        let edition = 1;
        require("http").createServer((request, response) => {
            if (request.method === "PUT") { edition += 1; return response.writeHead(204).end(); }
            const kept = request.url.startsWith("/page") ? "max-age=1" : "private";
            response.writeHead(200, { "Cache-Control": kept, "Content-Type": "text/plain" });
            response.end(request.method === "HEAD" ? "" : `edition ${edition}`);
        }).listen(+process.argv[1], "127.0.0.1");
    "#;
    let mut command = Command::new("node");
    command.args(["-e", SERVICE, &port.to_string()]).stdout(Stdio::null());
    let service = News(command.spawn().expect("node runs"));
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "the service does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    service
}

#[test]
fn the_last_good_answer_is_served_while_a_real_service_is_killed_or_stopped() {
    let port = misbehaving::nobody().port();
    let service = news(port);
    let mut gate = Gate::start(
        BINARY,
        &format!(
            "upstreams: {{ app: {{ url: \"http://127.0.0.1:{port}\", stale_if_error: 5m, retry: {{ attempts: 1 }},\n  \
             timeout: {{ first_byte: 500ms }}, circuit_breaker: {{ failures: 3, ratio: 0, open_for: 1s }} }} }}\n\
             routes:\n- {{ name: all, match: {{ path: /** }} }}\n\
             - {{ name: strict, match: {{ path: /page/strict }}, on_outage: {{ upstream: closed }} }}\n"
        ),
    );
    let text = |path: &str| get(gate.data, path);
    for path in ["/page", "/page/strict", "/mine"] {
        assert_eq!((text(path).status, text(path).field("cache-status")), (200, None), "{path}");
    }
    assert_eq!(ask(gate.data, "PUT /page HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").status, 204);
    assert_eq!(text("/page?other").text(), "edition 2");

    service.signal("KILL");
    drop(service);
    assert_eq!(text("/page").status, 502, "what was kept before the write is gone");
    let answer = text("/page?other");
    assert_eq!((answer.status, answer.text().as_str()), (200, "edition 2"));
    assert!(answer.field("age").is_some() && answer.field("x-request-id").is_some());
    let how = answer.field("cache-status").expect("it is marked").to_owned();
    assert!(how.starts_with("portcullis; fwd=stale; ttl=") && how.ends_with("; detail=stale-if-error"), "{how}");
    let head = ask(gate.data, "HEAD /page?other HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    assert!(text("/mine").status >= 502 && text("/page/strict").status >= 502);
    let how = text("/page?other").field("cache-status").map(str::to_owned);
    assert!(how.is_some_and(|how| how.starts_with("portcullis; hit; ttl=")), "the breaker is open by now");
    assert!(gate.metric("portcullis_stale_if_error_served_total{route=\"all\"}") >= Some(3.0));

    let service = news(port);
    let comes_back = |wanted: &str| {
        let began = Instant::now();
        while text("/page?other").text() != wanted || text("/page?other").field("cache-status").is_some() {
            assert!(began.elapsed() < Duration::from_secs(20), "the service is well, and nobody asks it");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    comes_back("edition 1");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(text("/page?other").field("cache-status"), None);
    service.signal("STOP");
    let answer = text("/page?other");
    assert_eq!((answer.status, answer.text().as_str()), (200, "edition 1"), "a service that hangs");
    service.signal("CONT");
    comes_back("edition 1");
    service.signal("KILL");
    drop(service);
    // Each core hands its lines over by itself, so the breaker's may come first.
    let is_it = |line: &Value| line["stood_in"] == "stale_if_error" && line["guard"] == "proxy";
    let line = gate.wait_for("a line about it", is_it);
    assert_eq!(
        (&line["status"], &line["guard"], &line["code"]),
        (&200.into(), &"proxy".into(), &"ERR_UPSTREAM_UNREACHABLE".into())
    );
}
