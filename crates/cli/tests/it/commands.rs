//! The verbs, and the README's own session.

use std::path::Path;
use std::process::{Command, Output};

use portcullis_testkit::client::get;
use portcullis_testkit::gate::{Folder, Gate};

use crate::{BINARY, misbehaving};

fn run(folder: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(BINARY).args(words).current_dir(folder).output().expect("it runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

const WRONG: &str = "version: 1
trusted_proxys: []
upstreams:
  app:
    url: http://127.0.0.1:3000
    timeout: { connect: 2 }
routes:
  - name: api
    match: { path: /api/** }
    upstream: ap
";

#[test]
fn validate_tells_every_mistake_with_its_line_and_a_wrong_config_never_starts() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("portcullis.yaml"), WRONG).expect("written");
    for words in [&["validate"][..], &["-t"], &["run"]] {
        let (code, _, said) = run(folder.path(), words);
        assert_eq!(code, Some(1), "{words:?}");
        assert!(
            said.contains("portcullis.yaml:2:1: trusted_proxys: unknown key (did you mean `trusted_proxies`?)"),
            "{said}"
        );
        assert!(said.contains("portcullis.yaml:6:25: upstreams.app.timeout.connect: `2` has no unit"), "{said}");
    }
    // What only compiling can find is told at its line as well.
    std::fs::write(
        folder.path().join("portcullis.yaml"),
        WRONG.replace("connect: 2 ", "connect: 2s ").replace("trusted_proxys", "trusted_proxies"),
    )
    .expect("written");
    let (code, _, said) = run(folder.path(), &["validate"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("portcullis.yaml:10:") && said.contains("`ap`") && said.contains("`app`"), "{said}");
}

#[test]
fn the_presets_differ_in_what_they_refuse() {
    let folder = Folder::new();
    let weak = "upstreams: { app: { url: \"http://127.0.0.1:3000\" } }\nrate_limit: []\n";
    let file = folder.path().join("portcullis.yaml");
    std::fs::write(&file, weak).expect("written");
    let (code, _, said) = run(folder.path(), &["validate"]);
    assert!(code == Some(1) && said.contains("portcullis.yaml:2:") && said.contains("production preset"), "{said}");
    std::fs::write(&file, format!("preset: development\n{weak}")).expect("written");
    assert_eq!(run(folder.path(), &["validate"]).0, Some(0));
}

#[test]
fn the_example_is_valid_and_the_schema_knows_every_key() {
    let folder = Folder::new();
    let (_, example, _) = run(folder.path(), &["config", "show", "--example"]);
    let config = format!("{example}\nupstreams: {{ app: {{ url: \"http://127.0.0.1:3000\" }} }}\n");
    std::fs::write(folder.path().join("portcullis.yaml"), config).expect("written");
    let (code, _, said) = run(folder.path(), &["validate"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, shown, _) = run(folder.path(), &["config", "show", "--effective", "--json"]);
    assert_eq!(code, Some(0));
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["limits"]["body_bytes"], "1MiB");
    let (_, schema, _) = run(folder.path(), &["config", "show", "--schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    for key in shown.as_object().expect("a mapping").keys() {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn explain_says_what_would_happen_and_changes_nothing() {
    let folder = Folder::new();
    let config = "upstreams: { app: { url: \"http://127.0.0.1:3000\" } }\nroutes: [{ name: api, match: { path: /api/** }, rate_limit: [{ name: one, by: [address], limit: 1/1h, burst: 1 }] }]\n";
    std::fs::write(folder.path().join("portcullis.yaml"), config).expect("written");
    for _ in 0..3 {
        let (code, said, _) = run(folder.path(), &["explain", "GET", "/api/x", "--from", "203.0.113.9", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let guards: Vec<&str> =
            said["steps"].as_array().expect("steps").iter().filter_map(|step| step["guard"].as_str()).collect();
        assert_eq!(
            guards,
            [
                "request_id",
                "access_log",
                "security_headers",
                "client_address",
                "ip_block",
                "overload",
                "route",
                "read_only",
                "limits",
                "rate_limit",
                "login_watch",
                "identity",
                "rate_limit_by_identity",
                "permissions",
                "stale_if_error",
                "breaker"
            ]
        );
        assert_eq!((&said["route"], &said["upstream"]), (&"api".into(), &"app".into()));
    }
    let (code, said, _) = run(folder.path(), &["explain", "GET", "/%zz"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("ERR_INVALID_PATH") && said.contains("not reached"), "{said}");
}

#[test]
fn reload_and_health_speak_for_the_running_gateway() {
    let upstream = misbehaving::start();
    let config = format!("upstreams: {{ app: {{ url: \"http://{}\" }} }}\n", upstream.address);
    let gate = Gate::start(BINARY, &config);
    let telemetry = gate.telemetry.to_string();
    let folder = Folder::new();
    assert_eq!(run(folder.path(), &["health", "--telemetry", &telemetry]).0, Some(0));
    let (code, said, _) = run(folder.path(), &["reload", "--telemetry", &telemetry]);
    assert!(code == Some(0) && said.contains("generation 2"), "{said}");
    std::fs::write(&gate.config, "nonsense: true\n").expect("written");
    let (code, _, said) = run(folder.path(), &["reload", "--telemetry", &telemetry]);
    assert!(code == Some(1) && said.contains("nonsense: unknown key") && said.contains("goes on"), "{said}");
    drop(gate);
    assert_eq!(run(folder.path(), &["health", "--telemetry", &telemetry]).0, Some(1));
}

#[test]
fn version_and_completion_print() {
    let folder = Folder::new();
    assert!(run(folder.path(), &["version"]).1.starts_with("portcullis "));
    assert!(run(folder.path(), &["completion", "bash"]).1.contains("portcullis"));
}

/// The commands of the README's session, each against the demo, with what it must print.
#[test]
fn the_readmes_session_is_true() {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).expect("a README");
    let session = readme.split("<!-- session -->").nth(1).expect("the README has a session").to_owned();
    let mut demo = Command::new(BINARY);
    demo.args(["demo", "--listen", "127.0.0.1:0", "--telemetry", "127.0.0.1:0", "--log-format", "json"]);
    let gate = Gate::from_command(demo);
    let mut commands = 0;
    let mut lines = session.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let mut expected = Vec::new();
        while let Some(next) = lines.next_if(|next| !next.starts_with("$ ") && !next.starts_with("```")) {
            if !next.is_empty() {
                expected.push(next.to_owned());
            }
        }
        let command = command
            .replace("localhost:8080", &gate.data.to_string())
            .replace("localhost:9701", &gate.telemetry.to_string());
        let output = Command::new("bash").args(["-c", &command]).output().expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for part in expected {
            assert!(said.contains(part.trim()), "`{command}` did not print {part:?} but:\n{said}");
        }
        commands += 1;
    }
    assert!(commands >= 4, "{commands} commands");
    assert_eq!(get(gate.telemetry, "/livez").status, 200);
}
