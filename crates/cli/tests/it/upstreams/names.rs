//! Names that lead elsewhere, nowhere, or to too many places (ATTACKS row 183).
//!
//! The gateway runs in a mount namespace of its own (`unshare`), in which the hosts file, or the resolver's config that
//! leads to a dnsmasq, is the test's. So it is the operating system's real resolver that answers.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_testkit::client::get;
use portcullis_testkit::gate::{Folder, Gate, ON_FREE_PORTS, signal};

use super::servers::{free_port, nginx, python};
use super::{NO_LIMIT, until};
use crate::{BINARY, misbehaving};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A gateway for which `file` stands at `place`.
fn gate_with(folder: &Folder, file: &Path, place: &str, upstream: &str) -> Gate {
    let config = folder.path().join("portcullis.yaml");
    let text = format!("{ON_FREE_PORTS}workers: 1\n{NO_LIMIT}upstreams: {{ app: {{ {upstream} }} }}\n");
    std::fs::write(&config, text).expect("a config can be written");
    let script = format!("mount --bind {} {place} && exec {BINARY} run --config {}", file.display(), config.display());
    let mut command = Command::new("unshare");
    // `--map-root-user` lets somebody who is not root have a namespace too.
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    Gate::from_command(command)
}

#[test]
fn row_183_a_name_is_followed_and_old_connections_are_left() {
    let port = free_port(&[FIRST, SECOND]);
    // nginx keeps connections open, so that there are some to be left.
    let server = nginx(&format!(
        "listen LISTEN; listen {FIRST}:{port}; listen {SECOND}:{port}; location / {{ return 200 $server_addr; }}"
    ));
    let folder = Folder::new();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 app.test\n").expect("written");
    let dns = "dns: { refresh: 1s, keep: 3s }";
    let mut gate = gate_with(&folder, &hosts, "/etc/hosts", &format!("url: \"http://app.test:{port}\", {dns}"));
    let who = |gate: &Gate| get(gate.data, "/who").text();
    assert_eq!(who(&gate), FIRST.to_string());
    let addresses = format!("portcullis_upstream_addresses{{upstream=\"app\",target=\"app.test:{port}\"}}");
    assert_eq!(gate.metric(&addresses), Some(1.0));

    std::fs::write(&hosts, "127.0.0.2 app.test\n").expect("written");
    gate.wait_for_event("addresses_changed");
    for _ in 0..5 {
        assert_eq!(who(&gate), SECOND.to_string(), "a resting connection to the old address is not used");
    }

    // The name is gone: what is known is used for a while, and that is said.
    std::fs::write(&hosts, "127.0.0.2 other.test\n").expect("written");
    gate.wait_for_event("lookup_failed");
    assert_eq!(who(&gate), SECOND.to_string());
    let started = Instant::now();
    gate.wait_for_event("addresses_forgotten");
    assert!(started.elapsed() < Duration::from_secs(10), "bounded");
    let unresolved = get(gate.data, "/who");
    assert_eq!(unresolved.status, 502);
    assert!(unresolved.text().contains("ERR_UPSTREAM_UNRESOLVED"), "{}", unresolved.text());
    assert_eq!(gate.metric(&addresses), Some(0.0));

    std::fs::write(&hosts, "127.0.0.1 app.test\n").expect("written");
    gate.wait_for_event("lookup_recovered");
    until("the breaker lets it through", || get(gate.data, "/who").text() == FIRST.to_string());
    drop(server);
}

#[test]
fn row_183_five_thousand_answers_are_bounded() {
    let port = free_port(&[FIRST]);
    let server = python((FIRST, port).into(), "first");
    let folder = Folder::new();
    let hosts = folder.path().join("hosts");
    let many: String =
        (0..5000_u32).map(|index| format!("{} app.test\n", Ipv4Addr::from(0x7f00_0001 + index))).collect();
    std::fs::write(&hosts, many).expect("written");
    let gate = gate_with(
        &folder,
        &hosts,
        "/etc/hosts",
        &format!("url: \"http://app.test:{port}\", retry: {{ attempts: 1 }}, timeout: {{ connect: 5s }}"),
    );
    // Linux answers for all of 127/8, so every address but the first refuses; eight are tried for one connection.
    let started = Instant::now();
    let statuses: Vec<u16> = (0..10).map(|_| get(gate.data, "/who").status).collect();
    assert!(started.elapsed() < Duration::from_secs(5), "{statuses:?} took {:?}", started.elapsed());
    let addresses = format!("portcullis_upstream_addresses{{upstream=\"app\",target=\"app.test:{port}\"}}");
    assert_eq!(gate.metric(&addresses), Some(64.0));
    drop(server);
}

#[test]
fn row_183_an_address_that_does_not_answer_does_not_use_up_the_time() {
    // Its queue is full, so the kernel drops whoever knocks: what a black hole looks like from outside.
    let deaf = misbehaving::Deaf::start();
    let port = deaf.address.port();
    let server = python((SECOND, port).into(), "second");
    let folder = Folder::new();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 app.test\n127.0.0.2 app.test\n").expect("written");
    let gate = gate_with(
        &folder,
        &hosts,
        "/etc/hosts",
        &format!("url: \"http://app.test:{port}\", retry: {{ attempts: 1 }}, timeout: {{ connect: 8s }}"),
    );
    for _ in 0..4 {
        let started = Instant::now();
        assert_eq!(get(gate.data, "/who").text(), "second");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    drop(server);
}

/// A real name server, which is killed and comes back. It needs port 53 of an address of its own: run as root, or with
/// `net.ipv4.ip_unprivileged_port_start` at most 53.
#[test]
fn row_183_a_name_server_that_is_killed_costs_nothing_for_a_while() {
    let (first, second) = (free_port(&[FIRST]), 53);
    let server = python((FIRST, first).into(), "first");
    let folder = Folder::new();
    let resolver = folder.path().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.83.53\noptions timeout:1 attempts:1\n").expect("written");
    let dnsmasq = || {
        Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--listen-address=127.0.83.53", "--bind-interfaces", "--no-resolv"])
            .args(["--no-hosts", "--address=/app.test/127.0.0.1", "--pid-file", "--conf-file=/dev/null"])
            .arg(format!("--port={second}"))
            .spawn()
            .expect("dnsmasq is installed (run `cargo xtask setup`)")
    };
    let mut running = dnsmasq();
    let upstream = format!("url: \"http://app.test:{first}\", dns: {{ refresh: 1s, keep: 1m }}");
    let mut gate = gate_with(&folder, &resolver, "/etc/resolv.conf", &upstream);
    until("dnsmasq listens", || get(gate.data, "/who").text() == "first");
    signal(running.id(), "KILL");
    let _ = running.wait();
    gate.wait_for_event("lookup_failed");
    for _ in 0..5 {
        assert_eq!(get(gate.data, "/who").text(), "first");
    }
    let mut running = dnsmasq();
    gate.wait_for_event("lookup_recovered");
    assert_eq!(get(gate.data, "/who").text(), "first");
    signal(running.id(), "KILL");
    let _ = running.wait();
    drop(server);
}
