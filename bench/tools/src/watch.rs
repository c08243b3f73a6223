//! What the watched processes used: CPU time and waiting time from the scheduler, resident memory.
//!
//! `/proc/PID/task/*/schedstat` counts nanoseconds on a CPU per thread, kernel time included, which neither
//! `utime` (10 ms steps) nor requests per second on a shared machine can give.
//!
//! Invariant: a process that went away is an error, never a zero.
use anyhow::Context;
use std::fs;

/// Sums over all threads of the watched processes since they started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Nanoseconds on a CPU.
    pub(crate) cpu_ns: u64,
    /// Nanoseconds ready to run while something else had the CPU. Near zero on a quiet machine.
    pub(crate) wait_ns: u64,
}

impl Usage {
    /// What was used between `earlier` and this reading.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
        }
    }
}

/// Reads what the processes used so far.
pub(crate) fn usage(pids: &[u32]) -> anyhow::Result<Usage> {
    let mut sum = Usage::default();
    for pid in pids {
        let folder = format!("/proc/{pid}/task");
        for task in fs::read_dir(&folder).with_context(|| format!("listing {folder}"))? {
            let path = task?.path().join("schedstat");
            // A thread may end between the listing and the reading; a process that did is caught above next time.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
            let mut next = || numbers.next().context("too few numbers")?.context("no number");
            sum.cpu_ns += next().with_context(|| format!("reading {}", path.display()))?;
            sum.wait_ns += next().with_context(|| format!("reading {}", path.display()))?;
        }
    }
    Ok(sum)
}

/// Resident bytes (`VmRSS`) of the largest watched process, which is the worker where a master stands beside it.
pub(crate) fn resident_bytes(pids: &[u32]) -> anyhow::Result<u64> {
    let mut largest = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        largest = largest.max(kibibytes.with_context(|| format!("no VmRSS in {path}"))? * 1024);
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::{Usage, resident_bytes, usage};

    #[test]
    fn this_process_has_memory_and_time_and_a_missing_one_is_an_error() {
        let own = std::process::id();
        assert!(resident_bytes(&[own]).unwrap() > 100_000);
        let before = usage(&[own]).unwrap();
        let mut sum = 0_u64;
        for number in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum ^ number);
        }
        assert!(usage(&[own]).unwrap().since(before).cpu_ns > 0);
        assert!(usage(&[u32::MAX]).is_err());
        assert!(resident_bytes(&[u32::MAX]).is_err());
    }

    #[test]
    fn differences_never_wrap() {
        let later = Usage { cpu_ns: 5, wait_ns: 1 };
        let used = later.since(Usage { cpu_ns: 2, wait_ns: 3 });
        assert_eq!((used.cpu_ns, used.wait_ns), (3, 0));
    }
}
