//! Certificates by ACME, from pebble: a real authority of the people who run Let's Encrypt, made for tests.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use portcullis_testkit::authority::Authority;
use portcullis_testkit::client::PATIENCE;
use portcullis_testkit::gate::{Folder, Gate};

use super::{TELEMETRY, echo, run};
use crate::BINARY;

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a free port").port()
}

/// pebble, and a name server for which every name is this machine.
struct Pebble {
    processes: [Child; 2],
    directory: String,
    management: u16,
    ca: String,
}

impl Pebble {
    /// Checks names on `port`.
    fn start(folder: &Path, port: u16) -> Pebble {
        let authority = Authority::new("pebble's own");
        let issued = authority.server(folder, "pebble", &["localhost", "127.0.0.1"]);
        let ca = folder.join("pebble-ca.pem");
        std::fs::write(&ca, &authority.pem).expect("writable");
        let (listen, management, dns) = (free_port(), free_port(), free_port());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": issued.certificate, "privateKey": issued.key, "httpPort": 1, "tlsPort": port,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        let file = folder.join("pebble.json");
        std::fs::write(&file, config.to_string()).expect("writable");
        let start = |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("Debian's pebble (run `cargo xtask setup`)")
        };
        let names = start(Command::new("pebble-challtestsrv").args([
            "-dns01",
            &format!("127.0.0.1:{dns}"),
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            &format!("127.0.0.1:{}", free_port()),
        ]));
        let pebble = start(
            Command::new("pebble")
                .args(["-config", &file.to_string_lossy(), "-dnsserver", &format!("127.0.0.1:{dns}")])
                .env("PEBBLE_VA_NOSLEEP", "1"),
        );
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", listen)).is_err() {
            assert!(began.elapsed() < PATIENCE, "pebble does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let directory = format!("https://localhost:{listen}/dir");
        Pebble { processes: [names, pebble], directory, management, ca: ca.to_string_lossy().into_owned() }
    }

    /// The root of what it issues, in a file.
    fn root(&self, folder: &Path) -> String {
        let url = format!("https://localhost:{}/roots/0", self.management);
        let (ok, pem) = run("curl", &["--silent", "--cacert", &self.ca, &url]);
        assert!(ok, "{pem}");
        let file = folder.join("root.pem");
        std::fs::write(&file, pem).expect("writable");
        file.to_string_lossy().into_owned()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn ask(root: &str, name: &str, port: u16) -> (bool, String) {
    let (to, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/hello"));
    run("curl", &["--silent", "--show-error", "--max-time", "20", "--cacert", root, "--resolve", &to, &url])
}

#[test]
fn a_certificate_is_obtained_extended_and_kept_over_a_restart() {
    let folder = Folder::new();
    let path = folder.path().to_owned();
    let port = free_port();
    let pebble = Pebble::start(&path, port);
    let upstream = echo();
    let config = |names: &str| {
        format!(
            "listen: [{{ address: \"127.0.0.1:{port}\", tls: {{ acme: {{ names: [{names}], folder: acme, agree_to_terms: true, \
             directory: \"{}\", ca: pebble-ca.pem }} }} }}]\n{TELEMETRY}upstreams: {{ app: {{ url: \"http://{}\" }} }}\n",
            pebble.directory, upstream.address
        )
    };
    let mut gate = Gate::start_in(BINARY, folder, &config("a.test"));
    gate.wait_for_event("certificate_issued");
    gate.wait_for_event("reloaded");
    let root = pebble.root(&path);
    let (ok, text) = ask(&root, "a.test", port);
    assert!(ok && text == "/hello", "{text}");
    assert!(!ask(&root, "b.test", port).0);
    // A name more is a new order.
    std::fs::write(&gate.config, config("a.test, b.test")).expect("writable");
    gate.wait_for("both names", |line| line["msg"] == "certificate_issued" && line["names"] == "a.test b.test");
    let began = Instant::now();
    while !ask(&root, "b.test", port).0 {
        assert!(began.elapsed() < PATIENCE, "{:?}", gate.log());
    }
    // What was obtained is the owner's alone, and serves at once after a restart.
    for file in ["acme/a.test.key", "acme/a.test.crt", "acme/account.json"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path.join(file)).expect("it was written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(gate.metric("portcullis_acme_orders_total{result=\"issued\"}").is_some_and(|count| count >= 2.0));
    drop(pebble);
    gate.signal("KILL");
    gate.wait(PATIENCE);
    let mut command = Command::new(BINARY);
    command.args(["run", "--config", &gate.config.to_string_lossy()]);
    let again = Gate::from_command(command);
    assert_eq!(again.data.port(), port);
    assert!(ask(&root, "b.test", port).0);
}

#[test]
fn without_the_authority_the_gateway_serves_and_says_what_it_lacks() {
    let folder = Folder::new();
    let authority = Authority::new("test");
    let _ = authority.server(folder.path(), "tls", &["localhost"]);
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).expect("writable");
    let ca = folder.path().join("ca.pem").to_string_lossy().into_owned();
    let upstream = echo();
    let listen = format!(
        "{{ address: \"127.0.0.1:0\", tls: {{ certificate: tls.crt, key: tls.key, acme: {{ names: [a.test], folder: acme, \
         agree_to_terms: true, directory: \"https://localhost:{}/dir\", ca: ca.pem }} }} }}",
        free_port()
    );
    let mut gate = super::gate(folder, &upstream, &listen, "");
    let line = gate.wait_for_event("certificate_not_issued");
    assert_eq!((&line["names"], &line["again_in_s"]), (&"a.test".into(), &"60".into()), "{line}");
    let (ok, text) = ask(&ca, "localhost", gate.data.port());
    assert!(ok && text == "/hello", "{text}");
    assert_eq!(gate.metric("portcullis_acme_orders_total{result=\"failed\"}"), Some(1.0));
}
