//! Hostile bytes whose safe answer needs more than one request to be seen. Named after the rows of docs/attacks.md.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{Client, ask, get};
use portcullis_testkit::gate::Gate;
use portcullis_testkit::upstream::{Then, Upstream, say};
use socket2::SockRef;

use crate::{BINARY, misbehaving};

fn before(address: SocketAddr, upstream: &str, more: &str) -> Gate {
    Gate::start(BINARY, &format!("upstreams: {{ app: {{ url: \"http://{address}\"{upstream} }} }}\n{more}"))
}

#[test]
fn row_20_bare_line_feeds_become_the_real_thing_before_they_reach_the_upstream() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "", "");
    let answer = ask(gate.data, "GET /x HTTP/1.1\nHost: a\nX-Kept: 1\n\n");
    assert_eq!(answer.status, 200);
    let head = upstream.received().pop().expect("it arrived").head;
    assert!(head.contains("\r\nx-kept: 1"), "{head}");
    assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
}

#[test]
fn row_24_a_request_of_http_1_0_without_a_host_leaves_with_one() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "", "");
    let seen = ask(gate.data, "GET /x HTTP/1.0\r\n\r\n").text();
    assert_eq!(seen.matches("host: ").count() - seen.matches("-host: ").count(), 1, "{seen}");
    assert!(seen.contains(&format!("host: {}", upstream.address)), "{seen}");
}

#[test]
fn row_32_what_is_sent_behind_an_early_refusal_is_never_a_request() {
    let upstream = misbehaving::start();
    let few = "{ name: few, match: { path: /few }, rate_limit: [{ name: few, by: [address], limit: 1/1h }] }";
    let gate =
        before(upstream.address, "", &format!("limits: {{ body_bytes: 100KiB }}\nroutes: [{{ name: all }}, {few}]\n"));
    assert_eq!(get(gate.data, "/few").status, 200);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000);
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", hidden.len());
    for (path, status, framing) in [
        ("/x", 413, "Content-Length: 200000\r\n\r\n"),
        ("/few", 429, "Content-Length: 80000\r\n\r\n"),
        ("/few", 429, &chunked),
    ] {
        let mut client = Client::connect(gate.data);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}{hidden}").as_bytes());
        let answer = client.response().expect("the answer is not destroyed by a reset");
        assert_eq!((answer.status, answer.field("connection")), (status, Some("close")), "{path} {framing}");
        assert!(answer.is_whole && client.is_closed());
    }
    assert!(upstream.received().iter().all(|request| request.path() != "/hidden"), "a body was read as requests");
}

#[test]
fn row_38_a_body_that_must_not_be_there_comes_late_and_reaches_nobody_else() {
    const EVIL: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let upstream = Upstream::start(|socket, request| {
        let (head, body): (&str, &str) = match request.path() {
            "/head" => ("HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n", "late"),
            "/204" => ("HTTP/1.1 204 No Content\r\nContent-Length: 42\r\n\r\n", "late"),
            "/304" => ("HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n", "late"),
            "/plain" => {
                ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "")
            }
            _ => ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", ""),
        };
        say(socket, head.as_bytes());
        if body == "late" {
            // On the next request of this connection, if there is one, the late body is there first.
            let _ = socket.set_read_timeout(Some(Duration::from_millis(300)));
            let _ = socket.peek(&mut [0]);
            let _ = socket.set_read_timeout(None);
            say(socket, EVIL);
        }
        Then::Keep
    });
    let gate = before(upstream.address, ", retry: { attempts: 1 }", "workers: 1\n");
    for (method, path) in [("HEAD", "/head"), ("GET", "/204"), ("GET", "/304"), ("GET", "/plain")] {
        for _ in 0..5 {
            let first = ask(gate.data, &format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
            assert!([200, 204, 304].contains(&first.status), "{path}: {}", first.status);
            let next = get(gate.data, "/next");
            assert_eq!((next.status, next.text().as_str()), (200, "good"), "after {method} {path}");
        }
    }
}

