//! Whether a candidate does the work it is timed for.
//!
//! Asked once before the rounds (fields of the answer, fields the upstream sees) and once after them (a line in
//! the access log for every request). Slices check every answer's status and length on their own (`load.rs`).
//!
//! Invariant: HAProxy and the gateway must be complete, or their ratio would compare different work. nginx, which cannot
//! say what is left of a limit, and variants of HAProxy may do less; what they leave out is printed.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::{FallocateFlags, fallocate};

use super::candidate::{Candidate, Program, Running};
use super::load::Expectation;
use super::probe::probe;
use super::scenario::Scenario;

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
    let mut seen = probe(scenario, running)?;
    if scenario == Scenario::Refused && seen.status != scenario.status() {
        // A bucket of one lets the very first request pass.
        seen = probe(scenario, running)?;
    }
    if seen.status != scenario.status() {
        bail!("{} answered {} in scenario {}", candidate.label, seen.status, scenario.name());
    }
    let mut missing = Vec::new();
    for field in scenario.answer_fields() {
        if !seen.fields.contains_key(field) {
            missing.push(format!("{field} in answers"));
        }
    }
    let upstream_saw = seen.body.to_ascii_lowercase();
    for field in scenario.forwarded_fields() {
        if !upstream_saw.lines().any(|line| line.starts_with(field) && line[field.len()..].starts_with(':')) {
            missing.push(format!("{field} towards the upstream"));
        }
    }
    let may_do_less = candidate.program == Program::Nginx || candidate.is_variant();
    if !missing.is_empty() && !may_do_less {
        bail!("{} leaves out {} in scenario {}", candidate.label, missing.join(", "), scenario.name());
    }
    Ok(missing)
}

/// Counts lines of an access log and gives back the memory they lie in.
///
/// The file keeps its length: a proxy may write at any moment, and what it wrote just before the file was cut would be lost.
pub(crate) struct LogCount {
    lines: u64,
    read_to: u64,
}

impl LogCount {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self { lines: 0, read_to: 0 }
    }

    /// Counts what was written since the last call.
    pub(crate) fn take(&mut self, log: &Path) -> anyhow::Result<()> {
        let mut file = open(log)?;
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.forget(&file, self.read_to + bytes.len() as u64)
    }

    /// Does not count what was written since the last call.
    pub(crate) fn skip(&mut self, log: &Path) -> anyhow::Result<()> {
        let file = open(log)?;
        let length = file.metadata()?.len();
        self.forget(&file, length)
    }

    fn forget(&mut self, file: &File, read_to: u64) -> anyhow::Result<()> {
        self.read_to = read_to;
        if read_to > 0 {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, hole, 0, read_to).context("giving back the memory of an access log")?;
        }
        Ok(())
    }

    /// Compares with the requests that were answered.
    ///
    /// # Errors
    /// When lines are missing: a proxy that drops log lines under load does less work.
    pub(crate) fn check(&self, requests: u64) -> anyhow::Result<()> {
        if self.lines < requests {
            bail!("{} log lines for {requests} requests", self.lines);
        }
        Ok(())
    }
}

fn open(log: &Path) -> anyhow::Result<File> {
    File::options().read(true).write(true).open(log).with_context(|| format!("opening {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::LogCount;
    use std::io::Write;

    #[test]
    fn a_log_with_missing_lines_is_an_error() {
        assert!(LogCount { lines: 1000, read_to: 0 }.check(1000).is_ok());
        assert!(LogCount { lines: 999, read_to: 0 }.check(1000).is_err());
        assert!(LogCount::new().check(0).is_ok());
    }

    #[test]
    fn every_line_is_counted_once_and_skipped_ones_never() {
        let folder = crate::bench::machine::Folder::new("checks-test").unwrap();
        let path = folder.path().join("log");
        let mut log = std::fs::File::options().create(true).append(true).open(&path).unwrap();
        let mut count = LogCount::new();
        for (text, lines) in [("one\ntwo\nthr", 2), ("", 2), ("ee\n", 3)] {
            log.write_all(text.as_bytes()).unwrap();
            count.take(&path).unwrap();
            assert_eq!(count.lines, lines, "{text:?}");
        }
        log.write_all(b"four\n").unwrap();
        count.skip(&path).unwrap();
        count.take(&path).unwrap();
        assert_eq!(count.lines, 3);
        assert!(std::fs::read(&path).unwrap().iter().all(|&byte| byte == 0), "what was counted takes memory still");
    }
}
