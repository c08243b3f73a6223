//! TLS to upstreams: who is believed, what is refused, and that nothing is ever sent in plain text instead (ATTACKS row 185).

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use portcullis_testkit::client::get;
use portcullis_testkit::gate::{Gate, ON_FREE_PORTS};

use super::servers::{Authority, Server, directives, nginx, s_server};
use crate::BINARY;

fn https(pair_directives: &str, more: &str) -> Server {
    nginx(&format!(
        "listen LISTEN ssl; {pair_directives} {more} location / {{ return 200 \"$ssl_protocol $ssl_server_name $ssl_client_verify $host\"; }}"
    ))
}

fn config(server: &Server, tls: &str) -> String {
    format!(
        "upstreams: {{ app: {{ url: \"https://localhost:{}\", tls: {{ {tls} }}, retry: {{ attempts: 1 }}, circuit_breaker: {{ failures: 1000 }} }} }}\n",
        server.address.port()
    )
}

fn path(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// What a client hears, and what the log and the metric say.
fn assert_untrusted(gate: &mut Gate, reason: &str) {
    let response = get(gate.data, "/secret");
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.text().contains("ERR_UPSTREAM_UNTRUSTED"), "{}", response.text());
    let alarm = gate.wait_for_event("upstream_untrusted");
    assert_eq!((&alarm["level"], &alarm["upstream"]), (&"error".into(), &"app".into()));
    let series = format!("portcullis_upstream_tls_failures_total{{upstream=\"app\",reason=\"{reason}\"}}");
    assert!(gate.metric(&series).is_some_and(|count| count >= 1.0), "{reason}: {alarm}");
}

#[test]
fn a_verified_upstream_is_asked_over_tls_with_its_name() {
    let authority = Authority::new();
    let server = https(&directives(&authority.sign("localhost", 90)), "");
    let gate = Gate::start(BINARY, &config(&server, &format!("ca: {}", path(&authority.file()))));
    for _ in 0..3 {
        let response = get(gate.data, "/");
        assert_eq!((response.status, response.text().as_str()), (200, "TLSv1.3 localhost NONE test"));
    }
}

#[test]
fn row_185_a_certificate_that_proves_nothing_is_502_and_an_alarm() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let other_name = authority.sign("other.test", 90);
    for (pair, ca, reason) in [
        (&other_name, &authority, "wrong_name"),
        (&authority.sign("localhost", 0), &authority, "expired"),
        (&authority.sign("localhost", 90), &stranger, "unknown_authority"),
    ] {
        let server = https(&directives(pair), "");
        let mut gate = Gate::start(BINARY, &config(&server, &format!("ca: {}", path(&ca.file()))));
        assert_untrusted(&mut gate, reason);
    }
    // The system's authorities have not signed it either.
    let server = https(&directives(&authority.sign("localhost", 90)), "");
    let mut gate = Gate::start(BINARY, &config(&server, "required: true"));
    assert_untrusted(&mut gate, "unknown_authority");
    // The other name is fine when it is the one that was asked for.
    let server = https(&directives(&other_name), "");
    let asked = format!("ca: {}, server_name: other.test", path(&authority.file()));
    let gate = Gate::start(BINARY, &config(&server, &asked));
    assert_eq!(get(gate.data, "/").text(), "TLSv1.3 other.test NONE test");
}

#[test]
fn row_185_client_certificates_are_shown_and_their_absence_is_502() {
    let authority = Authority::new();
    let verify = format!("ssl_client_certificate {}; ssl_verify_client on;", authority.file().display());
    let server = https(&directives(&authority.sign("localhost", 90)), &verify);
    let own = authority.sign("gateway.test", 90);
    let ca = format!("ca: {}", path(&authority.file()));
    let shown = format!("{ca}, certificate: {}, key: {}", path(&own.certificate), path(&own.key));
    let gate = Gate::start(BINARY, &config(&server, &shown));
    assert_eq!(get(gate.data, "/").text(), "TLSv1.3 localhost SUCCESS test");
    // nginx answers 400 to a client without a certificate; a server that ends the handshake is the next one.
    assert_eq!(get(Gate::start(BINARY, &config(&server, &ca)).data, "/").status, 400);

    let strict = s_server(&authority, &authority.sign("localhost", 91), &["-Verify", "1", "-verify_return_error"]);
    let mut gate = Gate::start(BINARY, &config(&strict, &ca));
    assert_untrusted(&mut gate, "refused");
}

