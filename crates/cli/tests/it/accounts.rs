//! Accounts as a team, its users and their attackers meet them: the first administrator, logging in before a service that knows
//! nothing of it, keys, second factors, restart and kill -9, a store that fails.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use portcullis_testkit::client::{PATIENCE, Response, ask};
use portcullis_testkit::gate::Gate;
use portcullis_testkit::upstream::Received;
use serde_json::{Value, json};

use crate::{BINARY, misbehaving};

const PASSWORD: &str = "seven grey boats in the bay";
const OTHER: &str = "eight green kites over hills";
const COOKIE: &str = "__Host-portcullis=";

fn config(upstream: SocketAddr, more: &str) -> String {
    format!(
        "upstreams: {{ app: {{ url: \"http://{upstream}\" }} }}\nstore: {{ url: \"sqlite:portcullis.db\" }}\n\
         trusted_proxies: [127.0.0.1]\n{more}"
    )
}

/// Accounts that anybody may make, and a service that only they may use.
const OPEN: &str = "accounts: { registration: open }\nidentity: { required: true }\n";

fn run(words: &[&str], config: &Path, input: &str) -> Output {
    let mut command = Command::new(BINARY);
    command.args(words).arg("--config").arg(config).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn run_json(words: &[&str], config: &Path, input: &str) -> Value {
    let output = run(&[words, &["--json"]].concat(), config, input);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Somebody with an address, a browser and its cookies.
struct Person {
    data: SocketAddr,
    address: String,
    agent: &'static str,
    cookies: Vec<(String, String)>,
    bearer: Option<String>,
}

impl Person {
    fn at(gate: &Gate, address: &str) -> Person {
        Person::of(gate.data, address)
    }

    fn of(data: SocketAddr, address: &str) -> Person {
        Person { data, address: address.to_owned(), agent: "Firefox/140.0", cookies: Vec::new(), bearer: None }
    }

    fn ask_with(&self, method: &str, path: &str, body: &Value, fields: &str) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let bearer = self.bearer.as_ref().map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let content = match body.len() {
            0 => String::new(),
            length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        let (address, agent) = (&self.address, self.agent);
        ask(
            self.data,
            &format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\nUser-Agent: {agent}\r\n\
                 {cookies}{bearer}{content}{fields}Connection: close\r\n\r\n{body}"
            ),
        )
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Response {
        let response = self.ask_with(method, path, body, "");
        let set = response.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        for (_, cookie) in set {
            let (pair, _) = cookie.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a value");
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        response
    }

    fn register(&mut self, user: &str) -> Response {
        self.ask("POST", "/auth/register", &json!({ "user": user, "password": PASSWORD }))
    }

    fn log_in(&mut self, user: &str, password: &str) -> Response {
        self.ask("POST", "/auth/login", &json!({ "user": user, "password": password }))
    }

    fn uses_the_service(&mut self) -> u16 {
        self.ask("GET", "/x", &Value::Null).status
    }
}

/// A field of a request as the service got it.
fn field<'a>(received: &'a Received, name: &str) -> Option<&'a str> {
    let lines = received.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

fn body(response: &Response) -> Value {
    serde_json::from_str(&response.text()).unwrap_or_else(|_| panic!("{} {}", response.status, response.text()))
}

fn code(response: &Response) -> String {
    body(response)["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn again(config: &Path) -> Gate {
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(config);
    Gate::from_command(command)
}

/// The first administrator, made by a command; and before there is one nobody gets in with anything.
#[test]
fn the_first_administrator_is_made_by_a_command_and_there_are_no_default_credentials() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &config(upstream.address, "accounts: {}\nidentity: { required: true }\n"));
    let mut person = Person::at(&gate, "203.0.113.1");
    assert_eq!(code(&person.ask("GET", "/x", &Value::Null)), "ERR_UNAUTHENTICATED");
    for (user, password) in [("admin", "admin"), ("admin", "password"), ("root", ""), ("admin", "portcullis")] {
        assert_eq!(code(&person.log_in(user, password)), "ERR_CREDENTIALS_INVALID");
    }
    assert_eq!(code(&person.register("eve")), "ERR_FORBIDDEN", "registration is closed unless it is opened");
    let made = run_json(&["accounts", "create", "boss", "--admin", "--tenant", "acme"], &gate.config, PASSWORD);
    assert_eq!((&made["user"], &made["roles"], &made["durable"]), (&json!("boss"), &json!(["admin"]), &json!(true)));
    let refused = run(&["accounts", "create", "boss"], &gate.config, PASSWORD);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the name is taken"));
    let refused = run(&["accounts", "create", "bob"], &gate.config, "short\n");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("too short"));
    let mut boss = Person::at(&gate, "203.0.113.2");
    let answer = boss.log_in("Boss", PASSWORD);
    assert_eq!((answer.status, &body(&answer)["user"]), (200, &json!("boss")));
    assert_eq!(boss.uses_the_service(), 200);
    let received = upstream.received();
    let head = received.last().expect("it was asked");
    assert_eq!(field(head, "x-portcullis-user"), Some("boss"), "{head:?}");
    assert_eq!((field(head, "x-portcullis-tenant"), field(head, "x-portcullis-roles")), (Some("acme"), Some("admin")));
    assert!(field(head, "x-portcullis-auth").is_some_and(|auth| auth.starts_with("session")), "{head:?}");
    let me = body(&boss.ask("GET", "/auth/me", &Value::Null));
    assert_eq!((&me["roles"], &me["tenant"], &me["secondFactor"]), (&json!(["admin"]), &json!("acme"), &json!(false)));
    let listed = String::from_utf8(run(&["accounts", "list"], &gate.config, "").stdout).expect("text");
    assert!(listed.contains("boss") && listed.contains("acme") && listed.contains("active"), "{listed}");
    // No password, no token, no hash in the log.
    let log = gate.log().join("\n");
    let token = &boss.cookies[0].1;
    assert!(log.contains("logged_in") && log.contains("login_failed"));
    assert!(!log.contains(PASSWORD) && !log.contains(token.as_str()) && !log.contains("argon2"), "{log}");
}

