//! A proxy under test: which program, which config, and its life from start to stop.
//!
//! `haproxy`, `haproxy-ring`, `portcullis@/path/to/other/binary`: the part before the first `-` or `@` names the
//! program, the part before `@` the config file `bench/NAME-SCENARIO.*`. A variant is a config file, no code.
//!
//! Invariant: processes are ended by the pid that was started, and are gone when [`Running`] is dropped.
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::machine::{self, PROXY_CPU};
use super::scenario::{Burden, Scenario, Traffic};

/// How long a proxy may take to listen; generous, because it may run under valgrind.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a proxy may take to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The programs that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Haproxy,
    Nginx,
    Portcullis,
}

/// One row of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// How it is called in tables.
    pub(crate) label: String,
    /// The program it runs.
    pub(crate) program: Program,
    /// The config files' common stem: `bench/STEM-SCENARIO.EXTENSION`.
    stem: String,
    /// Another binary than the default one.
    binary: Option<PathBuf>,
}

impl Candidate {
    /// Reads `NAME[@BINARY]`.
    ///
    /// # Errors
    /// When the name does not begin with a known program.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (stem, binary) = match text.split_once('@') {
            Some((stem, binary)) => (stem, Some(PathBuf::from(binary))),
            None => (text, None),
        };
        let program = match stem.split('-').next() {
            Some("haproxy") => Program::Haproxy,
            Some("nginx") => Program::Nginx,
            Some("portcullis") => Program::Portcullis,
            _ => bail!("candidate {text:?}: the name must begin with haproxy, nginx or portcullis"),
        };
        Ok(Self { label: text.to_owned(), program, stem: stem.to_owned(), binary })
    }

    /// The same candidate once more, for the A/A control.
    pub(crate) fn again(&self) -> Self {
        Self { label: format!("{} (again)", self.label), ..self.clone() }
    }

    /// The config file for a scenario.
    pub(crate) fn config(&self, scenario: Scenario) -> anyhow::Result<PathBuf> {
        let extension = match self.program {
            Program::Haproxy => "cfg",
            Program::Nginx => "conf",
            Program::Portcullis => "yaml",
        };
        Ok(machine::root()?.join("bench").join(format!("{}-{}.{extension}", self.stem, scenario.config_name())))
    }

    /// Whether this is the workspace's own gateway, which has to be built first.
    pub(crate) fn is_our_build(&self) -> bool {
        self.program == Program::Portcullis && self.binary.is_none()
    }

    /// Whether it is another config of a program (`haproxy-ring`), and not the one the goals are about.
    pub(crate) fn is_variant(&self) -> bool {
        self.stem.contains('-')
    }

    /// Whether the access log leaves by network, so that its lines cannot be counted.
    pub(crate) fn logs_elsewhere(&self, scenario: Scenario) -> anyhow::Result<bool> {
        let path = self.config(scenario)?;
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.contains("${BENCH_DRAIN}"))
    }

    /// `is_single`: as one process, because tools that look into a program follow no children.
    fn command(&self, binary: PathBuf, config: &Path, is_single: bool) -> Vec<PathBuf> {
        let arguments: &[&str] = match self.program {
            Program::Haproxy => &["-db", "-f"],
            Program::Nginx if is_single => &["-g", "master_process off;", "-c"],
            Program::Nginx => &["-c"],
            Program::Portcullis => &["run", "--config"],
        };
        let mut command = vec![binary];
        command.extend(arguments.iter().map(PathBuf::from));
        command.push(config.to_owned());
        command
    }

    fn binary(&self) -> anyhow::Result<PathBuf> {
        match (&self.binary, self.program) {
            (Some(binary), _) => binary.canonicalize().with_context(|| format!("looking for {}", binary.display())),
            (None, Program::Haproxy) => machine::program("haproxy"),
            (None, Program::Nginx) => machine::program("nginx"),
            (None, Program::Portcullis) => machine::built("portcullis"),
        }
    }

    /// Starts the proxy on the proxy's core, or where cores are shared on as many as it has workers, behind `prefix` (a
    /// tool such as valgrind, or nothing).
    ///
    /// # Errors
    /// When the config is missing or refused, or the proxy does not listen in time; with its own words.
    pub(crate) fn start(
        &self,
        scenario: Scenario,
        burden: Burden,
        peers: Peers,
        prefix: &[&str],
    ) -> anyhow::Result<Running> {
        let template = self.config(scenario)?;
        let folder = machine::Folder::new(&self.label)?;
        let (listen, telemetry) = (free_address()?, free_address()?);
        let log = folder.path().join("access.log");
        let certificate = folder.path().join("certificate.pem");
        if scenario.traffic() != Traffic::Plain {
            machine::certify(&certificate)?;
        }
        let mut keys = Keys::default();
        if let Some((algorithm, count)) = scenario.tokens() {
            keys = Keys::make(folder.path(), algorithm, count)?;
        }
        let routes = scenario.routes(burden).map_or_else(String::new, |count| self.program.routes(count));
        fs::write(folder.path().join("routes"), &routes).context("writing routes")?;
        let workers = scenario.cores(burden);
        // Connections that rest through a whole run must not be closed for it.
        let (idle, silence) = if scenario == Scenario::Idle { ("10m", "10m") } else { ("60s", "30s") };
        let places = [
            ("LISTEN", listen.to_string()),
            ("UPSTREAM", peers.upstream.to_string()),
            ("TELEMETRY", telemetry.to_string()),
            ("DRAIN", peers.drain.to_string()),
            ("DIR", folder.path().display().to_string()),
            ("LOG", log.display().to_string()),
            ("CERTIFICATE", certificate.display().to_string()),
            ("ROUTES", routes),
            ("ALGORITHM", keys.algorithm.to_owned()),
            ("KEYS", keys.for_gateway.clone()),
            ("VERIFY_KEY", keys.for_haproxy.clone()),
            ("TOKEN_MEMORY", scenario.token_memory().to_owned()),
            ("WORKERS", workers.to_string()),
            ("IDLE", idle.to_owned()),
            ("SILENCE", silence.to_owned()),
        ];
        let text = fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
        let text = render(&text, &places).with_context(|| format!("rendering {}", template.display()))?;
        let config = folder.path().join(template.file_name().context("a config path without a file name")?);
        fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;

        let errors = folder.path().join("errors.txt");
        let output = File::options().create(true).append(true).open(&log)?;
        let cpus = if workers == 1 { PROXY_CPU.to_owned() } else { format!("0-{}", workers - 1) };
        let child = machine::pinned(&cpus)
            .args(prefix)
            .args(self.command(self.binary()?, &config, !prefix.is_empty()))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("starting {} (are setpriv and taskset installed?)", self.label))?;
        let mut running = Running {
            program: self.program,
            child,
            listen,
            log,
            certificate,
            tokens: keys.tokens,
            folder,
            pids: Vec::new(),
        };
        running
            .wait_until_listening()
            .and_then(|()| if workers > 1 { running.spread(workers) } else { Ok(()) })
            .with_context(|| format!("{} with {}: {}", self.label, template.display(), tail(&errors)))?;
        Ok(running)
    }
}

