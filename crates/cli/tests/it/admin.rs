//! The admin listener of the real binary: who is answered, who is not, and what is written down about it.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use portcullis_testkit::client::{Client, PATIENCE, Response, ask};
use portcullis_testkit::gate::{Folder, Gate, ON_FREE_PORTS};
use serde_json::{Value, json};

use crate::{BINARY, misbehaving};

/// A token of its own, and the line of the config for it.
fn token(name: &str, scopes: &[&str]) -> (String, String) {
    let mut command = Command::new(BINARY);
    command.args(["admin-token", "--name", name]);
    for scope in scopes {
        command.args(["--scope", scope]);
    }
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = told.lines().find(|line| line.trim_start().starts_with("- {")).expect("a line for the config");
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(token.starts_with("pa_") && token.len() == 46 && !told.contains(&token), "{told}");
    (token, line.trim().to_owned())
}

fn config(upstream: SocketAddr, tokens: &[String]) -> String {
    format!(
        "{ON_FREE_PORTS}upstreams: {{ app: {{ url: \"http://{upstream}\" }} }}\nstore: {{ url: \"sqlite:p.db\" }}\n\
         admin:\n  address: 127.0.0.1:0\n  tokens:\n    {}\n",
        tokens.join("\n    ")
    )
}

fn call(to: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Response {
    let host = if fields.contains("Host:") { String::new() } else { format!("Host: {to}\r\n") };
    let length = body.len();
    ask(
        to,
        &format!(
            "{method} {path} HTTP/1.1\r\n{host}{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ),
    )
}

fn with(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn code(answer: &Response) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    (answer.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn nobody_without_a_token_that_may_is_answered_on_any_route() {
    let upstream = misbehaving::start();
    let (good, line) = token("ci", &["life.read"]);
    let (reader, reading) = token("reader", &["openapi.read"]);
    let (late, expired) = token("late", &["*"]);
    let expired = expired.replace(" }", ", expires: 2026-01-01T00:00:00Z }");
    let folder = Folder::new();
    let gate = Gate::start_in(BINARY, folder, &config(upstream.address, &[line, reading, expired]));
    let admin = gate.admin.expect("it listens");
    let listed = Command::new(BINARY).args(["admin-token", "--scopes"]).output().expect("it runs");
    let actions = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(actions.lines().count() >= 8 && actions.contains("bans.add"), "{actions}");
    let described = call(admin, "GET", "/api/v1/openapi.json", &with(&reader), "");
    let described: Value = serde_json::from_str(&described.text()).expect("JSON");
    let mut rows = vec![("GET".to_owned(), "/nothing".to_owned()), ("PATCH".to_owned(), "/api/v1/life".to_owned())];
    for (path, operations) in described["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            rows.push((method.to_uppercase(), path.replace("{name}", "203.0.113.9")));
        }
    }
    assert!(rows.len() > 10, "{rows:?}");
    for (method, path) in &rows {
        // Nobody takes a body here that a row would need: who is asking comes first.
        let (method, path) = (method.as_str(), path.as_str());
        for (fields, expected) in [
            (String::new(), "ERR_UNAUTHENTICATED"),
            (with("pa_wrong"), "ERR_TOKEN_INVALID"),
            (with(&good[..45]), "ERR_TOKEN_INVALID"),
            (format!("{}{}", with(&good), with(&good)), "ERR_TOKEN_INVALID"),
            (format!("Authorization: Basic {good}\r\n"), "ERR_TOKEN_INVALID"),
            (with(&late), "ERR_TOKEN_EXPIRED"),
        ] {
            let answer = call(admin, method, path, &fields, "");
            assert_eq!(code(&answer), (401, expected.to_owned()), "{method} {path} {fields}");
            assert_eq!(answer.field("www-authenticate"), Some("Bearer realm=\"portcullis\""));
        }
        let may = code(&call(admin, method, path, &with(&good), ""));
        let expected = match (method, path) {
            ("GET", "/api/v1/life") => (200, ""),
            (_, "/nothing") => (404, "ERR_ROUTE_NOT_FOUND"),
            ("PATCH", _) => (405, "ERR_METHOD_NOT_ALLOWED"),
            _ => (403, "ERR_FORBIDDEN"),
        };
        assert_eq!((may.0, may.1.as_str()), expected, "{method} {path}");
    }
    // A page in a browser on this machine whose name leads here.
    for host in ["Host: evil.example\r\n", "Host: localhost.evil.example\r\n", "Host: 127.0.0.1.evil:9700\r\n"] {
        let answer = call(admin, "GET", "/api/v1/life", &format!("{host}{}", with(&good)), "");
        assert_eq!(code(&answer), (400, "ERR_INVALID_HOST".to_owned()), "{host}");
    }
    assert_eq!(call(admin, "GET", "/api/v1/life", &format!("Host: LOCALHOST:1\r\n{}", with(&good)), "").status, 200);
    let answer = call(admin, "GET", "/api/v1/life", &with(&good), "");
    assert!(answer.field("x-content-type-options").is_some() && answer.field("x-request-id").is_some());
    let log = gate.log().join("\n");
    assert!(!log.contains(&good) && !log.contains(&late), "no token is ever logged");
    assert!(log.contains("\"route\":\"portcullis-admin\""), "{log}");
}

#[test]
fn an_act_is_written_down_before_it_is_done_and_survives_kill_9() {
    let upstream = misbehaving::start();
    let (good, line) = token("backend", &["bans.*", "audit.list"]);
    let mut gate = Gate::start_in(BINARY, Folder::new(), &config(upstream.address, &[line]));
    let admin = gate.admin.expect("it listens");
    let ban = json!({ "network": "203.0.113.9", "for": "1h", "reason": "scans" }).to_string();
    let added = call(admin, "POST", "/api/v1/bans", &with(&good), &ban);
    assert_eq!(added.status, 200, "{}", added.text());
    let wrong = call(admin, "POST", "/api/v1/bans", &with(&good), "{\"network\":7}");
    assert_eq!(code(&wrong), (400, "ERR_INVALID_VALUE".to_owned()));
    assert!(wrong.text().contains("`network` must be a text"), "{}", wrong.text());
    assert_eq!(code(&call(admin, "POST", "/api/v1/bans", &with(&good), "{")), (400, "ERR_INVALID_VALUE".to_owned()));
    assert_eq!(
        code(&call(admin, "DELETE", "/api/v1/bans/192.0.2.1", &with(&good), "")),
        (404, "ERR_RESOURCE_NOT_FOUND".to_owned())
    );
    assert_eq!(
        code(&call(admin, "POST", "/api/v1/bans", &with(&good), &json!({ "network": "0.0.0.0/0" }).to_string())),
        (409, "ERR_CONFLICT".to_owned())
    );
    let problem = call(
        admin,
        "DELETE",
        "/api/v1/bans/192.0.2.1",
        &format!("{}Accept: application/problem+json\r\n", with(&good)),
        "",
    );
    assert!(
        problem.text().contains("\"status\":404") && problem.text().contains("is not banned"),
        "{}",
        problem.text()
    );
    let big = call(admin, "POST", "/api/v1/bans", &with(&good), &"x".repeat(70_000));
    assert_eq!(code(&big), (413, "ERR_BODY_TOO_LARGE".to_owned()));
    gate.signal("KILL");
    gate.wait(PATIENCE);

    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(&gate.config);
    let next = Gate::from_command(command);
    let listed = call(next.admin.expect("it listens"), "GET", "/api/v1/audit", &with(&good), "");
    let listed: Value = serde_json::from_str(&listed.text()).expect("JSON");
    let acts: Vec<(&str, &str, &str, u64)> = listed["acts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|act| {
            let text = |key: &str| act[key].as_str().unwrap_or_default();
            (text("who"), text("action"), text("target"), act["status"].as_u64().unwrap_or_default())
        })
        .collect();
    let first = "POST /api/v1/bans network=203.0.113.9 for=1h reason=scans";
    assert_eq!(acts.last(), Some(&("token:backend", "bans.add", first, 200)), "{acts:?}");
    assert!(acts.contains(&("token:backend", "bans.remove", "DELETE /api/v1/bans/192.0.2.1", 404)), "{acts:?}");
    let output = Command::new(BINARY).args(["audit", "list", "--config"]).arg(&gate.config).output().expect("it runs");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("token:backend") && table.contains("bans.add"), "{table}");
}

#[test]
fn what_cannot_be_written_down_is_not_done_over_the_network() {
    let upstream = misbehaving::start();
    let (good, line) = token("backend", &["*"]);
    let gate = Gate::start_in(BINARY, Folder::new(), &config(upstream.address, &[line]));
    let admin = gate.admin.expect("it listens");
    let holder = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\n";
    let database = gate.config.with_file_name("p.db");
    let mut holding = Command::new("python3");
    holding.args(["-c", holder]).arg(&database).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holding = holding.spawn().expect("python3 runs");
    let mut held = String::new();
    let out = holding.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut held).expect("it says so");
    let ban = json!({ "network": "203.0.113.9" }).to_string();
    let refused = call(admin, "POST", "/api/v1/bans", &with(&good), &ban);
    assert_eq!(code(&refused), (503, "ERR_STORE_UNAVAILABLE".to_owned()));
    assert!(refused.field("retry-after").is_some());
    let shown = call(admin, "GET", "/api/v1/bans/203.0.113.9", &with(&good), "");
    assert!(shown.text().contains("\"banned\":false"), "{}", shown.text());
    drop(holding.stdin.take());
    let _ = holding.wait();
    assert_eq!(call(admin, "POST", "/api/v1/bans", &with(&good), &ban).status, 200);
}

