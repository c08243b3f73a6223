//! `slow`: many slow clients at once, while others are served: slowhttptest (Debian) against the release binary.
//!
//! Four kinds, one after the other: heads that never end, bodies that trickle, readers that hardly read, and range
//! requests. Beside each, a steady load of other clients; its 99th percentile is held against a quiet one's.
//!
//! Invariant: it fails where others wait more than twice as long, or a slow connection outlives the configured time.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process::{self, program, root};

/// What the config below allows a head, and everything.
const HEAD_SECONDS: u64 = 10;
const TOTAL_SECONDS: u64 = 20;
/// Connections that slowhttptest opens a second.
const OPENED_A_SECOND: u64 = 200;
/// A cut may come a sweep, a linger and a busy machine later than its time.
const GRACE_SECONDS: u64 = 5;
/// Connections of the others.
const OTHERS: u64 = 16;
/// Requests a second of the others.
const RATE: u64 = 200;
/// Below this a doubled latency is noise of the machine.
const NOISE_US: f64 = 2000.0;
/// What slow readers ask for: more than the kernel's buffers hold.
const BIG_BYTES: usize = 16 << 20;

/// What the command line says.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each kind.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Slow connections of each kind.
    #[arg(long, default_value_t = 1000)]
    connections: u64,
    /// The gateway to measure. Default: built here, in release mode.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The load generator. Default: built here, in release mode.
    #[arg(long)]
    tools: Option<PathBuf>,
}

struct Kind {
    name: &'static str,
    words: &'static [&'static str],
    path: &'static str,
    /// When a connection must be gone, from its own start.
    ends_in: u64,
    /// Whether a connection stays until it is cut.
    stays: bool,
}