impl Program {
    /// `count` routes in its own words: the probe's and one below each of `/s0`, `/s1` and so on.
    fn routes(self, count: u32) -> String {
        let line = |name: &str, segment: &str| match self {
            Self::Haproxy => format!("{segment} {name}\n"),
            Self::Nginx => format!("location /{segment}/ {{ set $route {name}; proxy_pass http://app; }}\n"),
            Self::Portcullis => {
                format!("  - {{ name: {name}, match: {{ path: \"/{segment}/**\" }}, upstream: app }}\n")
            }
        };
        let services = (0..count.saturating_sub(1)).map(|number| line(&format!("r{number}"), &format!("s{number}")));
        services.chain([line("probe", "bench")]).collect()
    }
}

/// What tokens are checked with, in the words of each program.
#[derive(Default)]
struct Keys {
    algorithm: &'static str,
    for_gateway: String,
    for_haproxy: String,
    tokens: Option<PathBuf>,
}

impl Keys {
    /// New keys, and tokens signed with them, in `folder`.
    fn make(folder: &Path, algorithm: &'static str, count: u32) -> anyhow::Result<Self> {
        let arguments = ["tokens", "--algorithm", algorithm, "--count", &count.to_string(), "--folder"];
        let made = Command::new(machine::built("bench-tools")?).args(arguments).arg(folder).status();
        if !made.context("starting bench-tools")?.success() {
            bail!("bench-tools made no tokens");
        }
        let (for_gateway, for_haproxy) = match fs::read_to_string(folder.join("secret")) {
            Ok(secret) => (format!("secret: \"{secret}\""), secret),
            Err(_) => ("jwks: { file: jwks.json }".to_owned(), folder.join("public.pem").display().to_string()),
        };
        Ok(Self { algorithm, for_gateway, for_haproxy, tokens: Some(folder.join("tokens")) })
    }
}

/// Who stands around a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peers {
    /// The upstream.
    pub(crate) upstream: SocketAddr,
    /// The far end of log rings.
    pub(crate) drain: SocketAddr,
}