#[test]
fn a_token_that_is_taken_out_of_the_config_ends_with_the_reload() {
    let upstream = misbehaving::start();
    let (old, old_line) = token("old", &["*"]);
    let (new, new_line) = token("new", &["*"]);
    let mut gate = Gate::start_in(BINARY, Folder::new(), &config(upstream.address, &[old_line]));
    let admin = gate.admin.expect("it listens");
    assert_eq!(call(admin, "GET", "/api/v1/life", &with(&old), "").status, 200);
    std::fs::write(&gate.config, config(upstream.address, &[new_line])).expect("a config can be written");
    gate.signal("HUP");
    gate.wait_for_event("reloaded");
    assert_eq!(call(admin, "GET", "/api/v1/life", &with(&old), "").status, 401);
    assert_eq!(call(admin, "GET", "/api/v1/life", &with(&new), "").status, 200);
}

#[test]
fn without_tokens_nothing_listens_and_plain_text_to_others_must_be_asked_for() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &format!("upstreams: {{ app: {{ url: \"http://{}\" }} }}\n", upstream.address));
    assert_eq!(gate.admin, None);
    let (_, line) = token("x", &["*"]);
    let folder = Folder::new();
    let path = folder.path().join("portcullis.yaml");
    let public =
        config(upstream.address, &[line]).replace("address: 127.0.0.1:0\n  tokens", "address: 0.0.0.0:9700\n  tokens");
    std::fs::write(&path, public).expect("a config can be written");
    let output = Command::new(BINARY).args(["validate", "--config"]).arg(&path).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.code() == Some(1) && said.contains("admin.address") && said.contains("dangerous_plaintext"),
        "{said}"
    );
}