const KINDS: [Kind; 4] = [
    Kind { name: "slow heads", words: &["-H", "-i", "5"], path: "/", ends_in: HEAD_SECONDS, stays: true },
    Kind {
        name: "slow bodies",
        words: &["-B", "-i", "5", "-s", "100000"],
        path: "/upload",
        ends_in: TOTAL_SECONDS,
        stays: true,
    },
    Kind {
        name: "slow reads",
        words: &["-X", "-n", "5", "-z", "32", "-w", "512", "-y", "1024"],
        path: "/big/file",
        ends_in: TOTAL_SECONDS,
        stays: true,
    },
    // A whole request each; the connections then rest, as long as idle ones may.
    Kind { name: "ranges", words: &["-R", "-a", "10", "-b", "3000"], path: "/", ends_in: TOTAL_SECONDS, stays: false },
];

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let most_seconds = TOTAL_SECONDS + GRACE_SECONDS + arguments.connections / OPENED_A_SECOND;
    if arguments.seconds < most_seconds {
        bail!("--seconds must be at least {most_seconds}, or nothing is seen of what should be cut");
    }
    let (binary, tools) = (built(&arguments.binary, "portcullis")?, built(&arguments.tools, "bench-tools")?);
    let folder = root().join("target/slow");
    std::fs::create_dir_all(&folder)?;
    let (small, big, listen, telemetry) = (free()?, free()?, free()?, free()?);
    let patient = patient()?;
    let _small = started(&[&shown(&tools), "upstream", "--listen", &small.to_string()], &folder, small)?;
    let _big = nginx(&folder, big)?;
    let config = folder.join("portcullis.yaml");
    std::fs::write(&config, config_text(listen, telemetry, [small, big, patient]))?;
    let gate = started(&[&shown(&binary), "run", "--config", &shown(&config)], &folder, listen)?;

    let load = |seconds: u64| others(&tools, listen, seconds);
    let quiet = load(10)?;
    println!("slow: quiet: p50 {:.0} us, p99 {:.0} us, memory {} KiB", quiet.p50, quiet.p99, memory_kib(gate.0.id()));
    let mut failed = Vec::new();
    for kind in &KINDS {
        let began = Instant::now();
        let mut attack = attack(kind, arguments, listen, &folder)?;
        // The last connection is opened late, and may then stay its whole time.
        let limit = kind.ends_in + arguments.connections / OPENED_A_SECOND + GRACE_SECONDS;
        let stays = kind.stays;
        let watch = std::thread::spawn(move || gone(telemetry, began, Duration::from_secs(limit), stays));
        let beside = load(arguments.seconds.min(20))?;
        let seen = watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))??;
        let memory = memory_kib(gate.0.id());
        // What slowhttptest still does to an empty gateway is of no interest.
        let _ = attack.0.kill();
        let is_cut = seen.gone_after.is_some();
        let is_calm = beside.p99 <= (2.0 * quiet.p99).max(NOISE_US);
        println!(
            "slow: {}: {} open at most, gone after {} (limit {limit} s); others: p50 {:.0} us, p99 {:.0} us ({:.2} times); memory {memory} KiB",
            kind.name,
            seen.most,
            seen.gone_after.map_or_else(|| "never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64())),
            beside.p50,
            beside.p99,
            beside.p99 / quiet.p99,
        );
        if seen.most < arguments.connections / 2 && kind.stays {
            failed.push(format!("{}: only {} connections were ever open", kind.name, seen.most));
        }
        if !is_cut {
            failed.push(format!("{}: not cut in time", kind.name));
        }
        if !is_calm {
            failed.push(format!("{}: others waited", kind.name));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

fn config_text(listen: SocketAddr, telemetry: SocketAddr, [small, big, patient]: [SocketAddr; 3]) -> String {
    format!(
        "listen: [{{ address: \"{listen}\" }}]\ntelemetry: {{ address: \"{telemetry}\" }}\n\
         upstreams:\n  small: {{ url: \"http://{small}\" }}\n  big: {{ url: \"http://{big}\", keep_alive: {{ connections: 5000 }} }}\n  patient: {{ url: \"http://{patient}\", keep_alive: {{ connections: 5000 }}, timeout: {{ first_byte: 60s, total: 60s }} }}\n\
         limits: {{ header_timeout: {HEAD_SECONDS}s, total: {TOTAL_SECONDS}s }}\n\
         connections: {{ idle: {HEAD_SECONDS}s }}\n\
         overload: {{ connections_per_address: 100000 }}\n\
         rate_limit: [{{ name: all, by: [address], limit: 1000000/1s, burst: 1000000 }}]\n\
         access_log: {{ enabled: false }}\n\
         routes: [{{ name: rest, upstream: small }}, {{ name: big, match: {{ path: /big/** }}, upstream: big }}, {{ name: upload, match: {{ path: /upload }}, upstream: patient }}]\n"
    )
}

fn built(given: &Option<PathBuf>, package: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| format!("looking for {}", path.display()));
    }
    process::run(&mut program(&["cargo", "build", "--quiet", "--release", "-p", package]))?;
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(folder.join("release").join(package))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").context("looking for a free port")?.local_addr()?)
}