/// Row 100: every attribute; and rows 94, 95: the old session is dead after a login, a logout, a new password, a disabling.
#[test]
fn rows_94_95_and_100_sessions_end_when_they_must_and_cookies_are_whole() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &config(upstream.address, OPEN));
    let mut ann = Person::at(&gate, "203.0.113.1");
    assert_eq!(ann.register("ann").status, 201);
    let answer = ann.log_in("ann", PASSWORD);
    let cookies: Vec<&str> =
        answer.fields.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
    assert_eq!(cookies.len(), 2, "the session, and the device");
    for cookie in &cookies {
        assert!(cookie.starts_with("__Host-") && cookie.contains("; Path=/; Secure; HttpOnly; SameSite="), "{cookie}");
    }
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert!(!answer.text().contains("ps_"), "a cookie's token is not in the body");
    let first = ann.cookies.clone();
    let holds = |cookies: &[(String, String)]| {
        let mut person = Person::at(&gate, "203.0.113.1");
        person.cookies = cookies.to_vec();
        person.uses_the_service()
    };
    assert_eq!(holds(&first), 200);
    // A login with a session ends that session.
    assert_eq!(ann.log_in("ann", PASSWORD).status, 200);
    assert_eq!((holds(&first), holds(&ann.cookies)), (401, 200));
    // Two cookies of one name are nobody's.
    let mut tossed = ann.cookies.clone();
    tossed.extend(first.clone());
    assert_eq!(holds(&tossed), 400);
    // A new password ends all sessions, and renews this one.
    let mut elsewhere = Person::at(&gate, "203.0.113.2");
    elsewhere.log_in("ann", PASSWORD);
    let before = ann.cookies.clone();
    let wrong = ann.ask("POST", "/auth/password", &json!({ "password": OTHER, "newPassword": OTHER }));
    assert_eq!(code(&wrong), "ERR_CREDENTIALS_INVALID");
    let common = ann.ask("POST", "/auth/password", &json!({ "password": PASSWORD, "newPassword": "passwordpassword" }));
    assert_eq!((common.status, code(&common).as_str()), (422, "ERR_PASSWORD_REFUSED"));
    let changed = ann.ask("POST", "/auth/password", &json!({ "password": PASSWORD, "newPassword": OTHER }));
    assert_eq!(changed.status, 200);
    assert_eq!((holds(&before), elsewhere.uses_the_service(), ann.uses_the_service()), (401, 401, 200));
    // Logout, and the operator's word.
    let before = ann.cookies.clone();
    assert_eq!(ann.ask("POST", "/auth/logout", &Value::Null).status, 200);
    assert!(ann.cookies.iter().all(|(name, _)| name != COOKIE.trim_end_matches('=')), "the cookie is taken away");
    assert_eq!(holds(&before), 401);
    assert_eq!(ann.log_in("ann", OTHER).status, 200);
    let sessions = run_json(&["sessions", "list", "ann"], &gate.config, "");
    assert_eq!(sessions.as_array().map(Vec::len), Some(1), "{sessions}");
    run_json(&["sessions", "end", "ann"], &gate.config, "");
    assert_eq!(ann.uses_the_service(), 401);
    ann.address = "203.0.113.3".to_owned();
    assert_eq!(ann.log_in("ann", OTHER).status, 200);
    run_json(&["accounts", "disable", "ann"], &gate.config, "");
    assert_eq!(ann.uses_the_service(), 401);
    assert_eq!(code(&ann.log_in("ann", OTHER)), "ERR_CREDENTIALS_INVALID");
    assert_eq!(gate.metric("portcullis_user_operations_total{operation=\"disable\"}"), Some(1.0));
}

