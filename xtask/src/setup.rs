//! `setup`: installs what the tests need and is not there, and says plainly what it cannot install.
//!
//! Everything but Debian's packages goes into `target/tools`, so that it leaves with `cargo clean`. To add a service for
//! the end-to-end tests, add a row to [`TOOLS`].
//!
//! Invariant: it succeeds only when every row is there.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::bail;

use crate::process::{self, program, root, succeeds};

/// Where a tool comes from.
#[derive(Clone, Copy)]
enum From {
    /// A package of Debian, and a program that it brings.
    Debian,
    /// A package of npm, at a version.
    Node,
    /// A package of PyPI, at a version.
    Python,
    /// A program of the Go module proxy, at a version.
    Go,
    /// A program of crates.io.
    Cargo,
}

struct Tool {
    from: From,
    /// Its name where it comes from, with the version.
    package: &'static str,
    /// What is there once it is installed: a program on PATH (Debian), else a path below `target/tools`.
    shows: &'static str,
    why: &'static str,
}

const fn tool(from: From, package: &'static str, shows: &'static str, why: &'static str) -> Tool {
    Tool { from, package, shows, why }
}

/// Everything the tests need. Python itself with its `venv` comes first, because the packages need it.
const TOOLS: &[Tool] = &[
    tool(From::Debian, "curl", "curl", "a real client"),
    tool(From::Debian, "python3-venv", "python3", "runs the Python service and client"),
    tool(From::Debian, "prometheus", "promtool", "reads the metrics as Prometheus does"),
    // Not `apache2` and `tomcat10`: those would run as services of the system.
    tool(From::Debian, "apache2-bin", "apache2", "a server for the differential tests"),
    tool(From::Debian, "default-jre-headless", "java", "runs Tomcat"),
    tool(From::Debian, "tomcat10-common", "/usr/share/tomcat10/bin/catalina.sh", "a server for the differential tests"),
    tool(From::Debian, "slowhttptest", "slowhttptest", "many slow clients, for `cargo xtask slow`"),
    tool(From::Node, "json-server@0.17.4", "node/node_modules/json-server", "a public service in Node"),
    tool(
        From::Node,
        "oidc-provider@8.8.1 jose@5.9.6",
        "node/node_modules/oidc-provider",
        "an issuer of tokens, and a library",
    ),
    tool(
        From::Python,
        "httpbin==0.10.2 gunicorn==23.0.0 requests==2.32.3",
        "python/lib/python3/httpbin",
        "a public service and a client in Python",
    ),
    tool(
        From::Python,
        "PyJWT==2.10.1 cryptography==44.0.0",
        "python/lib/python3/jwt",
        "a second library that makes tokens",
    ),
    tool(From::Python, "h2==4.3.0 websockets==15.0.1", "python/lib/python3/h2", "clients of HTTP/2 and WebSocket"),
    tool(From::Debian, "nghttp2-client", "h2load", "a second client of HTTP/2"),
    tool(From::Debian, "openssl", "openssl", "a second client of TLS"),
    tool(From::Debian, "nginx-light", "nginx", "an upstream that speaks TLS and HTTP/2"),
    tool(From::Debian, "dnsmasq-base", "dnsmasq", "a name server that can be killed"),
    tool(From::Debian, "testssl.sh", "testssl", "looks for weaknesses of TLS"),
    tool(From::Debian, "pebble", "pebble", "an authority that issues certificates by ACME"),
    tool(
        From::Go,
        "github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin@v2.15.0",
        "go/go-httpbin",
        "a public service in Go",
    ),
    tool(From::Go, "github.com/golang-jwt/jwt/v5/cmd/jwt@v5.2.2", "go/jwt", "a third library that makes tokens"),
    tool(From::Cargo, "cargo-deny", "bin/cargo-deny", "holds licences and banned versions"),
    tool(From::Cargo, "cargo-fuzz", "bin/cargo-fuzz", "builds the fuzz targets"),
];

