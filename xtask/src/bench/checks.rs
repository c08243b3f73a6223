//! Whether a candidate does the work it is timed for.
//!
//! Asked once before the rounds (fields of the answer, fields the upstream sees) and once after them (a line in
//! the access log for every request). Slices check every answer's status and length on their own (`load.rs`).
//!
//! Invariant: HAProxy and the gateway must be complete, or their ratio would compare different work. nginx, which cannot
//! say what is left of a limit, and variants of HAProxy may do less; what they leave out is printed.
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};

use super::candidate::{Candidate, Program, Running};
use super::load::{self, Expectation};
use super::scenario::Scenario;

/// The smallest share of requests that must have a log line. Lines written while the file is being emptied are
/// missed by the count, never by the proxy, hence not 1.
const LOGGED_AT_LEAST: f64 = 0.995;

/// What answers of this candidate must look like.
pub(crate) fn expectation(candidate: &Candidate, scenario: Scenario) -> Expectation {
    // nginx's lowest rate is one request a minute; each minute one passes.
    let is_leaky = candidate.program == Program::Nginx && scenario == Scenario::Refused;
    Expectation { status: scenario.status(), slips: u64::from(is_leaky) }
}

/// Sends a request and returns what is missing from answer and forwarded request.
///
/// # Errors
/// When the status is wrong, or when something is missing from HAProxy or the gateway.
pub(crate) fn work_of(candidate: &Candidate, scenario: Scenario, running: &Running) -> anyhow::Result<Vec<String>> {
    let mut probe = load::probe(running.listen)?;
    if scenario == Scenario::Refused && probe.status != scenario.status() {
        // A bucket of one lets the very first request pass.
        probe = load::probe(running.listen)?;
    }
    if probe.status != scenario.status() {
        bail!("{} answered {} in scenario {}", candidate.label, probe.status, scenario.name());
    }
    let mut missing = Vec::new();
    for field in scenario.answer_fields() {
        if !probe.fields.contains_key(field) {
            missing.push(format!("{field} in answers"));
        }
    }
    let seen = probe.body.to_ascii_lowercase();
    for field in scenario.forwarded_fields() {
        if !seen.lines().any(|line| line.starts_with(field) && line[field.len()..].starts_with(':')) {
            missing.push(format!("{field} towards the upstream"));
        }
    }
    let may_do_less = candidate.program == Program::Nginx || candidate.is_variant();
    if !missing.is_empty() && !may_do_less {
        bail!("{} leaves out {} in scenario {}", candidate.label, missing.join(", "), scenario.name());
    }
    Ok(missing)
}

/// Counts lines of an access log and empties it now and then, so that it does not fill the memory it lies in.
pub(crate) struct LogCount {
    lines: u64,
}

impl LogCount {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self { lines: 0 }
    }

    /// Counts what was written since the last call and empties the file. Writers must append.
    pub(crate) fn take(&mut self, log: &Path) -> anyhow::Result<()> {
        let mut file =
            File::options().read(true).write(true).open(log).with_context(|| format!("opening {}", log.display()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        file.set_len(0)?;
        Ok(())
    }

    /// Compares with the requests that were answered.
    ///
    /// # Errors
    /// When lines are missing: a proxy that drops log lines under load does less work.
    pub(crate) fn check(&self, requests: u64) -> anyhow::Result<()> {
        if (self.lines as f64) < requests as f64 * LOGGED_AT_LEAST {
            bail!("{} log lines for {requests} requests", self.lines);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::LogCount;

    #[test]
    fn a_log_with_missing_lines_is_an_error() {
        assert!(LogCount { lines: 1000 }.check(1000).is_ok());
        assert!(LogCount { lines: 994 }.check(1000).is_err());
        assert!(LogCount::new().check(0).is_ok());
    }

    #[test]
    fn taking_counts_and_empties() {
        let folder = crate::bench::machine::Folder::new("checks-test").unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "one\ntwo\n").unwrap();
        let mut count = LogCount::new();
        count.take(&log).unwrap();
        count.take(&log).unwrap();
        assert_eq!(count.lines, 2);
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
    }
}
