//! Looks after the targets of all upstreams, on the thread that serves no requests: look-ups, health checks, the end of
//! ejections, and what is said about all of it in the log and the metrics.
//!
//! `lookups` follows names, `checks` asks targets. Each target has one task for each, which lives as long as its upstream
//! is configured; a reload that keeps the upstream keeps them.
//!
//! Invariant: cores learn of all this through atomics only; the number of questions on their way is bounded.

pub(crate) mod checks;
mod lookups;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::clock::Clock;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::targets::Target;
use super::targets::balance::Candidate;
use super::upstream::Upstream;
use crate::life::{Gate, Stage};

/// How late an ejection may end, and a change be told.
const TICK: Duration = Duration::from_millis(100);
/// The same trouble with a target is told again after this long; every one is counted.
const SAME_TROUBLE_NANOS: u64 = 10_000_000_000;
/// Look-ups at once, over all upstreams.
const MOST_LOOKUPS: usize = 32;
/// Health checks at once, over all upstreams.
const MOST_CHECKS: usize = 64;

/// Looks after targets until the process ends.
pub async fn run(gate: Arc<Gate>) {
    let lookups = Rc::new(Semaphore::new(MOST_LOOKUPS));
    let checks = Rc::new(Semaphore::new(MOST_CHECKS));
    let mut kept: HashMap<u64, Kept> = HashMap::new();
    let mut generation = None;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while gate.stage() != Stage::Stopped {
        ticks.tick().await;
        let newest = gate.generation();
        if generation.replace(newest) != Some(newest) {
            let running = gate.running();
            kept.retain(|id, kept| {
                let stays = running.upstreams().any(|upstream| upstream.id == *id);
                if !stays {
                    kept.forget();
                }
                stays
            });
            for upstream in running.upstreams() {
                kept.entry(upstream.id).or_insert_with(|| Kept::begin(&gate, upstream, &lookups, &checks));
            }
        }
        let now = gate.clock.now().monotonic_nanos;
        for kept in kept.values_mut() {
            kept.upstream.release(now);
            kept.tell(&gate);
        }
    }
}

/// A task that ends with the value.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One upstream that is looked after.
struct Kept {
    upstream: Arc<Upstream>,
    /// What was last said of each target: healthy, ejected.
    said: Vec<(bool, bool)>,
    said_panic: bool,
    /// What was last said of trouble with each target, and when.
    said_trouble: Vec<(String, u64)>,
    _tasks: Vec<Task>,
}

impl Kept {
    fn begin(gate: &Arc<Gate>, upstream: &Arc<Upstream>, lookups: &Rc<Semaphore>, checks: &Rc<Semaphore>) -> Kept {
        let mut tasks = Vec::new();
        for target in &upstream.targets {
            let about = About { gate: Arc::clone(gate), upstream: Arc::clone(upstream), target: Arc::clone(target) };
            if target.addresses.is_name {
                let looking = lookups::follow(about.clone(), Rc::clone(lookups));
                tasks.push(Task(tokio::task::spawn_local(looking)));
            }
            if let Some(rules) = &upstream.health {
                let asking = checks::ask_on(about, rules.clone(), Rc::clone(checks));
                tasks.push(Task(tokio::task::spawn_local(asking)));
            }
        }
        if upstream.is_credulous() {
            let what = "certificates are not verified: whoever can reach the wire can pretend to be it";
            gate.log.event("warn", "upstream_not_verified", &[("upstream", &upstream.name), ("what", what)]);
        }
        let said = vec![(true, false); upstream.targets.len()];
        let said_trouble = vec![(String::new(), 0); upstream.targets.len()];
        Kept { upstream: Arc::clone(upstream), said, said_panic: false, said_trouble, _tasks: tasks }
    }

    /// Nobody looks after it any more: its series say nothing against anybody.
    fn forget(&self) {
        self.upstream.meter.panic.set(0);
        for target in &self.upstream.targets {
            target.meter.up.set(1);
        }
    }

    /// Says in log and metrics what has changed.
    fn tell(&mut self, gate: &Gate) {
        let now = gate.clock.now().monotonic_nanos;
        let said = self.said.iter_mut().zip(&mut self.said_trouble);
        for (target, ((was_healthy, was_ejected), (trouble, at))) in self.upstream.targets.iter().zip(said) {
            let say = |level, event, more: &[(&str, &str)]| {
                let mut fields = vec![("upstream", &*self.upstream.name), ("target", &*target.label)];
                fields.extend_from_slice(more);
                gate.log.event(level, event, &fields);
            };
            target.meter.up.set(i64::from(target.is_good()));
            if target.is_ejected() != *was_ejected {
                *was_ejected = !*was_ejected;
                match self.upstream.ejected_for_nanos(target.index, now) {
                    Some(left) => say("warn", "target_ejected", &[("for_ms", &(left / 1_000_000).to_string())]),
                    None => say("info", "target_returned", &[]),
                }
            }
            if target.is_healthy() != *was_healthy {
                *was_healthy = !*was_healthy;
                match *was_healthy {
                    true => say("info", "target_healthy", &[]),
                    false => say("warn", "target_unhealthy", &[("why", &target.last_check())]),
                }
            }
            if let Some((event, why)) = target.take_trouble()
                && (*trouble != why || now.saturating_sub(*at) >= SAME_TROUBLE_NANOS)
            {
                say("error", event, &[("why", &why)]);
                (*trouble, *at) = (why, now);
            }
        }
        let is_panicking = self.upstream.is_panicking();
        self.upstream.meter.panic.set(i64::from(is_panicking));
        if is_panicking != self.said_panic {
            self.said_panic = is_panicking;
            let (level, event) =
                if is_panicking { ("error", "upstream_panic") } else { ("info", "upstream_recovered") };
            let what = if is_panicking { "no target is well, so all are used" } else { "a target is well again" };
            gate.log.event(level, event, &[("upstream", &self.upstream.name), ("what", what)]);
        }
    }
}

/// What a task is about.
#[derive(Clone)]
struct About {
    gate: Arc<Gate>,
    upstream: Arc<Upstream>,
    target: Arc<Target>,
}

impl About {
    fn say(&self, level: &str, event: &str, key: &str, value: &str) {
        let fields = [("upstream", &*self.upstream.name), ("target", &*self.target.label), (key, value)];
        self.gate.log.event(level, event, &fields);
    }
}