/// Where tools are put.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Installs what is missing, and says what it cannot install.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for tool in TOOLS {
        if is_there(tool) {
            continue;
        }
        println!("setup: installing {} ({})", tool.package, tool.why);
        let installed = install(tool);
        if installed.is_err() || !is_there(tool) {
            let why = installed.err().map_or_else(|| "it is still not there".to_owned(), |error| format!("{error:#}"));
            missing.push(format!("{}: {why}", tool.package));
        }
    }
    if missing.is_empty() {
        println!("setup: all {} tools are there", TOOLS.len());
        return Ok(());
    }
    for line in &missing {
        eprintln!("setup: cannot install {line}");
    }
    bail!("{} of {} tools are missing; the tests need all of them", missing.len(), TOOLS.len())
}

fn is_there(tool: &Tool) -> bool {
    match tool.from {
        From::Debian => is_on_path(tool.shows),
        // A marker, because the folder's name depends on the version of Python.
        From::Python => marker(tool).exists(),
        From::Cargo => tools().join(tool.shows).exists() || is_on_path(tool.shows.trim_start_matches("bin/")),
        From::Node | From::Go => tools().join(tool.shows).exists(),
    }
}

fn is_on_path(program: &str) -> bool {
    succeeds(&["sh", "-c", &format!("command -v {program}")])
}

fn marker(tool: &Tool) -> PathBuf {
    tools().join("python").join(format!("installed {}", tool.package))
}

fn install(tool: &Tool) -> anyhow::Result<()> {
    let tools = tools();
    std::fs::create_dir_all(&tools)?;
    match tool.from {
        From::Debian => {
            if !succeeds(&["sh", "-c", "test $(id -u) = 0"]) {
                bail!("run `apt-get install {}` as root", tool.package);
            }
            let _quiet = NoServices::hold()?;
            // Package lists may be absent or old; a failure here shows in the installation.
            let _ = program(&["apt-get", "update", "-qq"]).stdout(Stdio::null()).status();
            process::run(
                program(&["apt-get", "install", "-y", "-qq", "--no-install-recommends", tool.package])
                    .env("DEBIAN_FRONTEND", "noninteractive")
                    .stdout(Stdio::null()),
            )
        }
        From::Node => {
            let prefix = tools.join("node");
            std::fs::create_dir_all(&prefix)?;
            process::run(
                program(&["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"])
                    .args(tool.package.split(' '))
                    .arg("--prefix")
                    .arg(prefix),
            )
        }
        From::Python => {
            let venv = tools.join("python");
            process::run(program(&["python3", "-m", "venv"]).arg(&venv))?;
            let pip = venv.join("bin/pip");
            process::run(
                program(&[&pip.to_string_lossy(), "install", "--quiet", "--disable-pip-version-check"])
                    .args(tool.package.split(' ')),
            )?;
            Ok(std::fs::write(marker(tool), "")?)
        }
        From::Go => process::run(program(&["go", "install", tool.package]).env("GOBIN", tools.join("go"))),
        From::Cargo => {
            process::run(program(&["cargo", "install", "--quiet", "--locked", tool.package]).arg("--root").arg(tools))
        }
    }
}

/// Keeps Debian's packages from starting their services: the tests start their own.
struct NoServices(Option<&'static str>);

impl NoServices {
    /// What Debian asks before it starts a service (invoke-rc.d(8)).
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn hold() -> anyhow::Result<NoServices> {
        use std::os::unix::fs::PermissionsExt as _;
        if std::path::Path::new(Self::POLICY).exists() {
            return Ok(NoServices(None));
        }
        std::fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")?;
        std::fs::set_permissions(Self::POLICY, std::fs::Permissions::from_mode(0o755))?;
        Ok(NoServices(Some(Self::POLICY)))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // If it stays, services do not start by themselves; nothing else changes.
            let _ = std::fs::remove_file(path);
        }
    }
}
