//! `cargo xtask instructions`: user instructions and system calls per request.
//!
//! Wall clocks and CPU times drift on a shared machine; counts do not. Instructions ignore the kernel, system calls
//! ignore user space, so both are counted. This file reads the options and prints; `callgrind.rs` and
//! `syscalls.rs` count, `baseline.rs` compares with what was committed.
//!
//! Invariant: both counts are differences between two numbers of requests, so start-up costs nothing.
mod baseline;
mod callgrind;
mod syscalls;

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::bench::candidate::Candidate;
use crate::bench::load::{Aim, Surroundings};
use crate::bench::scenario::{Burden, Scenario};
use crate::bench::{checks, machine, prepare, present};
use baseline::Baseline;
use syscalls::Syscalls;

/// The most sends, and the most receives, a forwarded request may take: one each towards client and upstream.
const CALLS_AT_MOST: f64 = 2.0;
/// Above this a count is over [`CALLS_AT_MOST`] and not only beside it: an interrupted read now and then is no change.
const CALLS_TOLERANCE: f64 = 0.05;

/// Options of `cargo xtask instructions`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Scenarios to count, separated by commas; plain, guarded, full and refused when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Who is counted beside HAProxy: NAME[@BINARY] with a config bench/NAME-SCENARIO.*.
    #[arg(long, value_delimiter = ',', default_values = ["portcullis"])]
    candidates: Vec<String>,
    /// Do not build first; the binaries of the last build are used.
    #[arg(long)]
    no_build: bool,
    /// Compare with this baseline and fail when the gateway needs more than 3 % more.
    #[arg(long)]
    gate: Option<PathBuf>,
    /// Write the counts to this baseline.
    #[arg(long, conflicts_with = "gate")]
    write: Option<PathBuf>,
}

struct Count {
    label: String,
    instructions: f64,
    calls: Syscalls,
}

/// Counts, prints and compares.
///
/// # Errors
/// When something cannot be installed, built or started, when a proxy answers wrongly, and when the gate fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    machine::check_cores()?;
    let mut candidates = vec![Candidate::parse("haproxy")?];
    for name in arguments.candidates.iter().filter(|name| *name != "haproxy") {
        candidates.push(Candidate::parse(name)?);
    }
    machine::install(&["valgrind", "strace"])?;
    let scenarios = if arguments.only.is_empty() { &Scenario::IN_DEPTH[..] } else { &arguments.only[..] };
    prepare(&candidates, scenarios, arguments.no_build)?;
    let mut baseline = match &arguments.gate {
        Some(path) => Baseline::read(path)?,
        None => Baseline::default(),
    };
    let mut failures = Vec::new();
    for &scenario in scenarios {
        let mut counts = Vec::new();
        for candidate in &present(&candidates, scenario)? {
            let label = &candidate.label;
            eprintln!("{}: {label}", scenario.name());
            let count = count(candidate, scenario).with_context(|| format!("{label} in {}", scenario.name()))?;
            counts.push(count);
        }
        print(scenario, &counts);
        for count in counts.iter().filter(|count| count.label == "portcullis") {
            if arguments.gate.is_some() {
                failures.extend(baseline.complaint(scenario.name(), count.instructions));
                failures.extend(complaint(scenario, &count.calls));
            }
        }
        if arguments.write.is_some() {
            let rows = counts.iter().map(|count| (count.label.as_str(), count.instructions));
            baseline.put(scenario.name(), rows);
        }
    }
    if let Some(path) = &arguments.write {
        baseline.write(path)?;
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

fn count(candidate: &Candidate, scenario: Scenario) -> anyhow::Result<Count> {
    let surroundings = Surroundings::start(scenario, Burden::Light)?;
    let expectation = checks::expectation(candidate, scenario);
    let instructions = {
        let running = candidate.start(scenario, Burden::Light, surroundings.peers, &callgrind::prefix())?;
        checks::work_of(candidate, scenario, &running)?;
        callgrind::per_request(&running, &Aim::new(scenario, Burden::Light, &running, expectation))?
    };
    let running = candidate.start(scenario, Burden::Light, surroundings.peers, &[])?;
    checks::work_of(candidate, scenario, &running)?;
    let calls = syscalls::per_request(&running, &Aim::new(scenario, Burden::Light, &running, expectation))?;
    Ok(Count { label: candidate.label.clone(), instructions, calls })
}

fn print(scenario: Scenario, counts: &[Count]) {
    println!("\n## {}\n", scenario.name());
    println!("| candidate | user instructions/request | / haproxy | sends | receives | other system calls |");
    println!("|---|---|---|---|---|---|");
    let reference = counts[0].instructions;
    for Count { label, instructions, calls } in counts {
        println!(
            "| {label} | {instructions:.0} | {:.3} | {:.2} | {:.2} | {} |",
            instructions / reference,
            calls.sends,
            calls.receives,
            calls.others()
        );
    }
    for own in counts.iter().filter(|count| count.label.starts_with("portcullis")) {
        for other in counts[1..].iter().filter(|count| count.label != own.label) {
            let ratio = own.instructions / other.instructions;
            println!("\nInstructions {} / {}: {ratio:.3}", own.label, other.label);
        }
    }
    if let Some(goal) = scenario.instructions_goal() {
        for count in counts.iter().filter(|count| count.label.starts_with("portcullis")) {
            let ratio = count.instructions / reference;
            let verdict = if ratio <= goal { "met" } else { "MISSED" };
            println!("\nGoal {goal}: {verdict} by {} with {ratio:.3}.", count.label);
        }
    }
}

fn complaint(scenario: Scenario, calls: &Syscalls) -> Option<String> {
    let limit = CALLS_AT_MOST + CALLS_TOLERANCE;
    (calls.sends > limit || calls.receives > limit).then(|| {
        format!(
            "{}: {:.2} sends and {:.2} receives per request; {CALLS_AT_MOST} of each are allowed",
            scenario.name(),
            calls.sends,
            calls.receives
        )
    })
}

#[cfg(test)]
mod tests {
    use super::complaint;
    use super::syscalls::Syscalls;
    use crate::bench::scenario::Scenario;

    #[test]
    fn a_third_send_is_a_failure_and_a_rare_retry_is_not() {
        let calls = |sends, receives| Syscalls { sends, receives, ..Syscalls::default() };
        assert!(complaint(Scenario::Full, &calls(2.0, 2.02)).is_none());
        assert!(complaint(Scenario::Full, &calls(3.0, 2.0)).is_some());
        assert!(complaint(Scenario::Full, &calls(2.0, 2.2)).is_some());
    }
}
