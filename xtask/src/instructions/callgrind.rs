//! User instructions per request, by valgrind's callgrind.
//!
//! The proxy runs under callgrind from its start. After a warm-up, two loads of different size run, and callgrind
//! is asked for its counters after each; the difference of the two, over the difference in requests, is the result.
//!
//! Invariant: one thread's instructions are counted exactly; what varies between runs is heap layout, hash seeds and
//! how many events the loop finds at once. Measured, that is well under 1 %.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::bench::candidate::Running;
use crate::bench::load::{self, Expectation};

/// Requests before anything is counted.
const WARM: u64 = 4_000;
/// Requests of the two loads.
const FEW: u64 = 4_000;
const MANY: u64 = 16_000;

/// What to put before the proxy's command line. The file lies in the proxy's working folder, which is its own.
pub(crate) fn prefix() -> [&'static str; 4] {
    ["valgrind", "--tool=callgrind", "--quiet", "--callgrind-out-file=callgrind.out"]
}

/// Drives the loads against a proxy started behind [`prefix`].
///
/// # Errors
/// When an answer is wrong or callgrind does not hand over its counters.
pub(crate) fn per_request(running: &Running, expectation: Expectation) -> anyhow::Result<f64> {
    let mut totals = Vec::new();
    for requests in [WARM, FEW, MANY] {
        load::exactly(requests, running.listen, expectation)?;
        totals.push(take(running)?);
    }
    let [_, few, many] = totals[..] else { bail!("three loads were to be counted") };
    let difference = many.checked_sub(few).context("the larger load took fewer instructions")?;
    Ok(difference as f64 / (MANY - FEW) as f64)
}

/// Has the counters written and set back to zero, and returns the sum over all threads.
fn take(running: &Running) -> anyhow::Result<u64> {
    let folder = running.folder();
    let status = Command::new("callgrind_control")
        .args(["--dump", &running.pid().to_string()])
        .output()
        .context("starting callgrind_control")?;
    if !status.status.success() {
        bail!("callgrind_control: {}", String::from_utf8_lossy(&status.stderr).trim());
    }
    read_and_remove(folder)
}

fn read_and_remove(folder: &Path) -> anyhow::Result<u64> {
    let mut total = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_dump = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind.out."));
        if !is_dump {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        *total.get_or_insert(0) += totals(&text).with_context(|| format!("reading {}", path.display()))?;
        fs::remove_file(&path)?;
    }
    total.with_context(|| format!("callgrind wrote nothing into {}", folder.display()))
}

/// The `totals:` line of one dump.
fn totals(text: &str) -> anyhow::Result<u64> {
    let number = text.lines().find_map(|line| line.strip_prefix("totals:")).context("no totals")?;
    number.trim().parse().with_context(|| format!("totals {number:?}"))
}

#[cfg(test)]
mod tests {
    use super::{read_and_remove, totals};

    #[test]
    fn dumps_are_summed_once() {
        let folder = crate::bench::machine::Folder::new("callgrind-test").unwrap();
        std::fs::write(folder.path().join("callgrind.out.1"), "events: Ir\nfn=a\n1 5\ntotals: 40\n").unwrap();
        std::fs::write(folder.path().join("callgrind.out.2"), "totals: 2\n").unwrap();
        assert_eq!(read_and_remove(folder.path()).unwrap(), 42);
        assert!(read_and_remove(folder.path()).is_err());
        assert!(totals("events: Ir\n").is_err());
    }
}
