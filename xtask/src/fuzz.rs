//! `fuzz`: runs every target of `fuzz/` for a while, from its seeds and from what earlier runs found.
//!
//! Without a sanitizer: there is no `unsafe` here, so what counts are the properties that each target checks. What is
//! found stays in `target/fuzz/corpus`, and an input that breaks a property in `target/fuzz/findings`.
//!
//! Invariant: a target that cannot be built or run is a failure, never a silent pass.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::process::{self, program, root, succeeds};
use crate::setup;

/// The targets, with the most bytes of an input.
const TARGETS: &[(&str, u32)] = &[
    ("request_head", 1024),
    ("chunked_body", 512),
    ("forwarded", 512),
    ("path", 512),
    ("config", 4096),
    ("token", 1024),
];

const TOOLCHAIN: &str = "nightly";

/// What the command line says.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Only these targets.
    pub(crate) targets: Vec<String>,
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|(name, _)| arguments.targets.is_empty() || arguments.targets.iter().any(|t| t == name))
        .collect();
    if chosen.len() != arguments.targets.len() && !arguments.targets.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        bail!("no such target; there are {}", names.join(", "));
    }
    toolchain()?;
    build()?;
    let mut broken = Vec::new();
    for (name, most_bytes) in chosen {
        println!("fuzz: {name} for {} s", arguments.seconds);
        if let Err(error) = one(name, *most_bytes, arguments.seconds) {
            println!("fuzz: {name}: {error:#}");
            broken.push(*name);
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("a property does not hold: {}", broken.join(", ")) }
}

/// The engine's instrumentation exists in nightly compilers only.
fn toolchain() -> anyhow::Result<()> {
    let is_there = || succeeds(&["cargo", &format!("+{TOOLCHAIN}"), "--version"]);
    if is_there() {
        return Ok(());
    }
    println!("fuzz: installing the nightly compiler (rustup toolchain install {TOOLCHAIN} --profile minimal)");
    let installed = process::run(&mut program(&[
        "rustup",
        "toolchain",
        "install",
        TOOLCHAIN,
        "--profile",
        "minimal",
        "--no-self-update",
    ]));
    if installed.is_err() || !is_there() {
        bail!("the nightly compiler is missing and rustup cannot install it; without it nothing was fuzzed");
    }
    Ok(())
}

fn folder() -> PathBuf {
    root().join("target/fuzz")
}

fn build() -> anyhow::Result<()> {
    let began = Instant::now();
    let own = setup::tools().join("bin/cargo-fuzz");
    let name = if own.exists() { own.to_string_lossy().into_owned() } else { "cargo-fuzz".to_owned() };
    let target_dir = folder().to_string_lossy().into_owned();
    // Called as cargo calls it: the subcommand's name is its first word.
    let mut command =
        program(&[&name, "fuzz", "build", "--fuzz-dir", "fuzz", "--sanitizer", "none", "--target-dir", &target_dir]);
    process::run(command.env("RUSTUP_TOOLCHAIN", TOOLCHAIN).env_remove("CARGO_TARGET_DIR"))?;
    println!("fuzz: built in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn one(name: &str, most_bytes: u32, seconds: u64) -> anyhow::Result<()> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let binary = folder().join(host).join("release").join(name);
    let corpus = folder().join("corpus").join(name);
    let findings = folder().join("findings").join(name);
    for folder in [&corpus, &findings] {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let log = folder().join(format!("{name}.log"));
    let mut command = program(&[&binary.to_string_lossy(), &corpus.to_string_lossy()]);
    command
        .arg(root().join("fuzz/seeds").join(name))
        .arg(format!("-dict={}", root().join("fuzz/dictionaries").join(name).display()))
        .arg(format!("-max_len={most_bytes}"))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args(["-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .stdout(std::fs::File::create(&log)?)
        .stderr(std::fs::File::options().append(true).open(&log)?);
    let status = command.status().with_context(|| format!("starting {}", binary.display()))?;
    let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    if !status.success() {
        let said: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        println!("{}", said[said.len().saturating_sub(60)..].join("\n"));
        bail!("{status}; the input is in {}", findings.display());
    }
    let count = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:")).unwrap_or("?");
    println!("fuzz: {name}: {} inputs, nothing found", count.trim());
    Ok(())
}