#[test]
fn row_41_clients_that_vanish_leave_nothing_behind() {
    let upstream = misbehaving::start();
    let gate = before(upstream.address, "", "limits: { total: 30s }\n");
    for round in 0..40 {
        let socket = TcpStream::connect(gate.data).expect("the gateway listens");
        match round % 4 {
            // Not a byte.
            0 => socket.shutdown(Shutdown::Write).expect("shut down"),
            // Half a head.
            1 => say_to(&socket, b"GET / HTTP/1.1\r\nHo"),
            // Nothing more will come, and the answer is still read.
            2 => {
                say_to(&socket, b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
                socket.shutdown(Shutdown::Write).expect("shut down");
            }
            // A reset in the middle of a body.
            _ => {
                say_to(&socket, b"POST /read-all HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
                SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an option can be set");
            }
        }
        drop(socket);
    }
    let started = Instant::now();
    while gate.metric("portcullis_http_requests_in_flight{}") != Some(0.0) {
        assert!(started.elapsed() < Duration::from_secs(10), "requests of clients that are gone stay in flight");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(get(gate.data, "/x").status, 200);
    let failures = "portcullis_circuit_breaker_requests_total{service=\"app\",result=\"failure\"}";
    assert_eq!(gate.metric(failures), Some(0.0), "the upstream is not to blame");
}

fn say_to(mut socket: &TcpStream, bytes: &[u8]) {
    use std::io::Write;
    socket.write_all(bytes).expect("the gateway reads");
}

#[test]
fn row_52_nobody_is_let_through_for_looking_like_a_probe() {
    let upstream = misbehaving::start();
    let routes = "routes: [{ name: rest }, { name: admin, match: { path: /admin, methods: [POST] } }, { name: few, match: { path: /few }, rate_limit: [{ name: few, by: [address], limit: 1/1h }] }]\n";
    let gate = before(upstream.address, "", routes);
    assert_eq!(get(gate.data, "/few").status, 200);
    for fields in [
        "User-Agent: kube-probe/1.30",
        "User-Agent: GoogleHC/1.0",
        "User-Agent: ELB-HealthChecker/2.0",
        "X-Forwarded-Uri: /livez",
        "X-Forwarded-Uri: /public\r\nX-Original-URI: /public\r\nX-Forwarded-Path: /public",
        "X-Forwarded-Method: POST\r\nX-HTTP-Method-Override: POST",
    ] {
        let asked = |path: &str| ask(gate.data, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).status;
        assert_eq!((asked("/admin"), asked("/few")), (405, 429), "{fields}");
    }
    assert!(upstream.received().iter().all(|request| request.path() != "/admin"));
}

#[test]
fn row_65_a_query_is_passed_on_as_it_came_and_decides_nothing() {
    let upstream = misbehaving::start();
    let routes = "routes: [{ name: rest }, { name: admin, match: { path: /admin, methods: [POST] } }]\n";
    let gate = before(upstream.address, "", routes);
    for query in ["a=1&a=2", "a=1;a=2", "path=/admin&_method=DELETE", "/../admin", "a[]=1&a=%00&%61=2", "?admin", ""] {
        let seen = get(gate.data, &format!("/x?{query}"));
        assert_eq!(seen.status, 200, "{query}");
        assert!(seen.text().starts_with(&format!("GET /x?{query} HTTP/1.1")), "{}", seen.text());
    }
    assert_eq!(get(gate.data, "/admin?_method=POST&method=POST").status, 405);
}

#[test]
fn rows_133_and_147_an_upstreams_own_no_is_passed_on_once_whatever_it_says_about_when() {
    let upstream = Upstream::start(|socket, request| {
        let when = request.path().trim_start_matches('/').replace('_', " ");
        let status = if request.head.contains("x-want: 429") { "429 Too Many" } else { "503 Busy" };
        say(socket, format!("HTTP/1.1 {status}\r\nRetry-After: {when}\r\nContent-Length: 0\r\n\r\n").as_bytes());
        Then::Keep
    });
    let gate =
        before(upstream.address, ", retry: { attempts: 5, backoff: 1ms }, circuit_breaker: { failures: 1000 }", "");
    let began = Instant::now();
    for (index, when) in ["1000000000", "0", "-1", "soon", "Thu,_01_Jan_1970_00:00:00_GMT"].iter().enumerate() {
        for want in [429, 503] {
            let answer = ask(gate.data, &format!("GET /{when} HTTP/1.1\r\nHost: a\r\nX-Want: {want}\r\n\r\n"));
            assert_eq!((answer.status, answer.field("retry-after")), (want, Some(&*when.replace('_', " "))));
        }
        assert_eq!(upstream.received().len(), 2 * (index + 1), "it was asked again");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "the gateway waited for the upstream's sake");
}

#[test]
fn row_147_all_attempts_and_their_waits_end_with_the_requests_own_time() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    // It accepts and closes: every attempt may be made again.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let gate = before(
        address,
        ", retry: { attempts: 10, backoff: 400ms }, circuit_breaker: { failures: 1000 }",
        "limits: { total: 2s }\n",
    );
    let began = Instant::now();
    let answer = get(gate.data, "/x");
    assert!([502, 504].contains(&answer.status), "{}", answer.status);
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
}
