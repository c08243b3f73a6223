//! What a run needs from the machine: two cores, the peers' programs, fresh builds, a scratch folder.
//!
//! Invariant: packages are installed only when a program is missing and only as root; otherwise the run says
//! what to install and stops.
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::thread::{available_parallelism, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The core of the proxy under test.
pub(crate) const PROXY_CPU: &str = "0";
/// The core of everything else.
pub(crate) const LOAD_CPU: &str = "1";

/// The workspace's folder.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own.parent().context("xtask has no parent folder")?.to_owned())
}

/// Where cargo puts builds, `CARGO_TARGET_DIR` and cargo's config included.
fn target() -> anyhow::Result<PathBuf> {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    if let Some(target) = TARGET.get() {
        return Ok(target.clone());
    }
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().context("cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata without a target directory")?;
    Ok(TARGET.get_or_init(|| PathBuf::from(target)).clone())
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Ok(root) = root() {
        command.current_dir(root);
    }
    command
}

/// Builds a package of the workspace as it is shipped.
pub(crate) fn build(package: &str) -> anyhow::Result<()> {
    eprintln!("building {package} (profile dist)");
    let status = cargo().args(["build", "--quiet", "--profile", "dist", "--package", package]).status()?;
    if !status.success() {
        bail!("building {package} failed");
    }
    Ok(())
}

/// The path of a binary built by [`build`].
pub(crate) fn built(binary: &str) -> anyhow::Result<PathBuf> {
    Ok(target()?.join("dist").join(binary))
}

/// Finds a program on `PATH` or where distributions keep servers.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed"))
}

/// Makes sure that programs are there, installing their packages by apt where they are not.
///
/// # Errors
/// When a program is missing and cannot be installed; says which and why.
pub(crate) fn install(names: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = names.iter().copied().filter(|name| program(name).is_err()).map(package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if program("apt-get").is_err() {
        bail!("missing: {list}. This machine has no apt-get; install them by hand and run this again");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing: {list}. Install them with: sudo apt-get install {list}");
    }
    eprintln!("installing {list}");
    let apt =
        |arguments: &[&str]| Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments).status();
    let install = [&["install", "--yes", "--quiet", "--no-install-recommends"][..], &missing[..]].concat();
    if !(apt(&["update", "--quiet"])?.success() && apt(&install)?.success()) {
        bail!("apt-get could not install {list}; its messages are above");
    }
    names.iter().try_for_each(|name| program(name).map(drop))
}

/// The package of a program.
fn package(program: &str) -> &str {
    if program == "h2load" { "nghttp2-client" } else { program }
}

/// Writes a new certificate for 127.0.0.1 (ECDSA P-256, self-signed) and its key into one PEM file.
pub(crate) fn certify(path: &Path) -> anyhow::Result<()> {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "-", "-out", "-"])
        .output()
        .context("starting openssl")?;
    if !output.status.success() {
        bail!("openssl req: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::write(path, output.stdout).with_context(|| format!("writing {}", path.display()))
}

/// Moves a thread to a core.
pub(crate) fn pin(thread: u32, core: usize) -> anyhow::Result<()> {
    let arguments = ["-c".to_owned(), "-p".to_owned(), core.to_string(), thread.to_string()];
    let output = Command::new("taskset").args(arguments).output().context("starting taskset")?;
    if !output.status.success() {
        bail!("taskset: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Refuses machines on which proxy and load could not have a core each.
pub(crate) fn check_cores() -> anyhow::Result<()> {
    let cores = available_parallelism().context("counting cores")?.get();
    if cores < 2 {
        bail!("two cores are needed, one for the proxy and one for everything else; this machine has {cores}");
    }
    Ok(())
}

/// One line about machine and versions, for the head of a report.
pub(crate) fn description() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let model = read("/proc/cpuinfo").lines().find_map(|line| line.strip_prefix("model name").map(str::to_owned));
    let version = |name: &str| said(Command::new(program(name).unwrap_or_default()).arg("-v"));
    let haproxy = version("haproxy");
    format!(
        "{}, {} cores, Linux {}, HAProxy {}, nginx {}",
        model.unwrap_or_default().trim_start_matches([' ', '\t', ':']),
        available_parallelism().map_or(0, usize::from),
        read("/proc/sys/kernel/osrelease"),
        haproxy.split(' ').nth(2).unwrap_or("?"),
        version("nginx").rsplit('/').next().unwrap_or("?"),
    )
}

/// When and what: the day and the commit, for a line that outlives the run.
pub(crate) fn occasion() -> String {
    let commit =
        root().map(|root| said(Command::new("git").arg("-C").arg(root).args(["rev-parse", "--short", "HEAD"])));
    format!("{}, {}", said(Command::new("date").args(["-u", "+%F"])), commit.unwrap_or_default())
}

/// The first line that a program says, on whichever output; empty when it cannot be asked.
fn said(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return String::new() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
}

/// Waits until both cores were mostly idle for a moment, but not beyond `limit`.
pub(crate) fn wait_for_quiet(limit: Instant) -> anyhow::Result<()> {
    const MOMENT: Duration = Duration::from_millis(300);
    const IDLE_AT_LEAST: f64 = 0.9;
    while Instant::now() < limit {
        let before = idle_and_all(&fs::read_to_string("/proc/stat")?)?;
        sleep(MOMENT);
        let after = idle_and_all(&fs::read_to_string("/proc/stat")?)?;
        let (idle, all) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        if idle as f64 >= all as f64 * IDLE_AT_LEAST {
            return Ok(());
        }
    }
    Ok(())
}

/// Idle time and all time of all cores so far, from the first line of `/proc/stat`.
fn idle_and_all(stat: &str) -> anyhow::Result<(u64, u64)> {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no cpu line in /proc/stat")?;
    let times: Vec<u64> = line.split_ascii_whitespace().filter_map(|time| time.parse().ok()).collect();
    let idle = times.get(3).context("no idle time in /proc/stat")?;
    Ok((*idle, times.iter().sum()))
}

/// A command on one core that ends when this process does, however that comes about.
pub(crate) fn pinned(cpu: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", cpu]);
    command
}

/// Ends a child: `signal`, then, after `limit`, SIGKILL. Does nothing when it has ended.
pub(crate) fn terminate(child: &mut Child, signal: Signal, limit: Duration) {
    let end = Instant::now() + limit;
    if let Ok(None) = child.try_wait() {
        let _ = kill_process(Pid::from_child(child), signal);
    }
    while let Ok(None) = child.try_wait() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        sleep(Duration::from_millis(10));
    }
}

/// A scratch folder in memory, so that access logs do not set a disk to work. Removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Creates a folder named after `label`, this process and a running number.
    pub(crate) fn new(label: &str) -> anyhow::Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
        let label: String = label.chars().filter(char::is_ascii_alphanumeric).collect();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("portcullis-bench-{}-{number}-{label}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::idle_and_all;

    #[test]
    fn idle_time_is_the_fourth_number() {
        assert_eq!(idle_and_all("cpu  10 0 5 85 0 0 0 0 0 0\ncpu0 1 2 3 4\n").unwrap(), (85, 100));
        assert!(idle_and_all("intr 1\n").is_err());
    }
}
