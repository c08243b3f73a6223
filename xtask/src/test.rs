//! `test`: everything that must hold, in the order in which a fault is cheapest to see.
//!
//! Invariant: it goes on after a failed step, so that one run shows all of them, and fails if any failed.

use std::time::Instant;

use anyhow::bail;

use crate::process::{self, program, succeeds};
use crate::{fuzz, generate, setup, tidy};

type Step = (&'static str, fn() -> anyhow::Result<()>);

/// For each fuzz target: enough to see a property that broke, not to search.
const FUZZ_SECONDS: u64 = 10;

const STEPS: &[Step] = &[
    ("format", || process::run(&mut program(&["cargo", "fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("clippy", || {
        process::run(&mut program(&[
            "cargo",
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    }),
    ("generated docs", || generate::run(&generate::Arguments { check: true })),
    ("licences and bans", deny),
    ("fuzz", || fuzz::run(&fuzz::Arguments { seconds: FUZZ_SECONDS, targets: Vec::new() })),
    ("tests", || process::run(&mut program(&["cargo", "test", "--workspace", "--no-fail-fast"]))),
];

/// The command.
pub(crate) fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    println!("== setup");
    setup::run()?;
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let began = Instant::now();
        match step() {
            Ok(()) => println!("== {name}: ok in {:.0} s", began.elapsed().as_secs_f64()),
            Err(error) => {
                println!("== {name}: FAILED: {error:#}");
                failed.push(*name);
            }
        }
    }
    println!("== {} steps in {:.0} s", STEPS.len(), started.elapsed().as_secs_f64());
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// Licences, bans and sources are held always. Advisories need a database that has to be fetched; where it cannot be,
/// that is said and not hidden.
fn deny() -> anyhow::Result<()> {
    let own = setup::tools().join("bin/cargo-deny");
    let name = if own.exists() { own.to_string_lossy().into_owned() } else { "cargo-deny".to_owned() };
    process::run(&mut program(&[&name, "--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    if !succeeds(&[&name, "--log-level", "off", "fetch", "db"]) {
        println!("deny: advisories were NOT checked: the database cannot be fetched from here");
        return Ok(());
    }
    process::run(&mut program(&[&name, "--log-level", "error", "check", "advisories"]))
}
