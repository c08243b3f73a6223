//! Bans as an operator and an attacker meet them: commands, restart, kill -9, reload, a store that fails, and failed logins
//! at a service that knows nothing of the gateway.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{PATIENCE, Response, ask, get};
use portcullis_testkit::gate::Gate;
use serde_json::Value;

use crate::{BINARY, misbehaving};

const KEPT: &str = "store: { url: \"sqlite:portcullis.db\" }\ntrusted_proxies: [127.0.0.1]\n";

fn config(upstream: SocketAddr, more: &str) -> String {
    format!("upstreams: {{ app: {{ url: \"http://{upstream}\" }} }}\n{more}")
}

/// `portcullis bans ...` about this gateway.
fn bans(config: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("bans").args(words).arg("--config").arg(config);
    command.output().expect("it runs")
}

/// The same, which must succeed, as JSON.
fn bans_json(config: &Path, words: &[&str]) -> Value {
    let output = bans(config, &[words, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// As a client behind a trusted proxy.
fn from(gate: &Gate, address: &str) -> Response {
    let request = format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n\r\n");
    ask(gate.data, &request)
}

/// Another process on the same config and store.
fn again(config: &Path) -> Gate {
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(config);
    Gate::from_command(command)
}

#[test]
fn a_ban_holds_at_once_is_shown_and_is_lifted() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &config(upstream.address, KEPT));
    assert_eq!(from(&gate, "203.0.113.9").status, 200);
    let added = bans_json(&gate.config, &["add", "203.0.113.9", "--for", "2h", "--reason", "scans for passwords"]);
    assert_eq!((&added["kept"], &added["durable"]), (&Value::from(true), &Value::from(true)), "{added}");
    let refused = from(&gate, "203.0.113.9");
    assert_eq!(refused.status, 403);
    let wait: u64 = refused.field("retry-after").expect("it has an end").parse().expect("seconds");
    assert!((7000..=7200).contains(&wait), "{wait}");
    assert!(refused.text().contains("ERR_ADDRESS_BLOCKED") && !refused.text().contains("scans"), "{}", refused.text());
    assert_eq!(from(&gate, "203.0.113.10").status, 200);
    // An IPv6 address stands for its network.
    let added = bans_json(&gate.config, &["add", "2001:db8::5"]);
    assert_eq!((added["ban"]["network"].as_str(), &added["widened"]), (Some("2001:db8::/64"), &Value::from(true)));
    assert_eq!(from(&gate, "2001:db8::ffff").status, 403);
    let listed = bans_json(&gate.config, &["list"]);
    let networks: Vec<&str> =
        listed.as_array().expect("a list").iter().filter_map(|ban| ban["network"].as_str()).collect();
    assert_eq!(networks, ["203.0.113.9", "2001:db8::/64"]);
    let table = String::from_utf8(bans(&gate.config, &["list"]).stdout).expect("text");
    assert!(table.contains("203.0.113.9 ") && table.contains("scans for passwords"), "{table}");
    assert_eq!(gate.metric("portcullis_ip_blocks_active{}"), Some(2.0));
    assert_eq!(gate.metric("portcullis_ip_blocks_total{reason=\"operator\"}"), Some(2.0));
    let shown = bans(&gate.config, &["show", "203.0.113.9"]);
    assert!(shown.status.success(), "banned is exit 0");
    assert_eq!(bans(&gate.config, &["show", "192.0.2.1"]).status.code(), Some(1), "not banned is exit 1");
    let explained = Command::new(BINARY)
        .args(["explain", "GET", "/x", "--from", "203.0.113.9", "--running", "--config"])
        .arg(&gate.config)
        .output()
        .expect("it runs");
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    let line = explained.lines().find(|line| line.starts_with("ip_block")).expect("its row");
    assert!(line.contains("refused") && line.contains(" ban ") && line.contains("scans for passwords"), "{explained}");
    assert!(bans(&gate.config, &["remove", "203.0.113.9"]).status.success());
    assert_eq!(from(&gate, "203.0.113.9").status, 200);
    let twice = bans(&gate.config, &["remove", "203.0.113.9"]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("203.0.113.9 is not banned"));
    let past = bans_json(&gate.config, &["show", "2001:db8::1234"]);
    assert_eq!(past["banned"], true);
}

#[test]
fn what_makes_no_sense_or_would_hurt_is_refused_with_its_reason() {
    let upstream = misbehaving::start();
    let gate =
        Gate::start(BINARY, &config(upstream.address, &format!("{KEPT}ip_block: {{ allow: [192.0.2.0/24] }}\n")));
    for (words, said) in [
        (vec!["add", "nowhere"], "is not a network"),
        (vec!["add", "10.1.2.3/8"], "write `10.0.0.0/8`"),
        (vec!["add", "127.0.0.0/8"], "trusted proxy"),
        (vec!["add", "192.0.2.7"], "allow list"),
        (vec!["add", "0.0.0.0/0"], "everybody"),
        (vec!["add", "203.0.113.9", "--for", "10"], "no unit"),
        (vec!["add", "203.0.113.9", "--for", "0s"], "between 1s"),
        (vec!["add", "203.0.113.9", "--reason", "a\nb"], "control characters"),
        (vec!["remove", "203.0.113.9"], "not banned"),
    ] {
        let output = bans(&gate.config, &words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && stderr.contains(said), "{words:?}: {stderr}");
    }
    assert_eq!(bans_json(&gate.config, &["list"]), Value::Array(vec![]));
    let absent = Command::new(BINARY).args(["bans", "list", "--socket", "/nowhere/p.sock"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&absent.stderr).contains("no gateway answers at /nowhere/p.sock"));
}

/// Forty bans, each acknowledged; then the process is killed without a word, and all forty hold in the next one.
#[test]
fn kill_9_after_an_acknowledged_add_loses_nothing() {
    let upstream = misbehaving::start();
    let mut gate = Gate::start(BINARY, &config(upstream.address, KEPT));
    for host in 0..40 {
        let added = bans_json(&gate.config, &["add", &format!("203.0.113.{host}"), "--for", "1h", "--reason", "kill"]);
        assert_eq!(added["kept"], true);
    }
    bans_json(&gate.config, &["remove", "203.0.113.7"]);
    gate.signal("KILL");
    gate.wait(PATIENCE);
    let next = again(&gate.config);
    let listed = bans_json(&gate.config, &["list"]);
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 39, "{listed:?}");
    assert!(
        listed.iter().all(|ban| ban["ban"]["secondsLeft"].as_u64().is_some_and(|left| (3000..=3600).contains(&left)))
    );
    assert_eq!((from(&next, "203.0.113.39").status, from(&next, "203.0.113.7").status), (403, 200));
    assert!(next.log().iter().any(|line| line.contains("store_opened")), "{:?}", next.log());
}

