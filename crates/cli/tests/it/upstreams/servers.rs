//! Real servers for these tests: Python's and nginx as processes, and certificates made for the occasion.
//!
//! Invariant: a process ends with its value.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use portcullis_testkit::authority::{self, Issued};
use portcullis_testkit::gate::{Folder, signal};

/// A server as a process.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    command: Command,
    child: Option<Child>,
    _folder: Option<Folder>,
}

impl Server {
    fn start(command: Command, address: SocketAddr, folder: Option<Folder>) -> Server {
        let mut server = Server { address, command, child: None, _folder: folder };
        server.begin();
        server
    }

    /// Starts it again.
    pub(crate) fn begin(&mut self) {
        let child = self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("it is installed (run `cargo xtask setup`)"));
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "{:?} does not listen", self.command);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it: its connections are reset, and nobody listens any more.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(child.id(), "KILL");
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free on every address of this machine that is asked for.
pub(crate) fn free_port(addresses: &[Ipv4Addr]) -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind((addresses[0], 0)).expect("a free port");
        let port = first.local_addr().expect("it is bound").port();
        if addresses[1..].iter().all(|address| TcpListener::bind((*address, port)).is_ok()) {
            return port;
        }
    }
    panic!("no port is free on all of {addresses:?}");
}

/// Python's own server; `/who` answers `name`, everything else is 404.
pub(crate) fn python(address: SocketAddr, name: &str) -> Server {
    let folder = Folder::new();
    std::fs::write(folder.path().join("who"), name).expect("a file can be written");
    let mut command = Command::new("python3");
    command
        .args(["-m", "http.server", "--bind", &address.ip().to_string(), &address.port().to_string(), "--directory"])
        .arg(folder.path());
    Server::start(command, address, Some(folder))
}

/// nginx with `server` as the inside of its one server block; `LISTEN` in it stands for the address.
pub(crate) fn nginx(server: &str) -> Server {
    let folder = Folder::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port(&[Ipv4Addr::LOCALHOST])));
    let place = folder.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {place}/{name}; "))
        .collect();
    let server = server.replace("LISTEN", &address.to_string());
    let text = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log; events {{}}\n\
         http {{ access_log off; {temporary}\n server {{ {server} }} }}\n"
    );
    let path = folder.path().join("nginx.conf");
    std::fs::write(&path, text).expect("a config can be written");
    let mut command = Command::new("nginx");
    command.arg("-e").arg(folder.path().join("early.log")).arg("-c").arg(&path);
    Server::start(command, address, Some(folder))
}

/// An authority, and a folder for what it issues.
pub(crate) struct Authority {
    inner: authority::Authority,
    folder: Folder,
}

impl Authority {
    /// A fresh one. Two of one name would be two keys of one authority.
    pub(crate) fn new() -> Authority {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let inner = authority::Authority::new(&format!("authority {}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let folder = Folder::new();
        std::fs::write(folder.path().join("ca.pem"), &inner.pem).expect("written");
        Authority { inner, folder }
    }

    /// Its certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for `name` that ends so many days from now (0: it ended long ago), and its key.
    pub(crate) fn sign(&self, name: &str, days: i64) -> Issued {
        let file = format!("{name}-{days}");
        let days = if days == 0 { -3 } else { days };
        self.inner.server_for_days(self.folder.path(), &file, &[name], days)
    }
}

/// nginx's words for a certificate.
pub(crate) fn directives(issued: &Issued) -> String {
    format!(
        "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
        issued.certificate.display(),
        issued.key.display()
    )
}

/// OpenSSL's test server, with more words for it.
pub(crate) fn s_server(authority: &Authority, issued: &Issued, words: &[&str]) -> Server {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port(&[Ipv4Addr::LOCALHOST])));
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-www", "-accept", &address.port().to_string()]).args(words);
    command.arg("-CAfile").arg(authority.file()).arg("-cert").arg(&issued.certificate).arg("-key").arg(&issued.key);
    Server::start(command, address, None)
}