fn started(words: &[&str], folder: &Path, listens: SocketAddr) -> anyhow::Result<Running> {
    let mut command = program(words);
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running(command.spawn().with_context(|| format!("starting {}", words[0]))?);
    let began = Instant::now();
    while TcpStream::connect(listens).is_err() {
        if running.0.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(20) {
            bail!("{} does not listen on {listens}", words.join(" "));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(running)
}

fn nginx(folder: &Path, address: SocketAddr) -> anyhow::Result<Running> {
    let here = shown(folder);
    std::fs::create_dir_all(folder.join("files/big"))?;
    std::fs::write(folder.join("files/big/file"), vec![b'a'; BIG_BYTES])?;
    let text = format!(
        "daemon off; master_process off; pid {here}/pid; error_log {here}/nginx.log;\nworker_rlimit_nofile 8192; events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;\n\
         uwsgi_temp_path {here}/u; scgi_temp_path {here}/s; server {{ listen {address}; root {here}/files; }} }}\n"
    );
    let config = folder.join("nginx.conf");
    std::fs::write(&config, text)?;
    started(&["nginx", "-c", &shown(&config), "-p", &here], folder, address)
}

/// Latencies of the others, in microseconds.
struct Latency {
    p50: f64,
    p99: f64,
}

fn others(tools: &Path, target: SocketAddr, seconds: u64) -> anyhow::Result<Latency> {
    let (rate, time) = (RATE.to_string(), (seconds * 1000).to_string());
    let words = [
        "open",
        "--target",
        &target.to_string(),
        "--rate",
        &rate,
        "--connections",
        &OTHERS.to_string(),
        "--for-ms",
        &time,
    ];
    let output = program(&[&[&*shown(tools)], &words[..]].concat()).output().context("starting bench-tools")?;
    if !output.status.success() {
        bail!("the others were not served: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let found: Value = serde_json::from_slice(&output.stdout).context("reading the answer of bench-tools")?;
    let number = |key: &str| found[key].as_f64().with_context(|| format!("no {key} in {found}"));
    if number("wrong")? > 0.0 || number("lost")? > 0.0 {
        bail!("some of the others were not served: {found}");
    }
    Ok(Latency { p50: number("p50_us")?, p99: number("p99_us")? })
}

fn attack(kind: &Kind, arguments: &Arguments, listen: SocketAddr, folder: &Path) -> anyhow::Result<Running> {
    let log = std::fs::File::create(folder.join(format!("{}.log", kind.name.replace(' ', "-"))))?;
    let mut command = program(&["slowhttptest"]);
    command
        .args(kind.words)
        .args(["-c", &arguments.connections.to_string(), "-r", &OPENED_A_SECOND.to_string()])
        .args(["-l", &arguments.seconds.to_string(), "-u", &format!("http://{listen}{}", kind.path)])
        // Its own probes are not what is measured.
        .args(["-p", "30", "-v", "1"])
        .stdout(log)
        .stderr(Stdio::null());
    Ok(Running(command.spawn().context("starting slowhttptest (run `cargo xtask setup`)")?))
}

/// What the gateway says about its connections.
struct Seen {
    /// The most that were open at once, the others' included.
    most: u64,
    /// When no more than the others' were left.
    gone_after: Option<Duration>,
}

/// Watches the gateway's own count: a client that reads slowly learns late that it was cut.
fn gone(telemetry: SocketAddr, began: Instant, limit: Duration, stays: bool) -> anyhow::Result<Seen> {
    let mut seen = Seen { most: 0, gone_after: None };
    // They are opened first.
    while began.elapsed() <= limit {
        std::thread::sleep(Duration::from_millis(250));
        let open = connections(telemetry)?;
        seen.most = seen.most.max(open);
        // Where none stays, they are gone once all have come.
        let have_come = if stays { seen.most > OTHERS + 10 } else { began.elapsed() > limit / 2 };
        if have_come && open <= OTHERS {
            seen.gone_after = Some(began.elapsed());
            break;
        }
    }
    Ok(seen)
}

fn connections(telemetry: SocketAddr) -> anyhow::Result<u64> {
    use std::io::{Read as _, Write as _};
    let mut socket = TcpStream::connect(telemetry).context("asking for metrics")?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    socket.read_to_string(&mut page).context("reading the metrics")?;
    let line = page.lines().find_map(|line| line.strip_prefix("portcullis_overload_connections{} "));
    let line = line.or_else(|| page.lines().find_map(|line| line.strip_prefix("portcullis_overload_connections ")));
    line.and_then(|number| number.trim().parse::<f64>().ok()).map(|open| open as u64).context("no count of connections")
}

/// An upstream that takes every body and waits for its end.
fn patient() -> anyhow::Result<SocketAddr> {
    use std::io::Read as _;
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || while socket.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {});
        }
    });
    Ok(address)
}

fn memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