#[test]
fn without_a_store_bans_are_forgotten_and_the_start_says_so() {
    let upstream = misbehaving::start();
    let mut gate = Gate::start(BINARY, &config(upstream.address, "control: { socket: c.sock }\n"));
    let warned = gate.wait_for_event("nothing_is_kept");
    assert_eq!(warned["level"], "warn");
    let added = bans_json(&gate.config, &["add", "203.0.113.9"]);
    assert_eq!(added["durable"], false);
    let told = String::from_utf8(bans(&gate.config, &["add", "203.0.113.10"]).stdout).expect("text");
    assert!(told.contains("forgotten when it ends"), "{told}");
    gate.signal("INT");
    gate.wait(PATIENCE);
    let next = again(&gate.config);
    assert_eq!(bans_json(&gate.config, &["list"]), Value::Array(vec![]), "{:?}", next.log());
}

#[test]
fn lists_and_their_files_take_effect_with_a_reload_and_a_broken_file_keeps_the_old() {
    let upstream = misbehaving::start();
    let lists = format!("{KEPT}ip_block: {{ deny_files: [deny.txt] }}\n");
    let folder = portcullis_testkit::gate::Folder::new();
    let path = folder.path().join("portcullis.yaml");
    let deny = folder.path().join("deny.txt");
    let text = format!("{}{}", portcullis_testkit::gate::ON_FREE_PORTS, config(upstream.address, &lists));
    std::fs::write(&path, text).expect("written");
    std::fs::write(&deny, "203.0.113.0/24\n").expect("written");
    let mut gate = again(&path);
    assert_eq!((from(&gate, "203.0.113.9").status, from(&gate, "198.51.100.1").status), (403, 200));
    assert_eq!(from(&gate, "203.0.113.9").field("retry-after"), None);
    // The file alone changes; the gateway sees it by itself.
    std::fs::write(&deny, "198.51.100.0/24 # another\n").expect("written");
    gate.wait_for("the reload", |line| line["msg"] == "reloaded" && line["trigger"] == "file");
    assert_eq!((from(&gate, "203.0.113.9").status, from(&gate, "198.51.100.1").status), (200, 403));
    std::fs::write(&deny, "198.51.100.0/24\n198.51.100\n").expect("written");
    let refused = gate.wait_for_event("reload_refused");
    assert!(refused["mistake"].as_str().is_some_and(|told| told.contains("deny.txt:2")), "{refused}");
    assert_eq!(from(&gate, "198.51.100.1").status, 403, "the old list goes on");
}

