//! Before three services that nobody here wrote: json-server (Node), httpbin (Python), go-httpbin (Go). Driven by curl and
//! by a second real client each: Python's requests, Node's fetch.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_testkit::gate::{Folder, Gate};
use serde_json::Value;

use crate::{BINARY, misbehaving};

pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools")
}

/// A service as a process.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Service {
    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn start(program: &Path, words: &[String], address: SocketAddr) -> Service {
        let child = Command::new(program)
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} (run `cargo xtask setup`): {error}", program.display()));
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "{} does not listen", program.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        Service { address, child }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gate_before(service: &Service) -> Gate {
    Gate::start(
        BINARY,
        &format!("upstreams: {{ app: {{ url: \"http://{}\" }} }}\nlimits: {{ body_bytes: 64MiB }}\n", service.address),
    )
}

/// Runs a client and returns what it printed.
pub(crate) fn client(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn curl(words: &[&str]) -> String {
    client("curl", &[&["--silent", "--show-error", "--max-time", "20"], words].concat())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What both httpbins answer alike.
fn drive_httpbin(gate: &Gate) {
    let base = format!("http://{}", gate.data);
    let seen = json(&curl(&[
        "-H",
        "X-Forwarded-For: 9.9.9.9",
        "-H",
        "X-Portcullis-User: root",
        &format!("{base}/headers?show_env=1"),
    ]));
    let seen = seen["headers"].to_string().to_lowercase();
    assert!(seen.contains("127.0.0.1") && seen.contains("x-request-id"), "{seen}");
    assert!(!seen.contains("9.9.9.9") && !seen.contains("root"), "{seen}");

    let head = curl(&["-i", "-H", "Accept: application/json", &format!("{base}/status/418")]);
    assert!(
        head.starts_with("HTTP/1.1 418") && head.to_lowercase().contains("x-content-type-options: nosniff"),
        "{head}"
    );

    let folder = Folder::new();
    let file = folder.path().join("upload");
    std::fs::write(&file, vec![b'a'; 5 << 20]).expect("written");
    let answer = curl(&[
        "-H",
        "Expect: 100-continue",
        "-H",
        "Content-Type: text/plain",
        "--data-binary",
        &format!("@{}", file.display()),
        &format!("{base}/post"),
    ]);
    assert_eq!(json(&answer)["data"].as_str().map(str::len), Some(5 << 20));
    let answer = curl(&[
        "-H",
        "Transfer-Encoding: chunked",
        "-H",
        "Content-Type: text/plain",
        "-d",
        "in chunks",
        &format!("{base}/post"),
    ]);
    assert_eq!(json(&answer)["data"], "in chunks");

    let lines = curl(&["-N", &format!("{base}/stream/5")]);
    assert_eq!(lines.lines().count(), 5, "{lines}");
    assert_eq!(curl(&["--compressed", &format!("{base}/gzip")]).matches("gzip").count().min(1), 1);
    let sizes = curl(&[
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{size_download} %{num_connects}",
        &format!("{base}/range/70000"),
    ]);
    assert!(sizes.starts_with("200 70000"), "{sizes}");
    assert!(curl(&["-I", &format!("{base}/get")]).starts_with("HTTP/1.1 200"));
    let two = curl(&[
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-w",
        "%{num_connects} ",
        &format!("{base}/get"),
        &format!("{base}/get"),
    ]);
    assert_eq!(two.trim(), "1 0", "the second request uses the first one's connection");
}

/// The second client: a session of Python's requests, which keeps connections and follows redirects and cookies.
fn drive_with_requests(gate: &Gate) {
    let script = format!(
        "import requests\ns = requests.Session()\nb = 'http://{}'\n\
         assert s.get(b + '/redirect/2').status_code == 200\n\
         s.get(b + '/cookies/set?flavour=oat')\nassert s.get(b + '/cookies').json().get('cookies', s.get(b + '/cookies').json()).get('flavour') == 'oat'\n\
         r = s.put(b + '/put', json={{'a': 1}})\nassert r.json()['json'] == {{'a': 1}}\nassert r.headers['X-Request-Id'] and 'RateLimit' in r.headers\n\
         r = s.request('TRACE', b + '/get')\nassert r.status_code == 405 and r.json()['error']['code'] == 'ERR_METHOD_NOT_ALLOWED', r.text\n\
         r = s.get(b + '/get', headers={{'Accept': 'application/problem+json', 'Expect': 'magic'}})\nassert r.status_code == 417 and r.json()['status'] == 417\n\
         print('done')\n",
        gate.data
    );
    assert_eq!(client(&tools().join("python/bin/python").to_string_lossy(), &["-c", &script]).trim(), "done");
}

#[test]
fn httpbin_in_python_behind_gunicorn() {
    let address = misbehaving::nobody();
    let words = ["-b", &address.to_string(), "--threads", "4", "httpbin:app"].map(str::to_owned);
    let service = Service::start(&tools().join("python/bin/gunicorn"), &words, address);
    let gate = gate_before(&service);
    drive_httpbin(&gate);
    drive_with_requests(&gate);
}

#[test]
fn go_httpbin_in_go() {
    let address = misbehaving::nobody();
    let words = [
        "-host".to_owned(),
        "127.0.0.1".to_owned(),
        "-port".to_owned(),
        address.port().to_string(),
        "-max-body-size".to_owned(),
        "10000000".to_owned(),
    ];
    let service = Service::start(&tools().join("go/go-httpbin"), &words, address);
    let gate = gate_before(&service);
    drive_httpbin(&gate);
    // Server-sent events of a real service, one by one, with Node's fetch as the client.
    let script = format!(
        "const r = await fetch('http://{}/sse?count=4&duration=400ms');let n = 0;let t = '';\
         for await (const c of r.body) {{ n++; t += new TextDecoder().decode(c); }}\
         if (n < 3) throw new Error('came in ' + n + ' pieces');\
         if ((t.match(/event:/g) || []).length !== 4) throw new Error(t);\
         const late = await fetch('http://{}/delay/1', {{ signal: AbortSignal.timeout(100) }}).catch(e => e.name);\
         if (late !== 'TimeoutError') throw new Error(late);console.log('done');",
        gate.data, gate.data
    );
    assert_eq!(client("node", &["--input-type=module", "-e", &script]).trim(), "done");
}

#[test]
fn json_server_in_node() {
    let folder = Folder::new();
    let data = folder.path().join("db.json");
    std::fs::write(&data, r#"{ "posts": [{ "id": 1, "title": "first" }] }"#).expect("written");
    let address = misbehaving::nobody();
    let words = [
        tools().join("node/node_modules/json-server/lib/cli/bin.js").display().to_string(),
        "--host".to_owned(),
        "127.0.0.1".to_owned(),
        "--port".to_owned(),
        address.port().to_string(),
        data.display().to_string(),
    ];
    let service = Service::start(Path::new("node"), &words, address);
    let gate = gate_before(&service);
    let base = format!("http://{}", gate.data);
    assert_eq!(json(&curl(&[&format!("{base}/posts/1")]))["title"], "first");
    let made = curl(&["-H", "Content-Type: application/json", "-d", r#"{"title":"second"}"#, &format!("{base}/posts")]);
    assert_eq!(json(&made)["id"], 2);
    let head = curl(&["-i", &format!("{base}/posts?_page=1&_limit=1")]).to_lowercase();
    assert!(head.contains("x-total-count: 2") && !head.contains("x-powered-by"), "{head}");
    let script = format!(
        "const b = 'http://{}';\
         let r = await fetch(b + '/posts/2', {{ method: 'PATCH', headers: {{ 'content-type': 'application/json' }}, body: '{{\"title\":\"new\"}}' }});\
         if ((await r.json()).title !== 'new') throw new Error('patch');\
         r = await fetch(b + '/posts/2', {{ method: 'DELETE' }});if (r.status !== 200) throw new Error('delete');\
         r = await fetch(b + '/posts/2');if (r.status !== 404) throw new Error('get');\
         const all = await Promise.all(Array.from({{ length: 50 }}, () => fetch(b + '/posts').then(r => r.json())));\
         if (!all.every(p => p.length === 1)) throw new Error('fifty at once');console.log('done');",
        gate.data
    );
    assert_eq!(client("node", &["--input-type=module", "-e", &script]).trim(), "done");
}
