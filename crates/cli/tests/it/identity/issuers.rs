//! A real issuer (npm `oidc-provider`): its tokens, its keys that change under load, and its end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{ask, get};
use portcullis_testkit::gate::{Folder, Gate, signal};
use portcullis_testkit::upstream::{Upstream, answer};
use serde_json::Value;

use crate::services::{Service, tools};
use crate::{BINARY, misbehaving};

/// The issuer as a process.
fn issuer() -> Service {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/identity/issuer.mjs");
    let address = misbehaving::nobody();
    let modules = tools().join("node/node_modules").to_string_lossy().into_owned();
    let words = [script.to_string_lossy().into_owned(), address.port().to_string(), modules];
    Service::start(Path::new("node"), &words, address)
}

/// A service that says who it was told is asking.
fn service() -> Upstream {
    Upstream::start(|socket, request| {
        let told = |wanted: &str| {
            let fields = request.head.lines().filter_map(|line| line.split_once(": "));
            let mut values =
                fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned());
            values.next().unwrap_or_else(|| "nobody".to_owned())
        };
        let body = format!("{} {}", told("x-portcullis-user"), told("x-portcullis-auth"));
        answer(socket, "200 OK", &body)
    })
}

fn gate(issuer: &Service, service: &Upstream) -> Gate {
    Gate::start(BINARY, &config(issuer, service))
}

/// What a token says, unchecked.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn config(issuer: &Service, service: &Upstream) -> String {
    let address = issuer.address;
    format!(
        "upstreams: {{ app: {{ url: \"http://{}\" }} }}
rate_limit: []
preset: development
identity:
  required: true
  jwt:
    issuers:
      - issuer: http://{address}
        audience: [api]
        algorithms: [ES256]
        jwks: {{ url: \"http://{address}/jwks\", cooldown: 1s, refresh: 2s, keep: 5m }}
",
        service.address
    )
}

/// A token by client credentials (RFC 6749, section 4.4).
fn token(issuer: &Service) -> String {
    let body = "grant_type=client_credentials&scope=read";
    let request = format!(
        "POST /token HTTP/1.1\r\nhost: {}\r\nauthorization: Basic c2VydmljZTpzZWNyZXQ=\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        issuer.address,
        body.len()
    );
    let text = ask(issuer.address, &request).text();
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

fn with_token(gate: std::net::SocketAddr, token: &str) -> portcullis_testkit::client::Response {
    ask(
        gate,
        &format!("GET /x HTTP/1.1\r\nhost: service\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"),
    )
}

#[test]
fn a_real_issuers_token_opens_the_door_and_its_keys_change_under_load_without_a_failed_request() {
    let (issuer, service) = (issuer(), service());
    let gate = gate(&issuer, &service);
    assert_eq!(get(gate.data, "/x").status, 401);
    let first = token(&issuer);
    let heard = with_token(gate.data, &first);
    assert_eq!((heard.status, heard.text()), (200, format!("service jwt;issuer=\"http://{}\"", issuer.address)));

    let current = Arc::new(Mutex::new(first.clone()));
    let (is_over, sent, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let door = gate.data;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let token = current.lock().expect("nobody panics with it").clone();
                    let heard = with_token(door, &token);
                    sent.fetch_add(1, Ordering::Relaxed);
                    if heard.status != 200 {
                        failed.lock().expect("nobody panics with it").push((heard.status, heard.text()));
                    }
                }
            });
        }
        for _ in 0..3 {
            // The issuer signs with a key that the gateway has never seen, at once and without a word.
            let _ = get(issuer.address, "/rotate");
            *current.lock().expect("nobody panics with it") = token(&issuer);
            let before = sent.load(Ordering::Relaxed);
            let began = Instant::now();
            // Longer than the cooldown, so that the next unknown key may be asked for.
            while sent.load(Ordering::Relaxed) < before + 50 || began.elapsed() < Duration::from_millis(1200) {
                assert!(began.elapsed() < Duration::from_secs(30), "the load stands still");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    let told: Vec<String> = gate.log().into_iter().filter(|line| line.contains("ERR_")).take(3).collect();
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), sent.load(Ordering::Relaxed), told);
    assert!(sent.load(Ordering::Relaxed) >= 150);

    // The old keys are withdrawn: what they had signed is forgotten with the next fetch, though it was remembered.
    assert_eq!(with_token(gate.data, &first).status, 200);
    let _ = get(issuer.address, "/retire");
    let began = Instant::now();
    while with_token(gate.data, &first).status == 200 {
        assert!(began.elapsed() < Duration::from_secs(10), "a withdrawn key still opens the door");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(with_token(gate.data, &first).text().contains("ERR_TOKEN_INVALID"));
    assert_eq!(with_token(gate.data, &token(&issuer)).status, 200);
}

