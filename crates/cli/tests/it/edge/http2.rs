//! HTTP/2: what curl, h2load and a client that breaks every rule get.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use portcullis_testkit::authority::Authority;
use portcullis_testkit::client::get;
use portcullis_testkit::gate::{Folder, Gate};
use portcullis_testkit::upstream::{Then, Upstream, answer};
use serde_json::Value;

use super::{echo, gate, python, run, script};

const PLAIN: &str = "{ address: \"127.0.0.1:0\" }";
/// Floods must not be stopped by the limiter: what is tested is the protocol.
const NO_LIMIT: &str = "rate_limit: [{ name: all, by: [address], limit: 1000000/1s, burst: 1000000 }]\n";

fn hostile(gate: &Gate, case: &str) -> Value {
    let program = python();
    let (ok, text) = run(&program, &[&script("http2.py").to_string_lossy(), &gate.data.to_string(), case]);
    assert!(ok, "{case}: {text}");
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{case}: {error}: {text}"))
}

fn resident_kib(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("Linux tells it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn http2_with_prior_knowledge_becomes_http1_for_the_upstream() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, PLAIN, "");
    let url = format!("http://{}/path?q=1", gate.data);
    let base = ["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "20"];
    let (ok, text) =
        run("curl", &[&base[..], &["-H", "Cookie: a=1", "-d", "body", "-w", " %{http_version}", &url]].concat());
    assert!(ok && text == "/path?q=1 2", "{text}");
    let received = &upstream.received()[0];
    let head = received.head.to_lowercase();
    assert!(head.starts_with("post /path?q=1 http/1.1\r\n") && head.contains("\r\nhost: 127.0.0.1"), "{head}");
    assert!(head.contains("cookie: a=1") && head.contains("content-length: 4"), "{head}");
    assert_eq!(hostile(&gate, "three")["streams"], serde_json::json!({ "1": "200", "3": "200", "5": "200" }));
}

#[test]
fn many_streams_of_h2load_are_all_answered() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, PLAIN, NO_LIMIT);
    let (ok, text) = run("h2load", &["-n", "2000", "-c", "8", "-m", "32", &format!("http://{}/", gate.data)]);
    assert!(ok && text.contains("2000 succeeded, 0 failed"), "{text}");
}

#[test]
fn what_a_client_sends_to_be_served_is_never_taken_for_a_flood() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let _ = authority.server(folder.path(), "tls", &["localhost"]);
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).expect("writable");
    std::fs::write(folder.path().join("body"), vec![b'a'; 900_000]).expect("writable");
    let (ca, body) = (folder.path().join("ca.pem"), format!("@{}", folder.path().join("body").display()));
    let upstream = Upstream::start(|socket, request| {
        // The whole body is read first: only then is anything answered.
        let mut left = 900_000_usize.saturating_sub(request.rest.len());
        let mut scratch = vec![0; 64 * 1024];
        while request.path() == "/upload" && left > 0 {
            match socket.read(&mut scratch) {
                Ok(read) if read > 0 => left = left.saturating_sub(read),
                _ => return Then::Close,
            }
        }
        answer(socket, "200 OK", "whole")
    });
    let listen = format!("{PLAIN}, {{ address: \"127.0.0.1:0\", tls: {{ certificate: tls.crt, key: tls.key }} }}");
    let gate = gate(folder, &upstream, &listen, NO_LIMIT);
    for (how, url) in [
        ("--http2-prior-knowledge", format!("http://{}/upload", gate.data)),
        ("--http2", format!("https://localhost:{}/upload", gate.listeners[1].port())),
    ] {
        let words = [
            "--silent",
            "--show-error",
            how,
            "--max-time",
            "20",
            "--cacert",
            &ca.to_string_lossy(),
            "--data-binary",
            &body,
        ];
        let (ok, text) = run("curl", &[&words[..], &[&url]].concat());
        assert!(ok && text == "whole", "{how}: {text}");
    }
    let (ok, text) = run("h2load", &["-n", "6000", "-c", "1", "-m", "1", &format!("http://{}/", gate.data)]);
    assert!(ok && text.contains("6000 succeeded, 0 failed"), "{text}");
}

