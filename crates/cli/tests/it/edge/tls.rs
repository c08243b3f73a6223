//! TLS: what openssl and curl are shown, and what a reload or a bad file changes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use portcullis_testkit::authority::{Authority, Issued, Wanted};
use portcullis_testkit::client::Client;
use portcullis_testkit::gate::{Folder, Gate};

use super::{echo, gate, run};

/// One TLS listener with the files `tls.crt` and `tls.key` of the config's folder.
const TLS: &str = "{ address: \"127.0.0.1:0\", tls: { certificate: tls.crt, key: tls.key } }";

struct Stand {
    folder: std::path::PathBuf,
    authority: Authority,
    ca: String,
}

/// A folder with an authority and the certificate of `localhost`.
fn stand() -> (Folder, Stand) {
    let folder = Folder::new();
    let authority = Authority::new("test authority");
    let _ = authority.server(folder.path(), "tls", &["localhost", "127.0.0.1"]);
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("writable");
    let stand = Stand { folder: folder.path().to_owned(), authority, ca: ca.to_string_lossy().into_owned() };
    (folder, stand)
}

fn curl(gate: &Gate, ca: &str, words: &[&str]) -> (bool, String) {
    let url = format!("https://localhost:{}/hello", gate.data.port());
    run("curl", &[&["--silent", "--show-error", "--max-time", "20", "--cacert", ca], words, &[&url]].concat())
}