#[test]
fn a_token_is_withdrawn_by_command_from_the_next_request_on() {
    let (issuer, service) = (issuer(), service());
    let folder = Folder::new();
    let socket = folder.path().join("control.sock");
    let config = config(&issuer, &service) + &format!("control: {{ socket: \"{}\" }}\n", socket.display());
    let gate = Gate::start(BINARY, &config);
    let first = token(&issuer);
    let jti = claims(&first)["jti"].as_str().expect("it has an id").to_owned();
    assert_eq!(with_token(gate.data, &first).status, 200);
    let name = format!("http://{}", issuer.address);
    let command = |words: &[&str]| {
        let output = std::process::Command::new(BINARY)
            .arg("tokens")
            .args(words)
            .args(["--socket", &socket.to_string_lossy()])
            .output()
            .expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = command(&["revoke", "--issuer", &name, "--id", &jti]);
    assert_eq!(code, Some(0), "{said}");
    let heard = with_token(gate.data, &first);
    assert!(heard.status == 401 && heard.text().contains("ERR_TOKEN_REVOKED"), "{}", heard.text());
    assert!(heard.field("www-authenticate").is_some_and(|field| field.contains("invalid_token")));
    assert_eq!(with_token(gate.data, &token(&issuer)).status, 200, "others are not");
    let second = token(&issuer);
    let (code, said) = command(&["revoke", "--issuer", &name, "--user", "service", "--for", "1h"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(with_token(gate.data, &second).text().contains("ERR_TOKEN_REVOKED"));
    let (_, said) = command(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((&listed[0]["id"], &listed[1]["user"]), (&jti.into(), &"service".into()));
    let (code, said) = command(&["revoke", "--issuer", "https://nobody/", "--user", "service"]);
    assert!(code == Some(1) && said.contains("no issuer of this gateway"), "{said}");
}

#[test]
fn an_issuer_that_hangs_or_is_killed_is_an_outage_only_for_what_is_not_known() {
    let (issuer, service) = (issuer(), service());
    let mut gate = gate(&issuer, &service);
    let known = token(&issuer);
    assert_eq!(with_token(gate.data, &known).status, 200);
    // A token of a key that the gateway does not know yet.
    let _ = get(issuer.address, "/rotate");
    let unknown = token(&issuer);
    signal(issuer.pid(), "STOP");
    let heard = with_token(gate.data, &unknown);
    assert_eq!(heard.status, 503, "{}", heard.text());
    assert!(heard.text().contains("ERR_KEYS_UNAVAILABLE") && heard.field("retry-after").is_some(), "{}", heard.text());
    assert_eq!(with_token(gate.data, &known).status, 200, "what is known goes on");
    signal(issuer.pid(), "CONT");
    let began = Instant::now();
    while with_token(gate.data, &unknown).status != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not recover");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(issuer.pid(), "KILL");
    gate.wait_for_event("keys_not_fetched");
    assert_eq!(with_token(gate.data, &known).status, 200);
    assert_eq!(with_token(gate.data, &unknown).status, 200);
    let name = format!("http://{}", issuer.address);
    let began = Instant::now();
    loop {
        let health: Value = serde_json::from_str(&get(gate.telemetry, "/health").text()).expect("JSON");
        if health["issuers"][&name]["keys"] == "failing" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{health}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let age = gate.metric(&format!("portcullis_jwks_age_seconds{{issuer=\"{name}\"}}"));
    assert!(age.is_some_and(|age| (0.0..300.0).contains(&age)), "{age:?}");
    assert_eq!(get(gate.telemetry, "/readyz").status, 200);
}
