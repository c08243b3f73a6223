//! The control socket: who can open it, what it answers, and what it does about hostile and half-written calls.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_testkit::client::{PATIENCE, get};
use portcullis_testkit::gate::{Folder, Gate, ON_FREE_PORTS};
use serde_json::Value;

use crate::BINARY;

const CONFIG: &str = "upstreams: { app: { url: \"http://127.0.0.1:1\" } }\ncontrol: { socket: control.sock }\n";

fn socket(gate: &Gate) -> PathBuf {
    gate.config.with_file_name("control.sock")
}

/// Sends bytes, and everything that comes back until the end.
fn say(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("the gateway listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    // It may have hung up; what it said is then still there to be read.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn it_answers_its_own_user_and_says_which_process_it_is() {
    let gate = Gate::start(BINARY, CONFIG);
    let metadata = std::fs::symlink_metadata(socket(&gate)).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let answer = say(&socket(&gate), b"GET /api/v1/life HTTP/1.1\r\nHost: control\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("no-store"), "{head}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((body["pid"].as_u64(), body["stage"].as_str()), (Some(gate.pid().into()), Some("serving")));
}

#[test]
fn what_it_does_not_know_and_what_is_too_much_is_refused_and_it_goes_on() {
    let gate = Gate::start(BINARY, CONFIG);
    let socket = socket(&gate);
    let large = "x".repeat(70_000);
    for (call, status) in [
        ("GET /api/v1/nothing HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
        ("DELETE /api/v1/life HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "405"),
        ("GET /api/v1/life HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{\"a".to_owned(), "400"),
        (format!("GET /api/v1/life HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n{large}"), "413"),
        (format!("GET /api/v1/life HTTP/1.1\r\nHost: a\r\nA: {large}\r\n\r\n"), "431"),
        ("no HTTP at all\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = say(&socket, call.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{:?}: {answer:?}", &call[..call.len().min(60)]);
    }
    // Twenty that open it and say nothing: four more than there are places, cut at the header's time.
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(&socket).expect("it listens")).collect();
    let answer = say(&socket, b"GET /api/v1/life HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    drop(silent);
    assert_eq!(get(gate.telemetry, "/livez").status, 200);
}

#[test]
fn a_socket_left_by_a_killed_gateway_is_replaced_and_one_in_use_stops_the_start() {
    let mut gate = Gate::start(BINARY, CONFIG);
    let socket = socket(&gate);
    let start = || {
        let mut command = Command::new(BINARY);
        command.args(["run", "--config"]).arg(&gate.config);
        command
    };
    let second = start().output().expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains("control.sock") && said.contains("another running gateway"), "{said}");
    assert!(socket.exists(), "the refused one leaves the other's socket alone");
    let again = start();
    gate.signal("KILL");
    gate.wait(PATIENCE);
    assert!(socket.exists(), "kill -9 leaves it behind");
    let third = Gate::from_command(again);
    let answer = say(&socket, b"GET /api/v1/life HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.contains(&format!("\"pid\":{}", third.pid())), "{answer}");
}

#[test]
fn an_unsafe_place_stops_the_start_and_says_why() {
    let folder = Folder::new();
    let config = folder.path().join("portcullis.yaml");
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).expect("a folder");
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).expect("its mode");
    let text = CONFIG.replace("control.sock", "shared/control.sock");
    std::fs::write(&config, format!("{ON_FREE_PORTS}{text}")).expect("written");
    let output = Command::new(BINARY).args(["run", "--config"]).arg(&config).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("shared/control.sock") && said.contains("others may write its folder"), "{said}");
}
