//! Looks at the process's memory and descriptors ten times a second or more, on the thread that serves no requests.
//!
//! What is seen goes to [`Pressure`], which guards and listeners read. At start the limit on descriptors is raised to what
//! the system allows, and the last of them are kept for the gateway itself.
//!
//! Invariant: looking needs no descriptor, so that it goes on when there is none left.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portcullis_guards::overload::{Level, Pressure, Reading, Resource, Rules};
use rustix::process::{Resource as Limited, Rlimit, getrlimit, setrlimit};

use crate::life::Gate;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often from half of a limit on: a flood can fill the rest in less than a tenth of a second.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(20);
/// Kernels before 6.2 do not tell the number of descriptors; counting them is dear, so it is done seldom.
const COUNT_EVERY_LOOKS: u32 = 10;
/// At least and at most this many descriptors are kept from clients; an eighth of all in between.
const RESERVE: std::ops::RangeInclusive<u64> = 16..=512;

/// Where the numbers come from.
pub struct Sight {
    /// `/proc/self/statm`, held open.
    memory: Option<File>,
    page_bytes: u64,
    /// Of the control group or the machine.
    memory_limit: Option<u64>,
    looks: u32,
    counted: Option<u64>,
}

impl Sight {
    /// Raises the limit on descriptors and finds out what the limits are.
    #[must_use]
    pub fn open(pressure: &Pressure) -> Sight {
        raise_descriptors();
        pressure.reserve_descriptors(for_clients());
        Sight {
            memory: File::open("/proc/self/statm").ok(),
            page_bytes: rustix::param::page_size() as u64,
            memory_limit: [group_limit(), machine_memory()].into_iter().flatten().min(),
            looks: 0,
            counted: None,
        }
    }

    /// Looks once, and gives the levels that changed.
    pub fn look(&mut self, pressure: &Pressure, rules: &Rules) -> Vec<(&'static str, Level)> {
        let before = pressure.levels();
        if let (Some(used), Some(limit)) = (self.resident_bytes(), rules.memory_bytes.or(self.memory_limit)) {
            pressure.look(Resource::Memory, Reading { used, limit }, rules.marks);
        }
        if let Some(used) = self.descriptors() {
            // The limit can be changed from outside (prlimit(1)) while the process runs.
            let limit = for_clients();
            pressure.reserve_descriptors(limit);
            pressure.look(Resource::Descriptors, Reading { used, limit }, rules.marks);
        }
        let after = pressure.levels();
        let changed = [("memory", before.memory, after.memory), ("descriptors", before.descriptors, after.descriptors)];
        changed.into_iter().filter(|(_, before, after)| before != after).map(|(name, _, after)| (name, after)).collect()
    }

    /// The second number of `statm`, in pages (proc_pid_statm(5)).
    fn resident_bytes(&self) -> Option<u64> {
        let mut text = [0_u8; 128];
        let read = self.memory.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(&text[..read]).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages * self.page_bytes)
    }

    /// The size of `/proc/self/fd` is the number of descriptors since Linux 6.2; before, it is 0 and they are counted.
    fn descriptors(&mut self) -> Option<u64> {
        const FOLDER: &str = "/proc/self/fd";
        let told = std::fs::metadata(FOLDER).ok()?.size();
        if told > 0 {
            return Some(told);
        }
        if self.looks.is_multiple_of(COUNT_EVERY_LOOKS) {
            // Where there is no descriptor left to count with, what was counted last stands.
            self.counted = std::fs::read_dir(FOLDER).ok().map(|entries| entries.count() as u64).or(self.counted);
        }
        self.looks = self.looks.wrapping_add(1);
        self.counted
    }
}

/// Looks for ever.
pub async fn watch(gate: Arc<Gate>, mut sight: Sight) {
    loop {
        let running = gate.running();
        for (resource, level) in sight.look(&gate.ground.pressure, &running.overload) {
            let severity = if level == Level::Calm { "info" } else { "warn" };
            gate.log.event(severity, "pressure", &[("resource", resource), ("level", level.name())]);
        }
        let readings = [Resource::Memory, Resource::Descriptors].map(|resource| gate.ground.pressure.reading(resource));
        let is_half_full = readings.iter().flatten().any(|reading| reading.used > reading.limit / 2);
        tokio::time::sleep(if is_half_full { LOOK_CLOSELY_EVERY } else { LOOK_EVERY }).await;
    }
}

/// Raises the soft limit to the hard one. Where that is not allowed, what there is must do.
fn raise_descriptors() {
    let maximum = getrlimit(Limited::Nofile).maximum;
    let _ = setrlimit(Limited::Nofile, Rlimit { current: maximum, maximum });
}

/// Descriptors that clients may have: the limit without the reserve.
fn for_clients() -> u64 {
    // Without a limit: descriptor numbers are ints.
    let limit = getrlimit(Limited::Nofile).current.unwrap_or(i32::MAX as u64);
    let reserve = (limit / 8).clamp(*RESERVE.start(), *RESERVE.end()).min(limit / 2);
    limit - reserve
}

/// The least memory limit of the process's control groups: its own or one above it, version 2 or 1.
fn group_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (controllers, path) = (parts.nth(1)?, parts.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        least_limit(Path::new(root), path, file)
    });
    limits.min()
}

/// Inside a container the path may be that of the host; then the root itself carries the limit.
fn least_limit(root: &Path, path: &str, file: &str) -> Option<u64> {
    let own: PathBuf = root.join(path.trim_start_matches('/'));
    let above = own.ancestors().take_while(|folder| folder.starts_with(root));
    // `max`, and the huge number that version 1 says for it, are no limit.
    let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    above.filter_map(read).filter(|limit| *limit < 1 << 60).min()
}

fn machine_memory() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use portcullis_core::metric::Registry;
    use portcullis_guards::config::PathConfig;

    use super::*;

    #[test]
    fn the_process_sees_itself() {
        let pressure = Pressure::new(&Registry::new("p"));
        let mut sight = Sight::open(&pressure);
        let rules = Rules::compile(&PathConfig::default()).expect("the defaults are valid");
        sight.look(&pressure, &rules);
        let memory = pressure.reading(Resource::Memory).expect("Linux tells");
        assert!((1 << 20..memory.limit).contains(&memory.used), "{memory:?}");
        let before = pressure.reading(Resource::Descriptors).expect("Linux tells").used;
        let held: Vec<_> = (0..50).map(|_| File::open("/dev/null").expect("it opens")).collect();
        sight.counted = None;
        sight.looks = 0;
        sight.look(&pressure, &rules);
        // Other tests of this process open and close files too.
        let after = pressure.reading(Resource::Descriptors).expect("Linux tells").used;
        assert!(after >= before + 30, "{before} {after}");
        drop(held);
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("portcullis-groups-{}", std::process::id()));
        std::fs::create_dir_all(root.join("a/b")).expect("it can be made");
        let write = |path: &str, text: &str| std::fs::write(root.join(path), text).expect("it can be written");
        write("memory.max", "max\n");
        write("a/memory.max", "1048576\n");
        write("a/b/memory.max", "2097152\n");
        let limit = |path| least_limit(&root, path, "memory.max");
        assert_eq!(limit("/a/b"), Some(1 << 20));
        assert_eq!(limit("/"), None);
        // A path of the host, which is not there inside the container.
        write("memory.max", "4194304\n");
        assert_eq!(limit("/docker/0123"), Some(4 << 20));
        write("memory.max", "9223372036854771712\n");
        assert_eq!(limit("/docker/0123"), None);
        std::fs::remove_dir_all(&root).expect("it was made");
    }
}