#[test]
fn a_client_that_ignores_goodbye_does_not_hold_the_end_up() {
    let upstream = echo();
    let mut gate = gate(Folder::new(), &upstream, PLAIN, "shutdown: { drain_delay: 100ms, total: 20s }\n");
    let mut client = Command::new(python())
        .args([script("http2.py").to_string_lossy().as_ref(), &gate.data.to_string(), "silent"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    let mut said = [0; 6];
    client.stdout.as_mut().expect("piped").read_exact(&mut said).expect("it asked");
    gate.signal("TERM");
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
    client.wait().expect("it ends");
}

#[test]
fn row_23_where_http2_is_off_its_preface_is_refused_and_nothing_hangs() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, "{ address: \"127.0.0.1:0\", http2: false }", "");
    let seen = hostile(&gate, "get");
    assert_eq!((&seen["closed"], &seen["streams"]), (&Value::Bool(true), &serde_json::json!({})));
    assert!(upstream.received().is_empty());
}

#[test]
fn row_42_what_could_become_another_request_below_is_an_error_here() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, PLAIN, NO_LIMIT);
    for case in [
        "upper-case",
        "connection",
        "transfer-encoding",
        "te",
        "upgrade",
        "newline",
        "nul",
        "newline-in-name",
        "empty-name",
        "two-paths",
        "late-pseudo",
        "no-path",
        "no-method",
        "space-in-path",
        "two-lengths",
    ] {
        let seen = hostile(&gate, case);
        let is_refused = seen["resets"]["1"].is_number() || seen["goaway"].as_u64().is_some_and(|code| code != 0);
        assert!(is_refused && seen["streams"]["1"] != "200", "{case}: {seen}");
    }
    for (case, status) in [
        ("other-host", "400"),
        ("no-authority", "400"),
        ("connect", "405"),
        ("blank-before", "400"),
        ("blank-behind", "400"),
    ] {
        assert_eq!(hostile(&gate, case)["streams"]["1"], status, "{case}");
    }
    assert!(upstream.received().is_empty(), "{:?}", upstream.received());
    // More than was announced: whatever the client hears, the upstream never sees it as one whole request.
    hostile(&gate, "long");
    assert!(upstream.received().iter().all(|request| request.rest.len() <= 3), "{:?}", upstream.received());
    assert_eq!(get(gate.data, "/").status, 200);
}

#[test]
fn row_43_floods_end_in_goaway_with_bounded_memory_and_others_are_served() {
    let upstream = echo();
    let gate = gate(Folder::new(), &upstream, PLAIN, NO_LIMIT);
    assert_eq!(get(gate.data, "/").status, 200);
    let before = resident_kib(&gate);
    for case in ["rapid-reset", "made-you-reset", "continuation", "empty-data", "settings", "ping", "bomb"] {
        let seen = hostile(&gate, case);
        let is_ended = seen["closed"] == true || seen["goaway"].as_u64().is_some_and(|code| code != 0);
        assert!(is_ended, "{case}: {seen}");
        assert_eq!(get(gate.data, "/").status, 200, "after {case}");
    }
    let grown = resident_kib(&gate).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more than before the floods");
}

#[test]
fn an_answer_that_is_not_taken_is_reset_at_its_deadline() {
    let upstream = Upstream::start(|socket, _| answer(socket, "200 OK", &"a".repeat(1 << 20)));
    let gate = gate(Folder::new(), &upstream, PLAIN, "limits: { total: 2s, header_timeout: 1s }\n");
    let seen = hostile(&gate, "deaf");
    assert!(seen["resets"]["1"].is_number(), "{seen}");
    let seconds = seen["seconds"].as_f64().unwrap_or_default();
    assert!((1.5..6.0).contains(&seconds), "{seen}");
}

#[test]
fn a_draining_gateway_says_goaway_and_finishes_what_is_open() {
    let upstream = Upstream::start(|socket, _| {
        std::thread::sleep(Duration::from_millis(600));
        answer(socket, "200 OK", "late")
    });
    let mut gate = gate(Folder::new(), &upstream, PLAIN, "shutdown: { drain_delay: 100ms, total: 10s }\n");
    let address = gate.data.to_string();
    let client = std::thread::spawn(move || {
        run("curl", &["--silent", "--http2-prior-knowledge", "--max-time", "20", &format!("http://{address}/")])
    });
    while upstream.received().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    gate.signal("TERM");
    let (ok, text) = client.join().expect("no panic");
    assert!(ok && text == "late", "{text}");
    assert_eq!(gate.wait(Duration::from_secs(10)).code(), Some(0));
}