/// Rows 103, 104: one answer for everything, and the sixth login of an address within a minute is not looked at at all.
#[test]
fn rows_103_and_104_failures_look_alike_and_are_limited() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &config(upstream.address, OPEN));
    Person::at(&gate, "203.0.113.1").register("ann");
    let shape = |response: &Response| {
        let mut fields: Vec<&str> = response.fields.iter().map(|(name, _)| name.as_str()).collect();
        fields.sort_unstable();
        let mut told = body(response);
        told["error"]["requestId"] = Value::Null;
        told["error"]["timestamp"] = Value::Null;
        (response.status, fields.join(" "), told)
    };
    let wrong = Person::at(&gate, "203.0.113.2").log_in("ann", OTHER);
    let unknown = Person::at(&gate, "203.0.113.3").log_in("nobody", OTHER);
    assert_eq!(shape(&wrong), shape(&unknown));
    assert_eq!((wrong.status, code(&wrong).as_str()), (401, "ERR_CREDENTIALS_INVALID"));
    let mut guesser = Person::at(&gate, "203.0.113.4");
    let heard: Vec<u16> = (0..7).map(|_| guesser.log_in("ann", OTHER).status).collect();
    assert_eq!(heard, [401, 401, 401, 401, 401, 429, 429]);
    run_json(&["accounts", "disable", "ann"], &gate.config, "");
    let disabled = Person::at(&gate, "203.0.113.5").log_in("ann", PASSWORD);
    assert_eq!(shape(&disabled), shape(&unknown));
}

/// Rows 96 to 98: from elsewhere a session is refused where the operator says so; a browser's update and its other requests are
/// not elsewhere; and the owner goes on.
#[test]
fn rows_96_to_98_a_session_from_elsewhere_is_refused_and_the_owner_goes_on() {
    let upstream = misbehaving::start();
    let more = format!("{OPEN}sessions: {{ bind: {{ address: strict, fingerprint: strict }} }}\n");
    let gate = Gate::start(BINARY, &config(upstream.address, &more));
    let mut ann = Person::at(&gate, "2001:db8::5");
    ann.register("ann");
    ann.log_in("ann", PASSWORD);
    let mut heard = |address: &str, agent: &'static str, fields: &str| {
        (ann.address, ann.agent) = (address.to_owned(), agent);
        let response = ann.ask_with("GET", "/x", &Value::Null, fields);
        if response.status == 200 { String::new() } else { code(&response) }
    };
    let elsewhere = "ERR_SESSION_MISMATCH";
    assert_eq!(heard("2001:db8::ffff", "Firefox/141.0", "Accept: image/avif\r\n"), "", "the same /64, a newer browser");
    assert_eq!(heard("2001:db8:0:1::5", "Firefox/140.0", ""), elsewhere);
    assert_eq!(heard("203.0.113.5", "Firefox/140.0", ""), elsewhere);
    assert_eq!(heard("2001:db8::5", "curl/8.5.0", ""), elsewhere);
    assert_eq!(heard("2001:db8::5", "Firefox/140.0", "Accept-Language: de\r\n"), elsewhere);
    assert_eq!(heard("2001:db8::5", "Firefox/140.0", ""), "");
}

