//! Marked secrets go in; everything that comes out is searched for the marks.

use portcullis_testkit::client::{ask, get};
use portcullis_testkit::gate::{Folder, Gate};

use crate::{BINARY, misbehaving};

const IN_FILE: &str = "canary-from-a-file-5f1d";
const IN_VARIABLE: &str = "canary-from-a-variable-a03c";
const IN_TEXT: &str = "canary-in-the-config-77be";
const FROM_CLIENT: &str = "canary-from-a-client-c41e";

#[test]
fn no_secret_comes_out_anywhere_but_at_the_upstream() {
    let folder = Folder::new();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{IN_FILE}\n")).expect("written");
    let upstream = misbehaving::start();
    let config = format!(
        "upstreams:\n  app:\n    url: \"http://{}\"\n    request_headers:\n      X-From-File: \"${{file:{}}}\"\n      \
         X-From-Variable: \"${{CANARY}}\"\n      X-In-Text: \"{IN_TEXT}\"\n",
        upstream.address,
        file.display()
    );
    let mut gate =
        Gate::start_with(BINARY, &config, &[("CANARY", IN_VARIABLE), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")]);
    let mut seen = Vec::new();
    for path in ["/x", "/close", "/garbage", "/two-lengths", "/cut", "/status?500+Oops", "/%zz", "/huge-head"] {
        let request = format!(
            "GET {path}{}token={FROM_CLIENT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {FROM_CLIENT}\r\nCookie: s={FROM_CLIENT}\r\nX-Api-Key: {FROM_CLIENT}\r\n\r\n",
            if path.contains('?') { "&" } else { "?" }
        );
        let answer = ask(gate.data, &request);
        // The upstream's own answer repeats what it was sent; that is the upstream's to answer for.
        if path != "/x" {
            seen.push(format!("{:?} {}", answer.fields, answer.text()));
        }
    }
    let head = upstream.received().first().expect("it arrived").head.clone();
    for secret in [IN_FILE, IN_VARIABLE, IN_TEXT] {
        assert!(head.contains(secret), "the upstream gets it: {head}");
    }
    for page in ["/metrics", "/health", "/readyz", "/livez", "/nothing"] {
        seen.push(get(gate.telemetry, page).text());
    }
    // A config that breaks in every way while it holds the secrets.
    let broken = format!("{config}    timeout: {{ connect: {IN_TEXT} }}\n    nonsense: true\n");
    std::fs::write(&gate.config, format!("listen: [{{ address: \"127.0.0.1:0\" }}]\n{broken}")).expect("written");
    gate.signal("HUP");
    gate.wait_for_event("reload_refused");
    for words in [
        vec!["config", "show", "--effective"],
        vec!["config", "show", "--effective", "--json"],
        vec!["validate"],
        vec!["validate", "--json"],
    ] {
        for text in [&config, &broken] {
            let path = folder.path().join("shown.yaml");
            std::fs::write(&path, text).expect("written");
            let output = std::process::Command::new(BINARY)
                .args(&words)
                .arg("--config")
                .arg(&path)
                .env("CANARY", IN_VARIABLE)
                .output()
                .expect("it runs");
            seen.push(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr));
        }
    }
    gate.signal("TERM");
    gate.wait_for_event("draining");
    seen.extend(gate.log());
    let everything = seen.join("\n");
    assert!(everything.contains("[secret]"), "the config was shown");
    assert!(everything.contains("\"path\":\"/close\""), "the log was read");
    for secret in [IN_FILE, IN_VARIABLE, FROM_CLIENT] {
        let at = everything.lines().find(|line| line.contains(secret));
        assert!(at.is_none(), "{secret} in: {}", at.unwrap_or_default());
    }
    // The broken config's own mistake is a value that is no secret by its place; what stands under a secret key is.
    for line in everything.lines().filter(|line| line.contains(IN_TEXT)) {
        assert!(line.contains("timeout.connect"), "{line}");
    }
}