#[test]
fn row_185_a_target_that_speaks_no_tls_never_sees_a_request() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let seen = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("it connects");
        let mut bytes = vec![0; 4096];
        let read = socket.read(&mut bytes).expect("it speaks first");
        // A plain answer to a TLS greeting: what an http server does.
        let _ = std::io::Write::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        bytes.truncate(read);
        while let Ok(read @ 1..) = socket.read(&mut [0; 4096]) {
            assert!(read < 64, "only an alert may follow");
        }
        bytes
    });
    let text = format!("upstreams: {{ app: {{ url: \"https://localhost:{port}\", retry: {{ attempts: 1 }} }} }}\n");
    let mut gate = Gate::start(BINARY, &text);
    assert_untrusted(&mut gate, "protocol");
    let bytes = seen.join().expect("nothing but TLS");
    assert_eq!(bytes.first(), Some(&0x16), "a handshake record");
    assert!(!bytes.windows(6).any(|six| six == b"secret"), "the request has not been sent");
}

#[test]
fn rows_185_and_186_files_are_read_again_on_reload_and_a_bad_one_keeps_the_old() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = https(&directives(&authority.sign("localhost", 90)), "");
    let folder = portcullis_testkit::gate::Folder::new();
    let ca = folder.path().join("ca.pem");
    std::fs::copy(authority.file(), &ca).expect("copied");
    let mut gate = Gate::start(BINARY, &config(&server, &format!("ca: {}", path(&ca))));
    assert_eq!(get(gate.data, "/").status, 200);
    // A file that is none: the old one goes on, and that is an alarm.
    std::fs::write(&ca, "not a certificate").expect("written");
    let refused = gate.wait_for_event("reload_refused");
    let mistake = refused["mistake"].as_str().unwrap_or_default().to_owned();
    assert!(mistake.contains("upstreams.app.tls.ca") && mistake.contains("no certificate"), "{mistake}");
    assert_eq!(get(gate.data, "/").status, 200);
    assert_eq!(gate.metric("portcullis_config_last_reload_success{}"), Some(0.0));
    // Another authority: it takes effect, also for connections that rest.
    std::fs::copy(stranger.file(), &ca).expect("copied");
    gate.wait_for_event("reloaded");
    assert_untrusted(&mut gate, "unknown_authority");
}

fn validate(text: &str) -> (Option<i32>, String) {
    let folder = portcullis_testkit::gate::Folder::new();
    let file = folder.path().join("portcullis.yaml");
    std::fs::write(&file, format!("{ON_FREE_PORTS}{text}")).expect("written");
    let output = Command::new(BINARY).args(["validate", "--config"]).arg(&file).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_would_weaken_tls_is_refused_at_start() {
    let authority = Authority::new();
    let own = authority.sign("gateway.test", 90);
    let other = authority.sign("other.test", 90);
    let pair = |certificate: &Path, key: &Path| format!("certificate: {}, key: {}", path(certificate), path(key));
    for (upstream, key, part) in [
        ("url: \"http://app:1\", tls: { required: true }".to_owned(), "upstreams.app.tls.required", "must be https"),
        ("url: \"http://app:1\", tls: { ca: x.pem }".to_owned(), "upstreams.app.tls", "has no effect"),
        ("targets: [{ url: \"https://a\" }, { url: \"http://b\" }]".to_owned(), "targets[1].url", "cannot be mixed"),
        ("url: \"https://a\", tls: { ca: nowhere.pem }".to_owned(), "upstreams.app.tls.ca", "cannot be read"),
        (format!("url: \"https://a\", tls: {{ certificate: {} }}", path(&own.certificate)), "tls.key", "needs its key"),
        (
            format!("url: \"https://a\", tls: {{ {} }}", pair(&own.certificate, &other.key)),
            "upstreams.app.tls.key",
            "does not fit",
        ),
        (
            "url: \"https://a\", tls: { dangerous_skip_verification: true }".to_owned(),
            "tls.dangerous_skip_verification",
            "production preset refuses",
        ),
    ] {
        let (code, said) = validate(&format!("upstreams: {{ app: {{ {upstream} }} }}\n"));
        assert_eq!(code, Some(1), "{upstream}: {said}");
        assert!(said.contains(key) && said.contains(part), "{upstream}: {said}");
    }
}

#[test]
fn verification_is_skipped_only_where_the_dangerous_key_says_so_and_it_is_said() {
    let server = https(&directives(&Authority::new().sign("other.test", 0)), "");
    let text = config(&server, "dangerous_skip_verification: true");
    let mut gate = Gate::start(BINARY, &format!("preset: development\n{text}"));
    assert_eq!(get(gate.data, "/").status, 200);
    assert_eq!(gate.wait_for_event("upstream_not_verified")["upstream"], "app");
}