/// Row 105: a browser that has been here before enters while its address is locked for everybody else.
#[test]
fn row_105_the_owner_is_not_locked_out_by_who_guesses() {
    let upstream = misbehaving::start();
    let more = "accounts: { registration: open, login_limit: 1000/1m, lockout: { failures: 3, strangers: 6 } }\n";
    let gate = Gate::start(BINARY, &config(upstream.address, more));
    let mut ann = Person::at(&gate, "203.0.113.1");
    ann.register("ann");
    ann.log_in("ann", PASSWORD);
    for network in 2..9 {
        let mut stranger = Person::at(&gate, &format!("203.0.113.{network}"));
        for _ in 0..3 {
            assert_eq!(stranger.log_in("ann", OTHER).status, 401);
        }
    }
    assert_eq!(Person::at(&gate, "203.0.113.77").log_in("ann", PASSWORD).status, 401, "strangers are locked out");
    let listed = run_json(&["accounts", "show", "ann"], &gate.config, "");
    assert_eq!(listed["locked"], true);
    assert_eq!(ann.log_in("ann", PASSWORD).status, 200, "the owner's browser is not");
    run_json(&["accounts", "unlock", "ann"], &gate.config, "");
    assert_eq!(Person::at(&gate, "203.0.113.77").log_in("ann", PASSWORD).status, 200);
}

/// Row 117, and keys of the command line.
#[test]
fn row_117_keys_are_shown_once_and_end_when_they_must() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &config(upstream.address, OPEN));
    let mut ann = Person::at(&gate, "203.0.113.1");
    ann.register("ann");
    ann.log_in("ann", PASSWORD);
    let made = ann.ask("POST", "/auth/keys", &json!({ "name": "deploy", "scopes": ["read"], "expiresIn": "30d" }));
    assert_eq!(made.status, 201, "{}", made.text());
    let (key, id) = (body(&made)["key"].clone(), body(&made)["id"].clone());
    let key = key.as_str().expect("it is shown");
    assert!(key.starts_with("pk_"));
    let mut program = Person::at(&gate, "203.0.113.9");
    program.bearer = Some(key.to_owned());
    assert_eq!(program.uses_the_service(), 200);
    let received = upstream.received();
    let head = received.last().expect("it was asked");
    assert!(field(head, "x-portcullis-auth").is_some_and(|auth| auth.starts_with("api_key")), "{head:?}");
    // By its own field as well; cut short, or in the address, it is nothing.
    program.bearer = None;
    assert_eq!(program.ask_with("GET", "/x", &Value::Null, &format!("X-API-Key: {key}\r\n")).status, 200);
    let cut = program.ask_with("GET", "/x", &Value::Null, &format!("X-API-Key: {}\r\n", &key[..key.len() - 1]));
    assert_eq!(code(&cut), "ERR_API_KEY_INVALID");
    assert_eq!(program.ask("GET", &format!("/x?api_key={key}"), &Value::Null).status, 401);
    // Row 114: a key opens no session and makes no key.
    program.bearer = Some(key.to_owned());
    assert_eq!(code(&program.ask("POST", "/auth/keys", &json!({ "name": "more" }))), "ERR_SESSION_EXPIRED");
    let listed = ann.ask("GET", "/auth/keys", &Value::Null);
    assert!(!listed.text().contains(key) && body(&listed)["keys"][0]["used"].is_string(), "{}", listed.text());
    let id = id.as_str().expect("an id");
    assert_eq!(code(&ann.ask("DELETE", "/auth/keys/0000", &Value::Null)), "ERR_RESOURCE_NOT_FOUND");
    assert_eq!(ann.ask("DELETE", &format!("/auth/keys/{id}"), &Value::Null).status, 200);
    assert_eq!(
        code(&program.ask("GET", "/x", &Value::Null)),
        "ERR_API_KEY_INVALID",
        "revoked, from the next request on"
    );
    let made = run(&["keys", "create", "ann", "--name", "ci", "--for", "1d"], &gate.config, "");
    program.bearer = Some(String::from_utf8(made.stdout).expect("text").trim().to_owned());
    assert_eq!(program.uses_the_service(), 200);
    let keys = run_json(&["keys", "list", "ann"], &gate.config, "");
    run_json(&["keys", "revoke", "ann", keys[0]["id"].as_str().expect("an id")], &gate.config, "");
    assert_eq!(program.uses_the_service(), 401);
}