#[test]
fn a_damaged_store_stops_the_start_with_what_to_do() {
    let folder = portcullis_testkit::gate::Folder::new();
    let path = folder.path().join("portcullis.yaml");
    let text = format!("{}{}", portcullis_testkit::gate::ON_FREE_PORTS, config(([127, 0, 0, 1], 1).into(), KEPT));
    std::fs::write(&path, text).expect("written");
    std::fs::write(folder.path().join("portcullis.db"), "no database").expect("written");
    // `validate --connect` says it before a start does; without it nothing is looked at.
    assert!(Command::new(BINARY).args(["validate", "--config"]).arg(&path).status().expect("it runs").success());
    let tried = Command::new(BINARY).args(["validate", "--connect", "--config"]).arg(&path).output().expect("it runs");
    let told = String::from_utf8_lossy(&tried.stderr);
    assert!(told.contains("store.url: ") && told.contains("portcullis.db cannot be used"), "{told}");
    let output = Command::new(BINARY).args(["run", "--config"]).arg(&path).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("portcullis.db cannot be used") && said.contains("Nothing was changed"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.path().join("portcullis.db")).expect("still there"), "no database");
}

/// Another program holds the database: the ban holds, the command says that it is not written, health says so, and it is
/// written when the database is free again.
#[test]
fn a_store_that_fails_costs_no_ban_and_is_told_and_made_up_for() {
    let upstream = misbehaving::start();
    let mut gate = Gate::start(BINARY, &config(upstream.address, KEPT));
    let database = gate.config.with_file_name("portcullis.db");
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()\n";
    let mut other = Command::new("python3")
        .args(["-c", script])
        .arg(&database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut line = String::new();
    BufReader::new(other.stdout.take().expect("piped")).read_line(&mut line).expect("it holds the lock");
    let output = bans(&gate.config, &["add", "203.0.113.9", "--for", "1h"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("holds in the running gateway, but is not written down") && said.contains("locked"),
        "{said}"
    );
    assert_eq!(from(&gate, "203.0.113.9").status, 403, "it holds");
    gate.wait_for_event("store_failed");
    assert!(get(gate.telemetry, "/health").text().contains("\"store\":\"failing\""));
    drop(other.stdin.take());
    other.wait().expect("it ends");
    gate.wait_for_event("store_recovered");
    assert!(get(gate.telemetry, "/health").text().contains("\"store\":\"ok\""));
    gate.signal("KILL");
    gate.wait(PATIENCE);
    let next = again(&gate.config);
    assert_eq!(from(&next, "203.0.113.9").status, 403, "and was written");
}

/// A login service that knows nothing of the gateway: Python's own HTTP server with one account. It says how often it was asked.
struct Service {
    child: Child,
    address: SocketAddr,
}

const SERVICE: &str = r#"
import base64, json, sys, threading, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
asked = 0
lock = threading.Lock()
class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): pass
    def say(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        for name, value in headers: self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        if self.path == '/asked': return self.say(200, asked)
        auth = self.headers.get('Authorization', '')
        if auth == 'Basic ' + base64.b64encode(b'ada:right').decode(): return self.say(200, 'in')
        self.say(401, 'no')
    do_OPTIONS = do_GET
    def do_POST(self):
        global asked
        raw = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        with lock: asked += 1
        if self.path == '/slow': time.sleep(0.3)
        try:
            if 'json' in self.headers.get('Content-Type', ''): sent = json.loads(raw or b'{}')
            else: sent = dict(urllib.parse.parse_qsl(raw.decode()))
        except Exception: sent = {}
        ok = sent.get('user') == 'ada' and sent.get('password') == 'right'
        if self.path == '/polite': return self.say(200, {'ok': ok, 'error': None if ok else {'code': 'bad_login'}})
        if self.path == '/page': return self.say(200, 'page', () if ok else (('X-Login', 'failed'),))
        self.say(200 if ok else 401, {'ok': ok})
server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

impl Service {
    fn start() -> Service {
        let mut child =
            Command::new("python3").args(["-c", SERVICE]).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says its port");
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().expect("a port")));
        Service { child, address }
    }

    fn asked(&self) -> u64 {
        get(self.address, "/asked").text().parse().expect("a number")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A login as a client behind a trusted proxy.
fn login(gate: SocketAddr, from: &str, path: &str, kind: &str, body: &str) -> Response {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    );
    ask(gate, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn guess(number: usize) -> String {
    format!("{{\"user\":\"user{number}\",\"password\":\"guess{number}\"}}")
}

#[test]
fn ten_failed_logins_ban_for_an_hour_and_a_restart_changes_nothing() {
    let service = Service::start();
    let watch = format!("{KEPT}routes: [{{ name: all, match: {{ path: /** }}, login_watch: {{}} }}]\n");
    let mut gate = Gate::start(BINARY, &config(service.address, &watch));
    for number in 0..10 {
        let body = if number % 2 == 0 { guess(number) } else { format!("user=ada&password=guess{number}") };
        let kind = if number % 2 == 0 { JSON } else { FORM };
        assert_eq!(login(gate.data, "203.0.113.9", "/login", kind, &body).status, 401, "guess {number}");
        // Row 107: a success in between resets nothing.
        let own = login(gate.data, "203.0.113.9", "/login", JSON, "{\"user\":\"ada\",\"password\":\"right\"}");
        assert_eq!(own.status, if number < 9 { 200 } else { 403 }, "after guess {number}");
    }
    let refused = from(&gate, "203.0.113.9");
    assert_eq!(refused.status, 403);
    assert!(refused.field("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 3500)));
    assert_eq!(login(gate.data, "203.0.113.10", "/login", JSON, &guess(0)).status, 401, "somebody else");
    let told = gate.wait_for_event("banned");
    assert_eq!((told["network"].as_str(), told["by"].as_str()), (Some("203.0.113.9"), Some("login_watch")));
    assert!(!told.to_string().contains("guess"), "no credential is logged: {told}");
    let deadline = Instant::now() + PATIENCE;
    while gate.metric("portcullis_db_operations_total{operation=\"bans_update\",status=\"ok\"}") < Some(1.0) {
        assert!(Instant::now() < deadline, "the ban is written by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    gate.signal("KILL");
    gate.wait(PATIENCE);
    let next = again(&gate.config);
    assert_eq!(from(&next, "203.0.113.9").status, 403);
    // A person lifts it, and counting begins anew.
    bans_json(&gate.config, &["remove", "203.0.113.9"]);
    assert_eq!(login(next.data, "203.0.113.9", "/login", JSON, &guess(1)).status, 401);
    assert_eq!(login(next.data, "203.0.113.9", "/login", JSON, &guess(2)).status, 401);
}

/// Row 108: whoever sends no credentials has not failed a login.
#[test]
fn row_108_an_expired_session_and_a_preflight_are_no_failed_logins() {
    let service = Service::start();
    let watch = format!("{KEPT}ip_block: {{ login_watch: {{}} }}\n");
    let gate = Gate::start(BINARY, &config(service.address, &watch));
    for number in 0..15 {
        let head = "Host: a\r\nX-Forwarded-For: 203.0.113.9\r\nCookie: session=old\r\nConnection: close\r\n\r\n";
        assert_eq!(ask(gate.data, &format!("GET /page HTTP/1.1\r\n{head}")).status, 401, "{number}");
        assert_eq!(ask(gate.data, &format!("OPTIONS /page HTTP/1.1\r\n{head}")).status, 401, "{number}");
        assert_eq!(login(gate.data, "203.0.113.9", "/login", JSON, "{\"page\":2,\"password\":\"\"}").status, 401);
        assert_eq!(login(gate.data, "203.0.113.9", "/login", FORM, "page=2").status, 401);
        // The same bearer token again and again is an expired one and not a guess.
        let bearer = "GET /api HTTP/1.1\r\nAuthorization: Bearer expired\r\n";
        assert_eq!(ask(gate.data, &format!("{bearer}{head}")).status, 401, "{number}");
    }
    // Row 44: a chain that a client writes itself bans nobody else; here the peer is trusted, and the last hop counts.
    for number in 0..10 {
        assert_eq!(login(gate.data, "198.51.100.1, 203.0.113.66", "/login", JSON, &guess(number)).status, 401);
    }
    assert_eq!((from(&gate, "203.0.113.66").status, from(&gate, "198.51.100.1").status), (403, 401));
    // One failure was counted for the token; nine wrong passwords more, and it is ten.
    for number in 0..9 {
        let pair = [
            "dTowMA==", "dTowMQ==", "dTowMg==", "dTowMw==", "dTowNA==", "dTowNQ==", "dTowNg==", "dTowNw==", "dTowOA==",
        ][number];
        let head = format!(
            "Host: a\r\nX-Forwarded-For: 203.0.113.9\r\nAuthorization: Basic {pair}\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(ask(gate.data, &format!("GET /page HTTP/1.1\r\n{head}")).status, 401, "{number}");
    }
    assert_eq!(from(&gate, "203.0.113.9").status, 403);
}

#[test]
fn a_failed_login_may_be_a_field_of_the_body_or_a_header_and_what_cannot_be_read_counts() {
    let service = Service::start();
    let watch = format!(
        "{KEPT}routes:\n\
         - {{ name: polite, match: {{ path: /polite }}, login_watch: {{ failures: 3, failure: {{ json: {{ field: /error/code, equals: bad_login }} }} }} }}\n\
         - {{ name: page, match: {{ path: /page }}, login_watch: {{ failures: 3, failure: {{ status: [200], header: {{ name: X-Login, value: failed }} }} }} }}\n\
         - {{ name: rest, match: {{ path: /** }}, login_watch: {{ failures: 3 }} }}\n"
    );
    let gate = Gate::start(BINARY, &config(service.address, &watch));
    let padded = format!("{{\"padding\":\"{}\",\"user\":\"a\",\"password\":\"b\"}}", "x".repeat(20_000));
    for (from_address, path, kind, body, status) in [
        ("203.0.113.1", "/polite", JSON, guess(1), 200),
        ("203.0.113.2", "/page", FORM, "user=a&password=b".to_owned(), 200),
        ("203.0.113.3", "/login", JSON, padded, 401),
        ("203.0.113.4", "/login", JSON, "{\"password\": broken".to_owned(), 401),
        ("203.0.113.5", "/login", "text/plain", guess(1), 401),
    ] {
        for number in 0..3 {
            assert_eq!(login(gate.data, from_address, path, kind, &body).status, status, "{path} {number}");
        }
        let deadline = Instant::now() + PATIENCE;
        // Where the body of the answer decides, the ban may come a moment after its last byte.
        while from(&gate, from_address).status != 403 {
            assert!(Instant::now() < deadline, "{from_address} on {path} is not banned");
        }
    }
    let good = "{\"user\":\"ada\",\"password\":\"right\"}";
    for _ in 0..5 {
        assert_eq!(login(gate.data, "203.0.113.7", "/polite", JSON, good).status, 200);
    }
    assert_eq!(from(&gate, "203.0.113.7").status, 401, "successes are no failures");
}

/// Row 104: a hundred guesses at once reach the service ten times at most.
#[test]
fn row_104_a_hundred_guesses_at_once_are_evaluated_ten_times_at_most() {
    let service = Service::start();
    let watch = format!("{KEPT}routes: [{{ name: all, match: {{ path: /** }}, login_watch: {{}} }}]\n");
    let gate = Gate::start(BINARY, &config(service.address, &watch));
    let address = gate.data;
    let threads: Vec<_> = (0..100)
        .map(|number| std::thread::spawn(move || login(address, "203.0.113.9", "/slow", JSON, &guess(number)).status))
        .collect();
    let statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("an answer")).collect();
    let evaluated = statuses.iter().filter(|status| **status == 401).count();
    assert!(statuses.iter().all(|status| [401, 403, 429].contains(status)), "{statuses:?}");
    assert!(
        (1..=10).contains(&evaluated) && service.asked() == evaluated as u64,
        "{evaluated} and {}",
        service.asked()
    );
}
