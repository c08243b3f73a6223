//! The same hostile requests through the gateway to five real servers. A recorder in between keeps every byte that each
//! server got, and an independent reader reads them again: one request in, at most one out, in canonical form, and never
//! an answer that belongs to somebody else. For paths, what counts is what the server understood.

mod corpus;
mod paths;
mod servers;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{PATIENCE, ask, get};
use portcullis_testkit::gate::Gate;
use portcullis_testkit::reread::{self, Request};

use self::corpus::Case;
use self::servers::{Record, Server};
use crate::BINARY;

/// How many connections are open at once.
const AT_ONCE: usize = 40;

fn all_servers() -> Vec<Server> {
    let mut servers = vec![servers::tomcat(), servers::apache(), servers::nginx(), servers::node(), servers::python()];
    servers.iter_mut().for_each(Server::wait);
    servers
}

fn gate_before(address: SocketAddr) -> Gate {
    Gate::start(
        BINARY,
        &format!(
            "upstreams: {{ app: {{ url: \"http://{address}\", retry: {{ attempts: 1 }}, circuit_breaker: {{ failures: 1000 }} }} }}\n\
             rate_limit: [{{ name: all, by: [address], limit: 1000000/1s, burst: 1000000 }}]\n\
             limits: {{ header_timeout: 1s, total: 20s }}\nconnections: {{ idle: 1s }}\n\
             routes: [{{ name: rest }}, {{ name: admin, match: {{ path: /admin/**, methods: [POST] }} }}]\n"
        ),
    )
}

#[test]
fn rows_1_to_41_one_request_in_is_at_most_one_out_before_five_servers() {
    let cases = corpus::all();
    assert!(cases.len() > 400, "{}", cases.len());
    let servers = all_servers();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = servers.iter().map(|server| scope.spawn(|| before(server, &cases))).collect();
        runs.into_iter().flat_map(|run| run.join().expect("a run does not panic")).collect()
    });
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn before(server: &Server, cases: &[Case]) -> Vec<String> {
    let (address, record) = servers::recorder(server.address);
    let gate = gate_before(address);
    let failures = Mutex::new(Vec::new());
    let fail =
        |what: String| failures.lock().expect("nobody panics with the lock").push(format!("{}: {what}", server.name));
    let next = AtomicUsize::new(0);
    let statuses: Mutex<BTreeMap<String, usize>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((number, case)) = cases.get(next.load(Ordering::Relaxed)).and_then(|_| {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(number).map(|case| (number, case))
                }) {
                    let answer = converse(gate.data, &case.bytes);
                    let status = String::from_utf8_lossy(answer.get(9..12).unwrap_or(b"none")).into_owned();
                    *statuses.lock().expect("nobody panics with the lock").entry(status).or_default() += 1;
                    for other in numbers(&answer).into_iter().filter(|other| *other != number) {
                        fail(format!(
                            "case {number} (row {}) got an answer of case {other}: {}",
                            case.row,
                            shown(&answer)
                        ));
                    }
                }
            });
        }
    });
    // Whatever became of them, the next one is served and gets its own answer.
    let last = get(gate.data, "/c999999/last");
    if ![200, 404].contains(&last.status) {
        fail(format!("afterwards the answer is {}: {}", last.status, last.text()));
    }
    settle(&gate);
    examine(&record, cases, &fail);
    println!("{}: {:?}", server.name, statuses.lock().expect("nobody panics with the lock"));
    failures.into_inner().expect("nobody panics with the lock")
}

/// Waits until no request is under way, so that what a server got is complete.
fn settle(gate: &Gate) {
    let started = Instant::now();
    while gate.metric("portcullis_http_requests_in_flight{}") != Some(0.0) {
        assert!(started.elapsed() < Duration::from_secs(20), "requests stay in flight");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends the bytes and reads until the gateway closes, which it does after a second of rest.
fn converse(gateway: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(gateway).expect("the gateway listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    // It may close before it has taken everything.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer
}

fn examine(record: &Record, cases: &[Case], fail: &dyn Fn(String)) {
    let mut times: HashMap<usize, usize> = HashMap::new();
    let mut whole = 0;
    for stream in record.lock().expect("nobody panics with the lock").iter() {
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            match reread::read(rest) {
                reread::Read::Whole(request, length) => {
                    whole += 1;
                    if let Err(wrong) = judge(&request) {
                        fail(wrong);
                    }
                    for number in numbers(request.target.as_bytes()) {
                        *times.entry(number).or_default() += 1;
                    }
                    rest = &rest[length..];
                }
                // An upload that the gateway gave up: the server sees an end, never a shortened request.
                reread::Read::Partial => break,
                reread::Read::Broken(why) => {
                    fail(format!("{why} in {}", shown(rest)));
                    break;
                }
            }
        }
    }
    for (number, count) in times.iter().filter(|(_, count)| **count > 1) {
        let row = cases.get(*number).map_or(0, |case| case.row);
        fail(format!("case {number} (row {row}) came out {count} times"));
    }
    // If everything were refused, nothing would have been shown.
    if whole < 50 {
        fail(format!("only {whole} requests came through"));
    }
}

fn judge(request: &Request) -> Result<(), String> {
    if request.target.contains("smuggled") {
        return Err(format!("a hidden request came out: {request:?}"));
    }
    request.canonical()
}

/// The numbers of the cases that are named in a text: `/c17/`.
fn numbers(bytes: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(bytes);
    let named = text.match_indices("/c").filter_map(|(at, _)| {
        let (number, _) = text[at + 2..].split_once('/')?;
        number.parse().ok()
    });
    named.collect()
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(400)].escape_ascii().to_string()
}

#[test]
fn rows_53_to_60_a_rule_for_admin_holds_for_what_five_servers_understand() {
    let servers = all_servers();
    let targets = paths::all();
    assert!(targets.len() > 150, "{}", targets.len());
    let mut failures = Vec::new();
    for server in &servers {
        let gate = gate_before(server.address);
        // The test can see what it looks for: who may, gets there, and the server says so.
        for open in ["/admin", "/admin/", "/admin/x"] {
            let through = ask(
                gate.data,
                &format!("POST {open} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            );
            assert_eq!(through.status, 403, "{} does not protect {open}: {}", server.name, through.text());
        }
        let mut passed = 0;
        for method in ["GET", "HEAD", "OPTIONS"] {
            for target in &targets {
                let request =
                    [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat();
                let answer = String::from_utf8_lossy(&converse(gate.data, &request)).into_owned();
                let status = answer.split(' ').nth(1).unwrap_or_default();
                if status == "403" {
                    failures.push(format!("{} understood {method} {} as admin", server.name, target.escape_ascii()));
                }
                passed += usize::from(!["400", "405", ""].contains(&status));
            }
        }
        assert!(passed > 100, "{}: only {passed} came through", server.name);
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