#[test]
fn another_site_makes_a_browser_do_nothing_and_nonsense_is_told() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &config(upstream.address, OPEN));
    let mut ann = Person::at(&gate, "203.0.113.1");
    ann.register("ann");
    ann.log_in("ann", PASSWORD);
    for fields in ["Sec-Fetch-Site: cross-site\r\n", "Origin: https://evil.example\r\n"] {
        let refused = ann.ask_with("POST", "/auth/logout", &Value::Null, fields);
        assert_eq!((refused.status, code(&refused).as_str()), (403, "ERR_CROSS_SITE_REQUEST"));
    }
    assert_eq!(ann.uses_the_service(), 200);
    assert_eq!(ann.ask_with("GET", "/auth/me", &Value::Null, "Sec-Fetch-Site: same-origin\r\n").status, 200);
    for (method, path, sent, status, expected) in [
        ("GET", "/auth/nothing", Value::Null, 404, "ERR_RESOURCE_NOT_FOUND"),
        ("DELETE", "/auth/me", Value::Null, 405, "ERR_METHOD_NOT_ALLOWED"),
        ("POST", "/auth/password", json!({ "password": 5 }), 400, "ERR_BODY_MALFORMED"),
        (
            "POST",
            "/auth/password",
            json!({ "password": "a", "newPassword": "b", "role": "admin" }),
            400,
            "ERR_BODY_MALFORMED",
        ),
        ("POST", "/auth/keys", json!({ "name": "" }), 422, "ERR_RULE_VIOLATED"),
        ("POST", "/auth/register", json!({ "user": "ann", "password": PASSWORD }), 409, "ERR_CONFLICT"),
        ("POST", "/auth/register", json!({ "user": "bob", "password": "x".repeat(2000) }), 422, "ERR_PASSWORD_REFUSED"),
        ("POST", "/auth/password", json!({ "password": "x".repeat(20_000) }), 413, "ERR_BODY_TOO_LARGE"),
    ] {
        let answer = ann.ask(method, path, &sent);
        assert_eq!((answer.status, code(&answer).as_str()), (status, expected), "{method} {path}");
    }
    // What a form of another site can send without asking is no JSON.
    let head = "POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n";
    let form = ask(gate.data, &format!("{head}Connection: close\r\n\r\n{{}}"));
    assert_eq!((form.status, code(&form).as_str()), (415, "ERR_UNSUPPORTED_MEDIA_TYPE"));
    ann.cookies.clear();
    assert_eq!(code(&ann.ask("GET", "/auth/me", &Value::Null)), "ERR_UNAUTHENTICATED");
}

