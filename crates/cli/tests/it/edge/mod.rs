//! The edge: what real clients and real attackers meet before a request is one.

mod acme;
mod http2;
mod proxy_header;
mod rest;
mod tls;
pub(crate) mod websocket;

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_testkit::authority::Authority;
use portcullis_testkit::gate::{Folder, Gate};
use portcullis_testkit::upstream::{Upstream, answer};

use crate::BINARY;

/// Beginning of every config here.
const TELEMETRY: &str = "telemetry: { address: \"127.0.0.1:0\" }\n";

/// An upstream that tells what it was asked.
fn echo() -> Upstream {
    Upstream::start(|socket, request| answer(socket, "200 OK", request.path()))
}

/// The gateway before `upstream`, with this `listen` and whatever else.
fn gate(folder: Folder, upstream: &Upstream, listen: &str, more: &str) -> Gate {
    let config = format!(
        "listen: [{listen}]\n{TELEMETRY}upstreams: {{ app: {{ url: \"http://{}\" }} }}\n{more}",
        upstream.address
    );
    Gate::start_in(BINARY, folder, &config)
}

/// The Python that has the clients' libraries.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/python/bin/python")
}

/// A client of ours in Python.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a program; what it printed, and whether it succeeded.
fn run(program: impl AsRef<Path>, words: &[&str]) -> (bool, String) {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{} (run `cargo xtask setup`): {error}", program.display()));
    let both = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&both).into_owned())
}

#[test]
fn the_page_about_the_edge_is_true() {
    let folder = Folder::new();
    let authority = Authority::new("page");
    for file in ["tls", "shop"] {
        let _ = authority.server(folder.path(), file, &["localhost"]);
    }
    std::fs::write(folder.path().join("clients-ca.pem"), &authority.pem).expect("writable");
    std::fs::write(folder.path().join("revoked.pem"), authority.revocations(&[3])).expect("writable");
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/edge.md")).expect("the page");
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        let file = folder.path().join("portcullis.yaml");
        std::fs::write(&file, format!("upstreams: {{ app: {{ url: http://127.0.0.1:1 }} }}\n{block}"))
            .expect("writable");
        let (ok, text) = run(BINARY, &["validate", "--config", &file.to_string_lossy()]);
        assert!(ok, "{text}\n{block}");
    }
}
