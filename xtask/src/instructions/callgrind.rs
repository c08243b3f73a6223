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
use crate::bench::load::{self, Aim};

/// Requests before anything is counted.
const WARM: u64 = 4_000;
/// Requests of the two loads.
const FEW: u64 = 4_000;
const MANY: u64 = 16_000;

/// What to put before the proxy's command line. The file lies in the proxy's working folder, which is its own.
///
/// Callgrind counts every step of a `rep movsb` as an instruction, so that glibc's copy of a 16 KiB buffer would
/// count 16 384 where its vector loop counts about 1 000. The tunables keep glibc to the vector loop, for all alike;
/// without them HAProxy's retry buffer alone counts 30 000 more, which says nothing about its speed.
pub(crate) fn prefix() -> [&'static str; 6] {
    [
        "env",
        "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000",
        "valgrind",
        "--tool=callgrind",
        "--quiet",
        "--callgrind-out-file=callgrind.out.%p",
    ]
}

/// Drives the loads against a proxy started behind [`prefix`].
///
/// # Errors
/// When an answer is wrong or callgrind does not hand over its counters.
pub(crate) fn per_request(running: &Running, aim: &Aim) -> anyhow::Result<f64> {
    let mut totals = Vec::new();
    for requests in [WARM, FEW, MANY] {
        load::exactly(requests, aim)?;
        totals.push(take(running)?);
    }
    let [_, few, many] = totals[..] else { bail!("three loads were to be counted") };
    let difference =
        many.checked_sub(few).filter(|&more| more > 0).context("the larger load took no more instructions")?;
    Ok(difference as f64 / (MANY - FEW) as f64)
}

/// Has the counters written and set back to zero, and returns the sum over all processes and threads.
fn take(running: &Running) -> anyhow::Result<u64> {
    for pid in &running.pids {
        let output = Command::new("callgrind_control")
            .args(["--dump", &pid.to_string()])
            .output()
            .context("starting callgrind_control")?;
        if !output.status.success() {
            bail!("callgrind_control: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    read_and_remove(running.folder())
}

fn read_and_remove(folder: &Path) -> anyhow::Result<u64> {
    let mut total = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Dumps are `callgrind.out.PID.NUMBER`; without a number it is the file for the end of the process.
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_dump = name.strip_prefix("callgrind.out.").is_some_and(|rest| rest.contains('.'));
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
        std::fs::write(folder.path().join("callgrind.out.77.1"), "events: Ir\nfn=a\n1 5\ntotals: 40\n").unwrap();
        std::fs::write(folder.path().join("callgrind.out.78.1"), "totals: 2\n").unwrap();
        std::fs::write(folder.path().join("callgrind.out.77"), "").unwrap();
        assert_eq!(read_and_remove(folder.path()).unwrap(), 42);
        assert!(read_and_remove(folder.path()).is_err());
        assert!(totals("events: Ir\n").is_err());
    }
}