/// A proxy that listens.
pub(crate) struct Running {
    program: Program,
    child: Child,
    /// Where it takes requests.
    pub(crate) listen: SocketAddr,
    /// Its standard output, or the access log it writes itself.
    pub(crate) log: PathBuf,
    /// Its certificate with the key, PEM; there only where it speaks TLS.
    pub(crate) certificate: PathBuf,
    /// The tokens that it accepts, one a line, where it asks for one.
    pub(crate) tokens: Option<PathBuf>,
    /// Its processes: the one started and its children.
    pub(crate) pids: Vec<u32>,
    folder: machine::Folder,
}

impl Running {
    /// A folder of its own, gone when this is dropped.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn wait_until_listening(&mut self) -> anyhow::Result<()> {
        let limit = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.listen).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status})");
            }
            if Instant::now() > limit {
                bail!("it does not listen on {} after {START_LIMIT:?}", self.listen);
            }
            sleep(Duration::from_millis(50));
        }
        self.find_processes()
    }

    fn find_processes(&mut self) -> anyhow::Result<()> {
        let pid = self.child.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        self.pids = vec![pid];
        self.pids.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        Ok(())
    }

    /// Gives each worker a core of its own, so that the kernel cannot put two on one for a while.
    fn spread(&mut self, workers: usize) -> anyhow::Result<()> {
        let limit = Instant::now() + START_LIMIT;
        loop {
            // Sockets listen before the last worker has begun.
            self.find_processes()?;
            let tasks = self.workers()?;
            if tasks.len() == workers {
                return tasks.into_iter().enumerate().try_for_each(|(core, task)| machine::pin(task, core));
            }
            if Instant::now() > limit {
                bail!("it has {} workers, not {workers}", tasks.len());
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// The threads, or in nginx the processes, that serve requests.
    fn workers(&self) -> anyhow::Result<Vec<u32>> {
        let is_worker = |pid: u32, task: u32, name: &str| match self.program {
            Program::Haproxy => true,
            Program::Nginx => pid != self.pids[0] && task == pid,
            Program::Portcullis => name.starts_with("core-"),
        };
        let mut tasks = Vec::new();
        for &pid in &self.pids {
            for entry in fs::read_dir(format!("/proc/{pid}/task")).context("listing threads")? {
                let path = entry?.path();
                let task = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
                let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
                tasks.extend(task.filter(|&task| is_worker(pid, task, &name)));
            }
        }
        Ok(tasks)
    }

    /// Ends the process: a signal, and SIGKILL when that does not help.
    pub(crate) fn stop(&mut self) {
        // At SIGTERM the gateway first waits for load balancers to notice.
        let signal = if self.program == Program::Portcullis { Signal::INT } else { Signal::TERM };
        machine::terminate(&mut self.child, signal, STOP_LIMIT);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A loopback address nobody listens on at the moment.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?)
}

/// Replaces every `${BENCH_NAME}`.
///
/// # Errors
/// When a place is left that has no value.
fn render(text: &str, places: &[(&str, String)]) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (name, value) in places {
        text = text.replace(&format!("${{BENCH_{name}}}"), value);
    }
    if let Some(at) = text.find("${BENCH_") {
        let line = text[at..].lines().next().unwrap_or_default();
        bail!("no value for {line:?}");
    }
    Ok(text)
}

/// The last lines of what a proxy said.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Program, render};

    #[test]
    fn names_give_program_config_and_binary() {
        let ring = Candidate::parse("haproxy-ring").unwrap();
        assert_eq!((ring.program, ring.stem.as_str()), (Program::Haproxy, "haproxy-ring"));
        let old = Candidate::parse("portcullis@/tmp/old-build").unwrap();
        assert_eq!((old.program, old.stem.as_str()), (Program::Portcullis, "portcullis"));
        assert_eq!(old.binary.as_deref(), Some(std::path::Path::new("/tmp/old-build")));
        assert!(Candidate::parse("apache").is_err());
    }

    #[test]
    fn routes_are_as_many_as_asked_for_and_one_is_the_probes() {
        for program in [Program::Haproxy, Program::Nginx, Program::Portcullis] {
            let text = program.routes(10);
            assert_eq!(text.lines().count(), 10, "{text}");
            assert!(text.contains("s8") && !text.contains("s9") && text.contains("bench"), "{text}");
        }
    }

    #[test]
    fn a_place_without_a_value_is_an_error() {
        let places = [("LISTEN", "127.0.0.1:1".to_owned())];
        assert_eq!(render("bind ${BENCH_LISTEN}", &places).unwrap(), "bind 127.0.0.1:1");
        assert!(render("server ${BENCH_UPSTREAM}", &places).is_err());
    }
}