/// Rows 113 to 115 over HTTP: the codes are those of an authenticator app.
#[test]
fn rows_113_to_115_a_second_factor_from_enrolment_to_recovery() {
    let upstream = misbehaving::start();
    let more = "accounts: { registration: open, login_limit: 100/1m }\nidentity: { required: true }\n";
    let gate = Gate::start(BINARY, &config(upstream.address, more));
    let mut ann = Person::at(&gate, "203.0.113.1");
    ann.register("ann");
    ann.log_in("ann", PASSWORD);
    assert_eq!(ann.ask("POST", "/auth/totp", &json!({ "password": OTHER })).status, 401);
    let begun = body(&ann.ask("POST", "/auth/totp", &json!({ "password": PASSWORD })));
    let secret = begun["secret"].as_str().expect("a secret").to_owned();
    assert!(begun["uri"].as_str().is_some_and(|uri| uri.starts_with("otpauth://totp/portcullis:ann?")));
    let shown = || {
        let output = Command::new("oathtool").args(["--totp", "-b", &secret]).output();
        output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).map(|code| code.trim().to_owned())
    };
    // Another program's reading of the secret, where there is one; else our own.
    let now = || shown().unwrap_or_else(|| own_code(&secret));
    let confirmed = ann.ask("POST", "/auth/totp/confirm", &json!({ "code": now() }));
    assert_eq!(confirmed.status, 200, "{}", confirmed.text());
    let codes = body(&confirmed)["recoveryCodes"].as_array().expect("codes").clone();
    assert_eq!((codes.len(), ann.uses_the_service()), (10, 200));
    let mut phone = Person::at(&gate, "203.0.113.2");
    assert_eq!(code(&phone.log_in("ann", PASSWORD)), "ERR_SECOND_FACTOR_REQUIRED");
    let with = |person: &mut Person, code: &Value| {
        person.ask("POST", "/auth/login", &json!({ "user": "ann", "password": PASSWORD, "code": code })).status
    };
    assert_eq!(with(&mut phone, &json!("000000")), 401);
    assert_eq!(with(&mut phone, &codes[0]), 200);
    assert_eq!(with(&mut Person::at(&gate, "203.0.113.3"), &codes[0]), 401, "once");
    let me = body(&phone.ask("GET", "/auth/me", &Value::Null));
    assert_eq!((&me["secondFactor"], &me["recoveryCodesLeft"]), (&json!(true), &json!(9)));
}

/// The code of now, by RFC 6238, for a machine without an authenticator.
fn own_code(base32: &str) -> String {
    let mut bits = (0u64, 0);
    let mut secret = Vec::new();
    for letter in base32.bytes() {
        let value = if letter >= b'A' { letter - b'A' } else { letter - b'2' + 26 };
        bits = ((bits.0 << 5 | u64::from(value)) & 0xffff, bits.1 + 5);
        if bits.1 >= 8 {
            bits.1 -= 8;
            secret.push((bits.0 >> bits.1) as u8);
        }
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    portcullis_accounts::totp::shown(&secret, u64::try_from(now.as_millis()).expect("before the year 500 million"))
}

/// What was acknowledged is there after kill -9: accounts, sessions, keys, and that some of them ended.
#[test]
fn kill_9_loses_no_session_that_was_acknowledged() {
    let upstream = misbehaving::start();
    let more = "accounts: { registration: open, login_limit: 1000/1m, registration_limit: 1000/1m }\nidentity: { required: true }\n";
    let mut gate = Gate::start(BINARY, &config(upstream.address, more));
    Person::at(&gate, "203.0.113.1").register("ann");
    let address = gate.data;
    let (mut alive, mut ended) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let mut person = Person::at(&gate, "203.0.113.1");
        assert_eq!(person.log_in("ann", PASSWORD).status, 200);
        if number % 4 == 0 {
            let before = person.cookies.clone();
            assert_eq!(person.ask("POST", "/auth/logout", &Value::Null).status, 200);
            ended.push(before);
        } else {
            alive.push(person.cookies);
        }
    }
    gate.signal("KILL");
    gate.wait(PATIENCE);
    let next = again(&gate.config);
    assert_ne!(next.data, address);
    let holds = |cookies: &Vec<(String, String)>| {
        let mut person = Person::at(&next, "203.0.113.1");
        person.cookies.clone_from(cookies);
        person.uses_the_service()
    };
    assert!(alive.iter().all(|cookies| holds(cookies) == 200), "acknowledged sessions survive");
    assert!(ended.iter().all(|cookies| holds(cookies) == 401), "ended ones do not come back");
    assert!(next.log().iter().any(|line| line.contains("accounts_loaded")), "{:?}", next.log());
}

/// While the store fails, who is logged in goes on and nobody is told of a login that would not last.
#[test]
fn a_store_that_fails_refuses_new_logins_with_503_and_keeps_sessions() {
    let upstream = misbehaving::start();
    let gate = Gate::start(BINARY, &config(upstream.address, OPEN));
    let mut ann = Person::at(&gate, "203.0.113.1");
    ann.register("ann");
    ann.log_in("ann", PASSWORD);
    let database = gate.config.with_file_name("portcullis.db");
    let sql = "CREATE TRIGGER full BEFORE INSERT ON accounts BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    let done = Command::new("python3")
        .args(["-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"])
        .args([database.as_os_str(), sql.as_ref()])
        .status();
    assert!(done.is_ok_and(|status| status.success()), "python3 is there");
    let mut late = Person::at(&gate, "203.0.113.2");
    let refused = late.log_in("ann", PASSWORD);
    assert_eq!((refused.status, code(&refused).as_str()), (503, "ERR_STORE_UNAVAILABLE"));
    assert!(refused.field("retry-after").is_some() && late.cookies.is_empty());
    assert_eq!(ann.uses_the_service(), 200);
    let health = portcullis_testkit::client::get(gate.telemetry, "/health").text();
    assert!(health.contains("\"accounts\":\"failing\""), "{health}");
}

