//! The gateway as a process: started from a config text on free ports, its log read as it comes, ended with the test.
//!
//! Invariant: the process never outlives the value.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::PATIENCE;

/// A running gateway.
pub struct Gate {
    /// Where clients connect: the first listener.
    pub data: SocketAddr,
    /// All listeners, in the order of the config.
    pub listeners: Vec<SocketAddr>,
    /// Where metrics and health are.
    pub telemetry: SocketAddr,
    /// Where the admin API is, if there is one.
    pub admin: Option<SocketAddr>,
    /// Its config file.
    pub config: PathBuf,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    news: Receiver<()>,
    _folder: Folder,
}

/// A folder that is removed with the value.
pub struct Folder(PathBuf);

impl Folder {
    /// A fresh one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Folder {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("portcullis-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Folder(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The two lines that put a gateway on free ports; a test's config begins with them.
pub const ON_FREE_PORTS: &str = "listen: [{ address: \"127.0.0.1:0\" }]\ntelemetry: { address: \"127.0.0.1:0\" }\n";

impl Gate {
    /// Starts `binary` with `config` (to which [`ON_FREE_PORTS`] is added) and waits until it serves.
    ///
    /// # Panics
    /// When it does not start; its output is in the message.
    #[must_use]
    pub fn start(binary: &str, config: &str) -> Gate {
        Gate::start_with(binary, config, &[])
    }

    /// The same with environment variables.
    ///
    /// # Panics
    /// As [`Gate::start`].
    #[must_use]
    pub fn start_with(binary: &str, config: &str, environment: &[(&str, &str)]) -> Gate {
        let folder = Folder::new();
        let path = folder.path().join("portcullis.yaml");
        std::fs::write(&path, format!("{ON_FREE_PORTS}{config}")).expect("a config can be written");
        let mut command = Command::new(binary);
        command.args(["run", "--config"]).arg(&path).envs(environment.iter().copied());
        Gate::started(command, path, folder)
    }

    /// Starts `binary` with a whole config that stands in `folder`, beside files that it names.
    ///
    /// # Panics
    /// As [`Gate::start`].
    #[must_use]
    pub fn start_in(binary: &str, folder: Folder, config: &str) -> Gate {
        let path = folder.path().join("portcullis.yaml");
        std::fs::write(&path, config).expect("a config can be written");
        let mut command = Command::new(binary);
        command.args(["run", "--config"]).arg(&path);
        Gate::started(command, path, folder)
    }

    /// Starts a command that serves (`run`, `demo`) and logs JSON lines.
    ///
    /// # Panics
    /// As [`Gate::start`].
    #[must_use]
    pub fn from_command(command: Command) -> Gate {
        Gate::started(command, PathBuf::new(), Folder::new())
    }

    fn started(mut command: Command, config: PathBuf, folder: Folder) -> Gate {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (tell, news) = channel();
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        follow(Box::new(out), Arc::clone(&lines), tell.clone());
        follow(Box::new(err), Arc::clone(&lines), tell);
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Vec::new();
        let mut gate = Gate {
            data: unknown,
            listeners,
            telemetry: unknown,
            admin: None,
            config,
            child,
            lines,
            news,
            _folder: folder,
        };
        let started = gate.wait_for_event("started");
        let address = |key: &str| {
            let text = started[key].as_str().and_then(|text| text.split(' ').next());
            text.and_then(|text| text.parse().ok()).expect("the start names its addresses")
        };
        let listeners = started["listen"].as_str().unwrap_or_default().split(' ');
        gate.listeners = listeners.filter_map(|text| text.parse().ok()).collect();
        (gate.data, gate.telemetry) = (address("listen"), address("telemetry"));
        gate.admin = started["admin"].as_str().and_then(|text| text.parse().ok());
        gate
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics with the lock").clone()
    }

    /// Waits for a line with this `msg`.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn wait_for_event(&mut self, event: &str) -> Value {
        self.wait_for(event, |line| line["msg"] == event)
    }

    /// Waits for the access log line that `is_it`.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let found = self.log().iter().filter_map(|line| serde_json::from_str(line).ok()).find(&is_it);
            if let Some(line) = found {
                return line;
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            assert!(!left.is_zero(), "no `{what}` in the log:\n{}", self.log().join("\n"));
            // News only shortens the wait; the log is looked at either way.
            let _ = self.news.recv_timeout(left.min(Duration::from_millis(100)));
        }
    }

    /// Sends it a signal by name, as `TERM`.
    ///
    /// # Panics
    /// When there is no `kill`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(started.elapsed() < limit, "it did not end within {limit:?}:\n{}", self.log().join("\n"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The value of a metric's series, as `portcullis_http_requests_in_flight{}`, or `None` when it is not there.
    #[must_use]
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = crate::client::get(self.telemetry, "/metrics").text();
        let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to any process.
///
/// # Panics
/// When there is no `kill`.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

fn follow(out: Box<dyn std::io::Read + Send>, lines: Arc<Mutex<Vec<String>>>, tell: std::sync::mpsc::Sender<()>) {
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            lines.lock().expect("nobody panics with the lock").push(line);
            // The test may be over.
            let _ = tell.send(());
        }
    });
}
