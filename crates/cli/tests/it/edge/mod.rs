//! The edge: what real clients and real attackers meet before a request is one.

mod acme;
mod http2;
mod proxy_header;
mod rest;
mod tls;
mod websocket;

use std::path::{Path, PathBuf};
use std::process::Command;

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
