//! What the watched processes used: CPU time and waiting time from the scheduler, resident memory.
//!
//! `/proc/PID/task/*/schedstat` counts nanoseconds on a CPU per thread, kernel time included, which neither
//! `utime` (10 ms steps) nor requests per second on a shared machine can give.
//!
//! Invariant: a process that went away is an error, never a zero.
use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;

/// What the watched processes used since they started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(BTreeMap<u64, Thread>);

/// One thread's part.
#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    /// Nanoseconds on a CPU.
    cpu_ns: u64,
    /// Nanoseconds ready to run while something else had the CPU.
    wait_ns: u64,
}

impl Usage {
    /// What was used between `earlier` and this reading.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let difference = |(id, now): (&u64, &Thread)| {
            let before = earlier.0.get(id).copied().unwrap_or_default();
            let cpu_ns = now.cpu_ns.saturating_sub(before.cpu_ns);
            (*id, Thread { cpu_ns, wait_ns: now.wait_ns.saturating_sub(before.wait_ns) })
        };
        Self(self.0.iter().map(difference).collect())
    }

    /// Nanoseconds on a CPU, of all threads.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.0.values().map(|thread| thread.cpu_ns).sum()
    }

    /// Nanoseconds the busiest thread had to wait for strangers. What the process's other threads ran on the same
    /// core is taken off: waiting for one's own helpers is no disturbance. Near zero on a quiet machine.
    pub(crate) fn disturbed_ns(&self) -> u64 {
        let busiest = self.0.values().max_by_key(|thread| thread.cpu_ns).copied().unwrap_or_default();
        let helpers_ns = self.cpu_ns() - busiest.cpu_ns;
        busiest.wait_ns.saturating_sub(helpers_ns)
    }
}

/// Reads what the processes used so far.
pub(crate) fn usage(pids: &[u32]) -> anyhow::Result<Usage> {
    let mut threads = BTreeMap::new();
    for pid in pids {
        let folder = format!("/proc/{pid}/task");
        for task in fs::read_dir(&folder).with_context(|| format!("listing {folder}"))? {
            let task = task?;
            let path = task.path().join("schedstat");
            // A thread may end between the listing and the reading; a process that did is caught above next time.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
            let mut next = || numbers.next().context("too few numbers")?.context("no number");
            let cpu_ns = next().with_context(|| format!("reading {}", path.display()))?;
            let wait_ns = next().with_context(|| format!("reading {}", path.display()))?;
            let id = task.file_name().to_string_lossy().parse().context("a thread without a number")?;
            threads.insert(id, Thread { cpu_ns, wait_ns });
        }
    }
    Ok(Usage(threads))
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
    use super::{Thread, Usage, resident_bytes, usage};

    #[test]
    fn this_process_has_memory_and_time_and_a_missing_one_is_an_error() {
        let own = std::process::id();
        assert!(resident_bytes(&[own]).unwrap() > 100_000);
        let before = usage(&[own]).unwrap();
        let mut sum = 0_u64;
        for number in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum ^ number);
        }
        assert!(usage(&[own]).unwrap().since(&before).cpu_ns() > 0);
        assert!(usage(&[u32::MAX]).is_err());
        assert!(resident_bytes(&[u32::MAX]).is_err());
    }

    #[test]
    fn helpers_are_no_strangers() {
        let thread = |cpu_ns, wait_ns| Thread { cpu_ns, wait_ns };
        let usage = |worker, helper| Usage([(1, worker), (2, helper)].into());
        let quiet = usage(thread(900, 40), thread(50, 30));
        assert_eq!((quiet.cpu_ns(), quiet.disturbed_ns()), (950, 0));
        assert_eq!(usage(thread(600, 400), thread(50, 30)).disturbed_ns(), 350);
        let later = usage(thread(1000, 45), thread(50, 30));
        assert_eq!((later.since(&quiet).cpu_ns(), later.since(&quiet).disturbed_ns()), (100, 5));
    }
}