fn s_client(gate: &Gate, words: &[&str]) -> (bool, String) {
    let address = gate.data.to_string();
    let base = ["s_client", "-connect", &address];
    let output = Command::new("openssl").args(base).args(words).stdin(Stdio::null()).output().expect("openssl");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A TLS connection that the test holds open.
struct Held {
    child: Child,
    stdin: ChildStdin,
}

impl Held {
    fn open(gate: &Gate) -> Held {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-servername", "localhost", "-connect", &gate.data.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let stdin = child.stdin.take().expect("piped");
        Held { child, stdin }
    }

    fn ask(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stdin.write_all(request.as_bytes()).expect("the connection is open");
        let mut text = Vec::new();
        let out = self.child.stdout.as_mut().expect("piped");
        let mut byte = [0];
        while !text.ends_with(path.as_bytes()) && out.read(&mut byte).is_ok_and(|read| read == 1) {
            text.push(byte[0]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn curl_speaks_both_protocols_over_both_versions() {
    let (folder, stand) = stand();
    let upstream = echo();
    let mut gate = gate(folder, &upstream, TLS, "");
    for (words, version) in
        [(&["--tlsv1.3"][..], "2"), (&["--tlsv1.2", "--tls-max", "1.2"], "2"), (&["--http1.1"], "1.1")]
    {
        let (ok, text) = curl(&gate, &stand.ca, &[words, &["-w", " %{http_version}"]].concat());
        assert!(ok && text == format!("/hello {version}"), "{words:?}: {text}");
    }
    let (_, head) = curl(&gate, &stand.ca, &["-i"]);
    assert!(head.to_lowercase().contains("strict-transport-security: "), "{head}");
    let head = upstream.received()[0].head.to_lowercase();
    assert!(head.contains("x-forwarded-proto: https"), "{head}");
    let line = gate.wait_for("a request over TLS", |line| line["msg"] == "request");
    assert_eq!(line["tls"], "1.3");
    assert!(gate.metric("portcullis_tls_handshakes_total{result=\"full\"}").is_some_and(|count| count >= 4.0));
}

#[test]
fn row_184_old_versions_weak_ciphers_renegotiation_and_early_data_are_not_there() {
    let (folder, stand) = stand();
    let upstream = echo();
    let gate = gate(folder, &upstream, TLS, "");
    for old in [
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384:DES-CBC3-SHA:@SECLEVEL=0"],
    ] {
        let (ok, text) = s_client(&gate, &[old, &["-servername", "localhost"]].concat());
        assert!(!ok && !text.contains("Cipher is ECDHE"), "{old:?}: {text}");
    }
    let (_, text) = s_client(&gate, &["-servername", "localhost", "-tls1_3"]);
    assert!(text.contains("Max Early Data: 0") || !text.contains("Max Early Data"), "{text}");
    let (ok, text) = s_client(&gate, &["-servername", "other.test"]);
    assert!(!ok, "an unknown name is refused: {text}");
    let (ok, text) = s_client(&gate, &["-noservername", "-CAfile", &stand.ca, "-verify_return_error"]);
    assert!(ok, "a client by address gets the certificate for addresses: {text}");
    // Plain text at a TLS door is closed and never answered in plain text.
    let mut client = Client::connect(gate.data);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    while client.read_more() {}
    assert!(!client.unread().starts_with(b"HTTP"), "{:?}", client.unread());
    assert!(gate.metric("portcullis_tls_handshakes_total{result=\"failed\"}").is_some_and(|count| count >= 4.0));
}

#[test]
fn the_name_chooses_the_certificate() {
    let (folder, stand) = stand();
    let _ = stand.authority.server(&stand.folder, "other", &["other.test", "*.wild.test"]);
    let listen = "{ address: \"127.0.0.1:0\", tls: { certificate: tls.crt, key: tls.key, \
                  certificates: [{ certificate: other.crt, key: other.key }] } }";
    let upstream = echo();
    let gate = gate(folder, &upstream, listen, "");
    for (name, is_known) in [
        ("localhost", true),
        ("other.test", true),
        ("a.wild.test", true),
        ("a.b.wild.test", false),
        ("evil.test", false),
    ] {
        let (ok, text) = s_client(
            &gate,
            &["-servername", name, "-verify_hostname", name, "-verify_return_error", "-CAfile", &stand.ca],
        );
        assert_eq!(ok, is_known, "{name}: {text}");
    }
}

#[test]
fn row_64_a_connection_opened_for_one_name_meets_the_whole_policy_of_the_host_it_asks() {
    let (folder, stand) = stand();
    let upstream = echo();
    let routes = "routes:\n  - { name: open, match: { host: localhost, path: /** } }\n  \
                  - { name: closed, match: { host: other.test, path: /** }, limits: { body_bytes: 1B } }\n";
    let mut gate = gate(folder, &upstream, TLS, routes);
    for words in [&["--http1.1"][..], &["--http2"]] {
        let asks = ["-H", "Host: other.test", "-d", "too much", "-w", " %{http_code}"];
        let (ok, text) = curl(&gate, &stand.ca, &[words, &asks[..]].concat());
        assert!(ok && text.ends_with(" 413"), "{text}");
    }
    assert_eq!(gate.wait_for("the refusal", |line| line["status"] == 413)["route"], "closed");
    assert!(upstream.received().is_empty());
}

#[test]
fn row_186_a_reload_shows_the_new_certificate_and_a_bad_file_keeps_the_old() {
    let (folder, stand) = stand();
    let upstream = echo();
    let mut gate = gate(folder, &upstream, TLS, "");
    let mut held = Held::open(&gate);
    assert!(held.ask("/before").contains("200 OK"));
    let shown = |gate: &Gate| {
        let (_, text) = s_client(gate, &["-servername", "localhost"]);
        text.lines().find_map(|line| line.trim().strip_prefix("0 s:").map(str::to_owned)).unwrap_or(text)
    };
    assert_eq!(shown(&gate), "CN = server");
    // A new certificate is noticed by itself, as when a renewal writes it.
    let renewed = Wanted { name: "renewed", hosts: &["localhost", "127.0.0.1"], days: 80, serial: 8 };
    let Issued { .. } = stand.authority.issue(&stand.folder, "tls", &renewed);
    gate.wait_for_event("reloaded");
    assert_eq!(shown(&gate), "CN = renewed");
    assert!(held.ask("/after").contains("200 OK"), "the open connection goes on");
    std::fs::write(stand.folder.join("tls.key"), "not a key").expect("writable");
    gate.wait_for_event("reload_refused");
    assert_eq!(shown(&gate), "CN = renewed");
    assert_eq!(gate.metric("portcullis_config_last_reload_success{}"), Some(0.0));
    assert!(held.ask("/still").contains("200 OK"));
}

#[test]
fn row_184_a_clients_certificate_must_be_valid_and_its_subject_is_known() {
    let (folder, stand) = stand();
    let client = |file, name, days, serial| {
        let issued = stand.authority.issue(&stand.folder, file, &Wanted { name, hosts: &[], days, serial });
        (issued.certificate.to_string_lossy().into_owned(), issued.key.to_string_lossy().into_owned())
    };
    let good = client("good", "backup job", 80, 21);
    let expired = client("expired", "late", -3, 22);
    let revoked = client("revoked", "gone", 80, 23);
    let strange = Authority::new("another").issue(
        &stand.folder,
        "strange",
        &Wanted { name: "backup job", hosts: &[], days: 80, serial: 24 },
    );
    let strange = (strange.certificate.to_string_lossy().into_owned(), strange.key.to_string_lossy().into_owned());
    std::fs::write(stand.folder.join("crl.pem"), stand.authority.revocations(&[23])).expect("writable");
    let listen = "{ address: \"127.0.0.1:0\", tls: { certificate: tls.crt, key: tls.key, \
                  client_certificates: { ca: ca.pem, crl: [crl.pem] } } }";
    let upstream = echo();
    let mut gate = gate(folder, &upstream, listen, "");
    let (ok, text) = curl(&gate, &stand.ca, &["--cert", &good.0, "--key", &good.1]);
    assert!(ok && text == "/hello", "{text}");
    let line = gate.wait_for("the request", |line| line["msg"] == "request");
    assert_eq!(line["client_certificate"], "CN=backup job");
    for (what, pair) in [("expired", &expired), ("revoked", &revoked), ("strange", &strange)] {
        let (ok, text) = curl(&gate, &stand.ca, &["--cert", &pair.0, "--key", &pair.1]);
        assert!(!ok, "{what}: {text}");
    }
    let (ok, text) = curl(&gate, &stand.ca, &[]);
    assert!(!ok, "none: {text}");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn row_131_a_slow_handshake_is_cut() {
    let (folder, _stand) = stand();
    let upstream = echo();
    let gate = gate(folder, &upstream, TLS, "limits: { header_timeout: 1s }\n");
    let mut client = Client::connect(gate.data);
    // The beginning of a handshake record, and then nothing.
    client.send(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    let began = std::time::Instant::now();
    assert!(client.is_closed());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn every_file_that_cannot_be_used_is_told_at_its_line() {
    let folder = Folder::new();
    let path = folder.path().join("portcullis.yaml");
    std::fs::write(folder.path().join("empty.pem"), "").expect("writable");
    std::fs::write(
        &path,
        "upstreams: { app: { url: http://127.0.0.1:1 } }\nlisten:\n  - address: 127.0.0.1:0\n    tls:\n      certificate: absent.crt\n      \
         key: absent.key\n      client_certificates: { ca: empty.pem }\n",
    )
    .expect("writable");
    let (ok, text) = run(crate::BINARY, &["validate", "--config", &path.to_string_lossy()]);
    assert!(!ok, "{text}");
    assert!(text.contains("portcullis.yaml:5:") && text.contains("absent.crt"), "{text}");
    assert!(text.contains("portcullis.yaml:7:") && text.contains("empty.pem holds no certificate"), "{text}");
}

#[test]
fn testssl_finds_nothing_above_low() {
    let (folder, stand) = stand();
    let upstream = echo();
    let gate = gate(folder, &upstream, TLS, "rate_limit: [{ name: all, by: [address], limit: 100000/1s }]\n");
    let findings = stand.folder.join("findings.json");
    let target = format!("localhost:{}", gate.data.port());
    let words = [
        "--quiet",
        "--color",
        "0",
        "--add-ca",
        &stand.ca,
        "--jsonfile",
        &findings.to_string_lossy(),
        "--ip",
        "127.0.0.1",
    ];
    let (_, text) = run("testssl", &[&words[..], &[&target]].concat());
    let findings = std::fs::read_to_string(&findings).unwrap_or_else(|error| panic!("{error}: {text}"));
    let findings: serde_json::Value =
        serde_json::from_str(&findings).unwrap_or_else(|error| panic!("{error}: {findings}"));
    let findings = findings.as_array().expect("a list");
    // It did look: a run that was cut short would find nothing either.
    for looked in ["BREACH", "TLS1_3", "heartbleed", "cipher_order", "HSTS"] {
        let found = findings.iter().find(|finding| finding["id"].as_str().is_some_and(|id| id.starts_with(looked)));
        assert!(found.is_some(), "{looked} was not looked at: {text}");
    }
    // WARN is no finding but a check that could not be made.
    let is_above = |finding: &&serde_json::Value| {
        ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].iter().any(|above| finding["severity"] == *above)
    };
    let above: Vec<_> = findings.iter().filter(is_above).collect();
    assert!(above.is_empty(), "{above:#?}");
}