#[test]
fn a_network_can_be_shown_and_lifted_and_a_call_goes_to_its_end() {
    let upstream = misbehaving::start();
    let (good, line) = token("backend", &["*"]);
    let mut gate = Gate::start_in(BINARY, Folder::new(), &config(upstream.address, &[line]));
    let admin = gate.admin.expect("it listens");
    let ban = json!({ "network": "198.18.0.0/15", "for": "1h" }).to_string();
    assert_eq!(call(admin, "POST", "/api/v1/bans", &with(&good), &ban).status, 200);
    let shown = call(admin, "GET", "/api/v1/bans/198.18.0.0%2F15", &with(&good), "");
    assert!(shown.status == 200 && shown.text().contains("\"banned\":true"), "{}", shown.text());
    assert_eq!(call(admin, "DELETE", "/api/v1/bans/198.18.0.0%2F15", &with(&good), "").status, 200);
    // Whoever hangs up has asked all the same.
    let mut hasty = Client::connect(admin);
    let body = json!({ "network": "203.0.113.7" }).to_string();
    hasty.send(
        format!(
            "POST /api/v1/bans HTTP/1.1\r\nHost: {admin}\r\n{}Content-Length: {}\r\n\r\n{body}",
            with(&good),
            body.len()
        )
        .as_bytes(),
    );
    drop(hasty);
    let act = gate.wait_for("the act", |line| {
        line["msg"] == "act" && line["target"].as_str().is_some_and(|it| it.contains("203.0.113.7"))
    });
    assert_eq!(act["status"], "200");
    gate.wait_for("its line in the access log", |line| line["msg"] == "request" && line["path"] == "/api/v1/bans");
    // Who has no token keeps no place.
    let mut stranger = Client::connect(admin);
    stranger.send(format!("GET /api/v1/life HTTP/1.1\r\nHost: {admin}\r\n\r\n").as_bytes());
    assert_eq!(stranger.response().expect("an answer").status, 401);
    assert!(stranger.is_closed());
}
