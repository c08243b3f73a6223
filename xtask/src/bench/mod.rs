//! `cargo xtask bench`: the gateway beside HAProxy and nginx, side by side in one run.
//!
//! This file reads the options and walks through the scenarios; `rounds.rs` measures one, `report.rs` prints it.
//! The method and its reasons stand in `bench/README.md`.
//!
//! Invariant: only ratios from one run are compared. A run whose control fails exits with an error.
pub(crate) mod candidate;
pub(crate) mod checks;
pub(crate) mod load;
pub(crate) mod machine;
mod probe;
mod report;
mod rounds;
pub(crate) mod scenario;
mod statistics;
mod verdict;
mod written;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use candidate::{Candidate, Program};
use rounds::Plan;
use scenario::{Scenario, Traffic};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Scenarios to run, separated by commas; all when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Rounds; in each, every candidate runs one slice.
    #[arg(long, default_value_t = 16)]
    rounds: usize,
    /// Length of a slice, such as 1s or 500ms.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    slice: Duration,
    /// Who runs beside HAProxy and its control: NAME[@BINARY] with a config bench/NAME-SCENARIO.*.
    #[arg(long, value_delimiter = ',', default_values = ["nginx", "portcullis"])]
    candidates: Vec<String>,
    /// CPU per request only: no latency, no idle connections.
    #[arg(long)]
    cpu_only: bool,
    /// How long to wait, in the whole run, for moments in which the machine is quiet.
    #[arg(long, default_value = "0s", value_parser = duration)]
    patience: Duration,
    /// Do not build first; the binaries of the last build are used.
    #[arg(long)]
    no_build: bool,
    /// Write everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the results into the table of this file (bench/README.md). Void scenarios are left out.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Runs the benchmark and prints its tables.
///
/// # Errors
/// When something cannot be installed, built or started, when a proxy answers wrongly, and when a control fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    machine::check_cores()?;
    let candidates = candidates(&arguments.candidates)?;
    let scenarios = if arguments.only.is_empty() { &Scenario::ALL[..] } else { &arguments.only[..] };
    prepare(&candidates, scenarios, arguments.no_build)?;
    if !(Duration::from_millis(50)..=Duration::from_secs(60)).contains(&arguments.slice) {
        bail!("--slice must be between 50ms and 60s");
    }
    let plan = Plan {
        rounds: arguments.rounds.max(1),
        slice: arguments.slice,
        is_whole: !arguments.cpu_only,
        patient_until: Instant::now() + arguments.patience,
    };

    let description = machine::description();
    println!("{description}");
    let mut results = Vec::new();
    for &scenario in scenarios {
        let present = present(&candidates, scenario)?;
        let result = rounds::run(scenario, &present, plan).with_context(|| format!("scenario {}", scenario.name()))?;
        println!("{}", result.text(plan));
        results.push(result);
    }
    println!("{}", report::summary(&results));
    if let Some(path) = &arguments.json {
        let all: Vec<_> = results.iter().map(rounds::Results::json).collect();
        let text = serde_json::to_string_pretty(&serde_json::json!({ "machine": description, "scenarios": all }))?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &arguments.write {
        written::write(path, &description, &results)?;
    }
    if !report::void_scenarios(&results).is_empty() {
        bail!("the run is void: {}", report::WHY_VOID);
    }
    Ok(())
}

/// HAProxy, HAProxy again, and the others.
fn candidates(names: &[String]) -> anyhow::Result<Vec<Candidate>> {
    let reference = Candidate::parse("haproxy")?;
    let mut candidates = vec![reference.clone(), reference.again()];
    for name in names.iter().filter(|name| *name != "haproxy") {
        candidates.push(Candidate::parse(name)?);
    }
    Ok(candidates)
}

/// Installs and builds what the candidates need.
pub(crate) fn prepare(candidates: &[Candidate], scenarios: &[Scenario], is_built: bool) -> anyhow::Result<()> {
    let has = |program| candidates.iter().any(|candidate| candidate.program == program);
    let travels = |traffic| scenarios.iter().any(|scenario| scenario.traffic() == traffic);
    let is_plain = scenarios.iter().all(|scenario| scenario.traffic() == Traffic::Plain);
    let wanted = [
        ("curl", true),
        ("haproxy", has(Program::Haproxy)),
        ("nginx", has(Program::Nginx)),
        ("openssl", !is_plain),
        ("h2load", travels(Traffic::Http2)),
    ];
    let wanted: Vec<&str> = wanted.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(name, _)| name).collect();
    machine::install(&wanted)?;
    if is_built {
        return Ok(());
    }
    machine::build("bench-tools")?;
    if candidates.iter().any(Candidate::is_our_build) {
        machine::build("portcullis")?;
    }
    Ok(())
}

/// The candidates that have a config for a scenario; names those that have none.
pub(crate) fn present(candidates: &[Candidate], scenario: Scenario) -> anyhow::Result<Vec<Candidate>> {
    let mut present = Vec::new();
    for candidate in candidates {
        let config = candidate.config(scenario)?;
        if config.is_file() {
            present.push(candidate.clone());
        } else {
            eprintln!("{} is left out of {}: no {}", candidate.label, scenario.name(), config.display());
        }
    }
    Ok(present)
}

/// Reads `1s`, `1.5s`, `500ms` or `10m`; at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0)];
    let (number, seconds) = units
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or("a unit is missing: write 500ms, 1s or 10m")?;
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    let seconds = number * seconds;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("between 0s and a day, please".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::{candidates, duration};
    use std::time::Duration;

    #[test]
    fn durations_need_a_unit_and_have_bounds() {
        assert_eq!(duration("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert!(duration("1").is_err());
        assert!(duration("-1s").is_err());
        assert!(duration("xs").is_err());
    }

    #[test]
    fn haproxy_is_always_there_and_always_twice() {
        let names = ["haproxy".to_owned(), "nginx".to_owned()];
        let labels: Vec<String> = candidates(&names).unwrap().into_iter().map(|one| one.label).collect();
        assert_eq!(labels, ["haproxy", "haproxy (again)", "nginx"]);
    }
}
