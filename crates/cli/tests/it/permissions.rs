//! Permissions as an operator and a user meet them: the page in the docs word for word, routes, restart, kill -9, checks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_testkit::client::{PATIENCE, ask, get};
use portcullis_testkit::gate::Gate;
use serde_json::{Value, json};

use crate::{BINARY, misbehaving};

const SECRET: &str = "a secret of at least thirty-two bytes";
const PAGE: &str = include_str!("../../../../docs/permissions.md");

/// What stands between the first line that is `from` and the next fence.
fn block(from: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{from}\n")).expect("the page has it");
    rest.split_once("```").expect("it ends").0
}

/// A gateway with the page's config before a service that answers 200.
fn start(more: &str) -> (portcullis_testkit::upstream::Upstream, Gate) {
    let upstream = misbehaving::start();
    let config = block("yaml").replace("http://127.0.0.1:3000", &format!("http://{}", upstream.address));
    let gate = Gate::start_with(BINARY, &format!("{config}{more}"), &[("JWT_SECRET", SECRET)]);
    (upstream, gate)
}

/// `portcullis roles ...` about this gateway.
fn roles(config: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.env("JWT_SECRET", SECRET).arg("roles").args(words).arg("--config").arg(config);
    command.output().expect("it runs")
}

/// The same, which must succeed, as JSON.
fn roles_json(config: &Path, words: &[&str]) -> Value {
    let output = roles(config, &[words, &["--json"]].concat());
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What the issuer of the page signs for a user.
fn token(tenant: &str, user: &str, carried: &[&str]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({
        "iss": "https://id.example.com/", "aud": "api", "sub": user, "tenant": tenant, "roles": carried,
        "iat": now, "exp": now + 3600,
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Status and error code of a request with this token.
fn send(gate: &Gate, method: &str, path: &str, token: &str, more: &str) -> (u16, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let answer = ask(gate.data, &request);
    let body: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    (answer.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// One call over the control socket; status and body.
fn call(gate: &Gate, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let socket = gate.config.parent().expect("a folder").join("portcullis.sock");
    let mut stream = UnixStream::connect(socket).expect("the gateway listens");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: control\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("it takes the call");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, serde_json::from_str(body).expect("JSON"))
}

/// Executes the page's commands in their order; each does what its comment says, and then requests hear what was set up.
#[test]
fn the_page_is_executed_and_its_rules_hold_on_routes() {
    let (_upstream, gate) = start("");
    let refused_before = send(&gate, "PUT", "/documents/8", &token("acme", "ada", &[]), "");
    assert_eq!(refused_before, (403, "ERR_FORBIDDEN".to_owned()), "and the no is not remembered too long");
    let mut executed = 0;
    for line in block("sh").lines() {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        let words: Vec<&str> = command.split_whitespace().collect();
        let ["portcullis", "roles", words @ ..] = &words[..] else { panic!("{line}") };
        let output = roles(&gate.config, words);
        let expected = i32::from(comment.contains("exit 1"));
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(expected), "{line}\n{told}");
        executed += 1;
    }
    assert!(executed >= 15, "{executed} commands");
    for (method, path, who, expected) in [
        ("PUT", "/documents/8", token("acme", "ada", &[]), 200),
        ("PUT", "/documents/7/title", token("acme", "ada", &[]), 200),
        ("PUT", "/documents/7", token("acme", "bob", &[]), 403),
        ("PUT", "/documents/%37/", token("acme", "bob", &[]), 403),
        ("PUT", "/documents/8", token("acme", "bob", &[]), 200),
        ("PUT", "/documents/8", token("acme", "carol", &[]), 200),
        ("PUT", "/documents/9", token("acme", "carol", &[]), 403),
        ("PUT", "/documents/9", token("acme", "carol", &["editor"]), 200),
        // Another tenant has another editor: none.
        ("PUT", "/documents/9", token("globex", "carol", &["editor"]), 403),
        ("GET", "/documents/9", token("globex", "carol", &[]), 405),
        ("GET", "/elsewhere", token("globex", "carol", &[]), 200),
        ("GET", "/t/acme/admin/x", token("acme", "ada", &["owner"]), 200),
        ("GET", "/t/acme/admin/x", token("acme", "ada", &["editor"]), 403),
    ] {
        let (status, code) = send(&gate, method, path, &who, "");
        assert_eq!(status, expected, "{method} {path} {code}");
        assert_eq!(code == "ERR_FORBIDDEN", expected == 403, "{method} {path} {code}");
    }
    // Row 138.
    let owner = token("acme", "ada", &["owner"]);
    let mismatch = (403, "ERR_TENANT_MISMATCH".to_owned());
    assert_eq!(send(&gate, "GET", "/t/globex/admin/x", &owner, ""), mismatch);
    assert_eq!(send(&gate, "GET", "/t/acme/admin/x", &owner, "X-Tenant: globex\r\n"), mismatch);
    assert_eq!(send(&gate, "GET", "/t/acme/admin/x", &owner, "X-Tenant: acme\r\n").0, 200);
    assert_eq!(send(&gate, "GET", "/elsewhere", "forged", "").0, 401, "who is asking is the identity guard's business");
    let explained = Command::new(BINARY)
        .args(["explain", "PUT", "/documents/7", "--running", "-H"])
        .arg(format!("authorization: Bearer {}", token("acme", "bob", &[])))
        .arg("--config")
        .arg(&gate.config)
        .env("JWT_SECRET", SECRET)
        .output()
        .expect("it runs");
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    let line = explained.lines().find(|line| line.starts_with("permissions")).expect("its row");
    assert!(line.contains("an entry for group interns on document:7 denies documents:write"), "{explained}");
    let hits = gate.metric("portcullis_permission_cache_hits_total{}").expect("it is counted");
    let misses = gate.metric("portcullis_permission_cache_misses_total{}").expect("it is counted");
    let checks = |result: &str| gate.metric(&format!("portcullis_permission_checks_total{{result=\"{result}\"}}"));
    assert_eq!(checks("allowed").zip(checks("refused")).map(|(yes, no)| yes + no), Some(hits + misses));
    assert!(gate.metric("portcullis_permission_check_duration_seconds_count{}").is_some_and(|count| count >= 4.0));
}

/// Row 134: requests flow all the time; the first one after the answer of the command is refused.
#[test]
fn row_134_a_role_that_is_revoked_is_gone_with_the_next_request() {
    let (_upstream, gate) = start("");
    let who = token("acme", "ada", &[]);
    roles_json(&gate.config, &["add", "editor", "--permission", "documents:*", "--tenant", "acme"]);
    for _ in 0..3 {
        roles_json(&gate.config, &["grant", "editor", "--user", "ada", "--tenant", "acme"]);
        for _ in 0..5 {
            assert_eq!(send(&gate, "PUT", "/documents/1", &who, "").0, 200);
        }
        roles_json(&gate.config, &["revoke", "editor", "--user", "ada", "--tenant", "acme"]);
        assert_eq!(send(&gate, "PUT", "/documents/1", &who, "").0, 403);
    }
}

/// Thirty grants, each acknowledged; then the process is killed without a word, and all of them hold in the next one.
#[test]
fn kill_9_after_an_acknowledged_change_loses_nothing() {
    let (_upstream, mut gate) = start("");
    roles_json(&gate.config, &["add", "editor", "--permission", "documents:write", "--tenant", "acme"]);
    for number in 0..30 {
        let user = format!("user-{number}");
        let granted = roles_json(&gate.config, &["grant", "editor", "--user", &user, "--tenant", "acme"]);
        assert_eq!(granted["durable"], true, "{granted}");
    }
    roles_json(&gate.config, &["deactivate", "user-7", "--tenant", "acme"]);
    gate.signal("KILL");
    gate.wait(PATIENCE);
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(&gate.config).env("JWT_SECRET", SECRET);
    let next = Gate::from_command(command);
    let granted = roles_json(&gate.config, &["list", "--kind", "grant"]);
    assert_eq!(granted.as_array().map(Vec::len), Some(30));
    assert_eq!(send(&next, "PUT", "/documents/1", &token("acme", "user-29", &[]), "").0, 200);
    assert_eq!(send(&next, "PUT", "/documents/1", &token("acme", "user-7", &[]), "").0, 403);
}

#[test]
fn checks_come_single_and_in_batches_and_are_bounded() {
    let (_upstream, gate) = start("");
    let order = |record: Value| json!({ "add": record });
    let changes = json!({ "changes": [
        order(json!({ "kind": "role", "role": "reader" })),
        order(json!({ "kind": "permission", "role": "reader", "permission": "documents:read" })),
        order(json!({ "kind": "grant", "user": "ada", "role": "reader" })),
    ] });
    let (status, made) = call(&gate, "POST", "/api/v1/permissions/changes", &changes);
    assert_eq!((status, made["changes"].as_array().map(Vec::len)), (200, Some(3)), "{made}");
    let check = |body: &Value| call(&gate, "POST", "/api/v1/permissions/check", body);
    let ada = json!({ "user": "ada", "permissions": ["documents:read"], "explain": true });
    let eve = json!({ "user": "eve", "permissions": ["documents:read"] });
    let by = "role reader, granted to the user, permits documents:read";
    let yes = json!({ "allowed": true, "why": "permitted", "by": by });
    let no = json!({ "allowed": false, "why": "no_permission" });
    assert_eq!(check(&ada), (200, yes.clone()));
    assert_eq!(check(&json!({ "checks": [ada, eve] })), (200, json!({ "results": [yes, no] })));
    assert_eq!(check(&json!({ "checks": [] })), (200, json!({ "results": [] })));
    for (wrong, said) in [
        (json!({ "checks": vec![json!({ "user": "x" }); 501] }), "at most 500"),
        (json!({ "checks": [{ "user": "x" }, {}] }), "checks[1]: `user` is missing"),
        (json!({ "user": "x", "permission": "a" }), "`permission` is not known"),
        (json!({ "user": "x", "permissions": "a" }), "list of at most 64"),
        (json!([]), "an object is expected"),
    ] {
        let (status, answer) = check(&wrong);
        assert!(status == 400 && answer["error"].as_str().is_some_and(|why| why.contains(said)), "{answer}");
    }
    for (wrong, status, said) in [
        (json!({ "changes": [] }), 400, "1 to 500"),
        (json!({ "changes": [{ "add": { "kind": "robot" } }] }), 400, "changes[0]: `robot` is no kind"),
        (
            json!({ "changes": [{ "add": { "kind": "role", "role": "a", "admin": true } }] }),
            400,
            "`admin` is not known",
        ),
        (
            json!({ "changes": [{ "add": { "kind": "grant", "user": "a", "group": "b", "role": "c" } }] }),
            400,
            "either `user`",
        ),
        (
            json!({ "changes": [{ "add": { "kind": "grant", "user": "a", "role": "absent" } }] }),
            409,
            "no role `absent`",
        ),
        (json!({ "changes": [{ "add": { "kind": "member", "group": "a", "of": "a" } }] }), 409, "inside itself"),
    ] {
        let (answered, answer) = call(&gate, "POST", "/api/v1/permissions/changes", &wrong);
        assert!(answered == status && answer["error"].as_str().is_some_and(|why| why.contains(said)), "{answer}");
    }
    let (_, listed) = call(&gate, "GET", "/api/v1/permissions?tenant=", &Value::Null);
    assert_eq!(listed["records"].as_array().map(Vec::len), Some(3), "nothing that was refused was done: {listed}");
}

/// Row 170: another program holds the database. The change is not made and says so; requests go on by what holds.
#[test]
fn row_170_a_store_that_cannot_be_written_refuses_the_change_and_checks_go_on() {
    let (_upstream, gate) = start("");
    let grant = ["grant", "editor", "--user", "ada", "--tenant", "acme"];
    roles_json(&gate.config, &["add", "editor", "--permission", "documents:*", "--tenant", "acme"]);
    roles_json(&gate.config, &["grant", "editor", "--user", "bob", "--tenant", "acme"]);
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\n";
    let mut other = Command::new("python3")
        .args(["-c", script])
        .arg(gate.config.with_file_name("portcullis.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut held = String::new();
    BufReader::new(other.stdout.take().expect("piped")).read_line(&mut held).expect("it holds the lock");
    let output = roles(&gate.config, &grant);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was changed") && said.contains("locked"), "{said}");
    assert_eq!(send(&gate, "PUT", "/documents/1", &token("acme", "ada", &[]), "").0, 403, "it was not made");
    assert_eq!(send(&gate, "PUT", "/documents/1", &token("acme", "bob", &[]), "").0, 200);
    assert!(get(gate.telemetry, "/health").text().contains("\"permissions\":\"ok\""));
    drop(other.stdin.take());
    other.wait().expect("it ends");
    assert!(roles(&gate.config, &grant).status.success());
    assert_eq!(send(&gate, "PUT", "/documents/1", &token("acme", "ada", &[]), "").0, 200);
}
