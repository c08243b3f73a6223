//! `validate --connect`: what a config leads to is tried, told at its line, and nothing is served.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_testkit::gate::{Folder, ON_FREE_PORTS};
use serde_json::Value;

use super::servers::{Authority, directives, free_port, nginx, python};
use crate::{BINARY, misbehaving};

/// With several upstreams a route must say which.
const ROUTE: &str = "routes: [{ name: any, match: { path: /** }, upstream: UPSTREAM }]\n";

fn validate(upstreams: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let file = folder.path().join("portcullis.yaml");
    let first = upstreams.trim_start().split(':').next().unwrap_or_default();
    let route = ROUTE.replace("UPSTREAM", first);
    std::fs::write(&file, format!("{ON_FREE_PORTS}upstreams:\n{upstreams}{route}")).expect("written");
    let output = Command::new(BINARY).args(["validate", "--config"]).arg(&file).args(words).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_target_that_cannot_be_reached_is_told_at_its_line() {
    let server = python((Ipv4Addr::LOCALHOST, free_port(&[Ipv4Addr::LOCALHOST])).into(), "well");
    let (nobody, deaf) = (misbehaving::nobody(), misbehaving::Deaf::start());
    let upstreams = format!(
        "  well: {{ url: \"http://{}\" }}\n  some:\n    targets:\n      - url: http://{nobody}\n      - url: http://{}\n  lost: {{ url: \"http://name.invalid\" }}\n  slow: {{ url: \"http://{}\", timeout: {{ connect: 300ms }} }}\n",
        server.address, server.address, deaf.address
    );
    assert_eq!(validate(&upstreams, &[]).0, Some(0), "without --connect nothing is tried");
    let started = Instant::now();
    let (code, _, said) = validate(&upstreams, &["--connect"]);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(code, Some(1), "{said}");
    for part in [
        ":7:14: upstreams.some.targets[0].url",
        "Connection refused",
        ":9:16: upstreams.lost.url",
        "failed to lookup",
        ":10:16: upstreams.slow.url",
        "no connection in time",
        "3 mistakes",
    ] {
        assert!(said.contains(part), "no `{part}` in:\n{said}");
    }
    assert!(!said.contains("upstreams.well") && !said.contains("targets[1]"), "{said}");
}

#[test]
fn tls_is_tried_and_a_certificate_that_ends_soon_is_a_warning() {
    let authority = Authority::new();
    let server = |days| {
        let certificate = authority.sign("localhost", days);
        nginx(&format!("listen LISTEN ssl; {} location / {{ return 200; }}", directives(&certificate)))
    };
    let (ending, ended) = (server(10), server(0));
    let upstream = |name: &str, port: u16, more: &str| {
        format!(
            "  {name}: {{ url: \"https://localhost:{port}\", tls: {{ ca: \"{}\" {more} }} }}\n",
            authority.file().display()
        )
    };
    let own = authority.sign("gateway.test", 5);
    let shown = format!(", certificate: \"{}\", key: \"{}\"", own.certificate.display(), own.key.display());
    let (code, said, warned) = validate(&upstream("ending", ending.address.port(), &shown), &["--connect"]);
    assert_eq!(code, Some(0), "{warned}");
    assert!(said.contains(": ok"), "{said}");
    assert!(warned.contains("warning: ") && warned.contains("upstreams.ending.url"), "{warned}");
    assert!(warned.contains("its certificate ends in "), "{warned}");
    assert!(warned.contains("upstreams.ending.tls.certificate: it ends in "), "{warned}");

    let both = upstream("ending", ending.address.port(), "") + &upstream("ended", ended.address.port(), "");
    let (code, page, _) = validate(&both, &["--connect", "--json"]);
    assert_eq!(code, Some(1));
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(page["valid"], false);
    assert_eq!(
        (page["mistakes"].as_array().map(Vec::len), page["warnings"].as_array().map(Vec::len)),
        (Some(1), Some(1))
    );
    assert!(page["mistakes"][0].as_str().is_some_and(|text| text.contains("TLS failed (expired)")), "{page}");
}

#[test]
fn a_health_check_that_fails_is_a_warning() {
    let server = python((Ipv4Addr::LOCALHOST, free_port(&[Ipv4Addr::LOCALHOST])).into(), "well");
    let upstream = format!("  app: {{ url: \"http://{}\", health_check: {{ path: /nothing }} }}\n", server.address);
    let (code, _, warned) = validate(&upstream, &["--connect"]);
    assert_eq!(code, Some(0), "{warned}");
    assert!(warned.contains("its health check fails: status 404"), "{warned}");
}

#[test]
fn the_page_about_upstreams_is_true() {
    let page = include_str!("../../../../../docs/upstreams.md");
    let folder = Folder::new();
    let authority = Authority::new();
    let own = authority.sign("gateway.test", 90);
    for (from, to) in [(&authority.file(), "ca.pem"), (&own.certificate, "client.crt"), (&own.key, "client.key")] {
        std::fs::copy(from, folder.path().join(to)).expect("copied");
    }
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 6);
    for block in blocks {
        std::fs::write(folder.path().join("portcullis.yaml"), block).expect("written");
        let output = Command::new(BINARY).arg("validate").current_dir(folder.path()).output().expect("it runs");
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