/// Where nobody must be known, the cookie of a session that is over is no credential; where somebody must be, it is told so.
#[test]
fn a_session_that_is_over_keeps_nobody_from_public_pages() {
    let upstream = misbehaving::start();
    let more = "accounts: { registration: open }\nroutes: [{ name: private, match: { path: /private/** }, identity: { required: true } }, \
                { name: public }]\n";
    let gate = Gate::start(BINARY, &config(upstream.address, more));
    let mut ann = Person::at(&gate, "203.0.113.1");
    ann.register("ann");
    ann.log_in("ann", PASSWORD);
    let private = |person: &mut Person| person.ask("GET", "/private/x", &Value::Null);
    assert_eq!((ann.uses_the_service(), private(&mut ann).status), (200, 200));
    run_json(&["sessions", "end", "ann"], &gate.config, "");
    assert_eq!(ann.uses_the_service(), 200);
    assert_eq!(code(&private(&mut ann)), "ERR_SESSION_EXPIRED");
    assert_eq!(ann.log_in("ann", PASSWORD).status, 200, "and logs in again");
    assert_eq!(private(&mut ann).status, 200);
}

/// Row 111: more logins at once than may be hashed get 503 at once, and other requests are not slower for it.
#[test]
fn row_111_a_flood_of_logins_is_shed_and_others_are_served() {
    let upstream = misbehaving::start();
    let more = "accounts: { registration: open, login_limit: 100000/1m, hashing: { at_once: 1, queue: 2 } }\n";
    let gate = Gate::start(BINARY, &config(upstream.address, more));
    let started = Instant::now();
    let heard: Vec<u16> = std::thread::scope(|scope| {
        let logins: Vec<_> = (0..40)
            .map(|number| {
                let data = gate.data;
                scope.spawn(move || Person::of(data, &format!("203.0.113.{number}")).log_in("nobody", PASSWORD).status)
            })
            .collect();
        assert_eq!(Person::at(&gate, "203.0.113.200").uses_the_service(), 200);
        logins.into_iter().map(|login| login.join().expect("it does not panic")).collect()
    });
    assert!(heard.iter().all(|status| [401, 503].contains(status)), "{heard:?}");
    assert!(heard.contains(&503) && heard.contains(&401), "{heard:?}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// The walk of docs/accounts.md, command by command, with what each must print.
#[test]
fn the_walk_of_the_docs_is_true() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/accounts.md");
    let docs = std::fs::read_to_string(docs).expect("the page");
    let part = |mark: &str| docs.split(mark).nth(1).expect("its part").to_owned();
    let upstream = misbehaving::start();
    let written = part("<!-- config -->").replace("127.0.0.1:3000", &upstream.address.to_string());
    let config: String =
        written.lines().filter(|line| !line.starts_with("```")).map(|line| format!("{line}\n")).collect();
    let gate = Gate::start(BINARY, &config);
    let binaries = Path::new(BINARY).parent().expect("a folder").display().to_string();
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap_or_default());
    let mut commands = 0;
    let walk = part("<!-- walk -->");
    let mut lines = walk.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let command = command.replace("localhost:8080", &gate.data.to_string());
        let folder = gate.config.parent().expect("a folder");
        let output = Command::new("bash").args(["-c", &command]).current_dir(folder).env("PATH", &path).output();
        let output = output.expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        while let Some(expected) = lines.next_if(|next| !next.starts_with("$ ") && !next.starts_with("```")) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(expected.trim()), "`{command}` did not print {expected:?} but:\n{said}{stderr}");
        }
        commands += 1;
    }
    assert!(commands >= 6, "{commands} commands");
}
