//! One scenario, measured: interleaved slices, then latency at fixed rates, then idle connections.
//!
//! Invariant: within a round every candidate runs once, and the order turns from round to round, so that drift
//! of the machine and what a neighbour leaves behind fall on all alike.
use std::time::{Duration, Instant};

use anyhow::Context;

use super::candidate::{Candidate, Program, Running};
use super::checks::{self, LogCount};
use super::load::{self, Aim, Expectation, Held, Idle, Latency, Slice, Surroundings};
use super::machine;
use super::probe::probe;
use super::scenario::{Burden, Scenario};

/// Load before each slice that is not counted: connections open, caches and pools fill.
const WARM: Duration = Duration::from_millis(200);
/// How long a proxy may hold back lines of its access log before it writes them.
const HELD_BACK: Duration = Duration::from_secs(1);
/// The rates at which latency is measured, requests a second.
pub(crate) const RATES: [u32; 2] = [4_000, 15_000];
/// The share of a slice something else may have had the proxy's core; above it the slice is thrown away and repeated.
/// Who is faster does not enter into it, so that throwing away favours nobody.
const DISTURBED_AT_MOST: f64 = 0.05;
/// How often a slice is tried before a disturbed one is kept.
const TRIES: usize = 3;
/// How often each candidate's latency is measured at each rate.
const LATENCY_ROUNDS: usize = 3;
/// Idle connections opened.
pub(crate) const IDLE_CONNECTIONS: usize = 1_000;
/// Idle connections opened at the gateway alone, at the end of scenario `idle`.
const MANY_CONNECTIONS: usize = 10_000;
/// Connections opened, used and closed before idle ones are counted, so that what a proxy needs anyway is not put down to
/// them. One at a time: what a real load leaves free would be used again and hide them.
const BEFORE_IDLE: usize = 64;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds of slices.
    pub(crate) rounds: usize,
    /// Length of a slice.
    pub(crate) slice: Duration,
    /// Whether to measure latency and idle connections too.
    pub(crate) is_whole: bool,
    /// When to stop waiting for quiet moments.
    pub(crate) patient_until: Instant,
}

/// What one candidate gave.
pub(crate) struct Row {
    /// Its label.
    pub(crate) label: String,
    /// Its program.
    pub(crate) program: Program,
    /// Where it is the heavy one of a pair: the index of the light one.
    pub(crate) light: Option<usize>,
    /// What it leaves out of the scenario's work.
    pub(crate) missing: Vec<String>,
    /// Slices that were thrown away because the machine was not quiet.
    pub(crate) thrown_away: usize,
    /// One slice a round.
    pub(crate) slices: Vec<Slice>,
    /// For each of [`RATES`], one result a latency round; empty where not measured.
    pub(crate) latencies: Vec<Vec<Latency>>,
    /// Memory; `None` where not measured.
    pub(crate) idle: Option<Idle>,
    /// Memory around ten times as many; only the gateway's in scenario `idle`.
    pub(crate) many: Option<Idle>,
}

/// One scenario's results.
pub(crate) struct Results {
    /// Which scenario.
    pub(crate) scenario: Scenario,
    /// HAProxy first, its control second, then the others.
    pub(crate) rows: Vec<Row>,
    /// Latency without any proxy.
    pub(crate) direct: Vec<Vec<Latency>>,
}

/// Who enters: HAProxy, its control, and the others; where a proxy is compared with itself each but the control twice.
struct Entry {
    candidate: Candidate,
    burden: Burden,
    light: Option<usize>,
}

fn entries(scenario: Scenario, candidates: &[Candidate]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let light = |candidate: &Candidate| Entry { candidate: candidate.clone(), burden: Burden::Light, light: None };
    if scenario.burdens().is_none() {
        return candidates.iter().map(light).collect();
    }
    // The reference and its control stay first and second.
    entries.extend(candidates.iter().take(2).map(light));
    for (index, candidate) in candidates.iter().enumerate().filter(|(index, _)| *index != 1) {
        if index > 0 {
            entries.push(light(candidate));
        }
        let light = if index == 0 { 0 } else { entries.len() - 1 };
        entries.push(Entry { candidate: candidate.clone(), burden: Burden::Heavy, light: Some(light) });
    }
    entries
}

struct Contestant {
    held: Option<Held>,
    aim: Aim,
    running: Running,
    expectation: Expectation,
    /// Whether waiting for others is part of the scenario.
    shares_cores: bool,
    log: LogCount,
    /// Whether every request must be in the log, and the log is here.
    is_logged: bool,
    answered: u64,
    row: Row,
}

/// Measures one scenario. The first candidate is the reference, the second its control.
pub(crate) fn run(scenario: Scenario, candidates: &[Candidate], plan: Plan) -> anyhow::Result<Results> {
    // Where cores are shared, one core's proxies must not find the upstream of the other.
    let one = Surroundings::start(scenario, Burden::Light)?;
    let two = scenario.shares_cores().then(|| Surroundings::start(scenario, Burden::Heavy)).transpose()?;
    let mut contestants = Vec::new();
    for entry in entries(scenario, candidates) {
        let surroundings = if entry.burden == Burden::Heavy { two.as_ref().unwrap_or(&one) } else { &one };
        contestants.push(Contestant::enter(scenario, &entry, surroundings)?);
    }
    for round in 0..plan.rounds {
        // Before a round and never within one: slices of a pair must lie close together.
        machine::wait_for_quiet(plan.patient_until)?;
        eprintln!("{}: round {} of {}", scenario.name(), round + 1, plan.rounds);
        for place in order(contestants.len(), round) {
            contestants[place].slice(plan)?;
        }
    }
    // What comes next is left out of the count; lines of the rounds that a proxy still holds back must not go with it.
    std::thread::sleep(HELD_BACK);
    for contestant in &mut contestants {
        contestant.count_log()?;
    }
    let mut direct = Vec::new();
    if plan.is_whole && Scenario::IN_DEPTH.contains(&scenario) {
        eprintln!("{}: latency", scenario.name());
        direct = latencies(&mut contestants, &one)?;
        eprintln!("{}: idle connections", scenario.name());
        for contestant in &mut contestants {
            contestant.row.idle = Some(contestant.idle(IDLE_CONNECTIONS)?);
        }
    }
    if scenario == Scenario::Idle {
        let is_ours = |row: &Row| row.program == Program::Portcullis && row.light.is_none();
        for contestant in contestants.iter_mut().filter(|contestant| is_ours(&contestant.row)) {
            eprintln!("{}: {MANY_CONNECTIONS} idle connections", scenario.name());
            let fresh = candidates.iter().find(|candidate| contestant.row.label.starts_with(&candidate.label));
            let fresh = fresh.context("a row without a candidate")?.start(scenario, Burden::Light, one.peers, &[])?;
            load::idle(fresh.listen, &fresh.pids, BEFORE_IDLE, contestant.expectation)?;
            contestant.row.many =
                Some(load::idle(fresh.listen, &fresh.pids, MANY_CONNECTIONS, contestant.expectation)?);
        }
    }
    let rows = contestants.into_iter().map(Contestant::leave).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Results { scenario, rows, direct })
}

/// The places in the order of a round: turned by one each round, and backwards every second time through.
fn order(places: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..places).map(|place| (place + round) % places).collect();
    if (round / places) % 2 == 1 {
        order.reverse();
    }
    order
}

fn latencies(contestants: &mut [Contestant], surroundings: &Surroundings) -> anyhow::Result<Vec<Vec<Latency>>> {
    let mut direct = vec![Vec::new(); RATES.len()];
    for _ in 0..LATENCY_ROUNDS {
        for (place, rate) in RATES.into_iter().enumerate() {
            let plain = Expectation { status: 200, slips: 0 };
            direct[place].push(load::open(surroundings.peers.upstream, rate, plain)?);
            // The control adds nothing here.
            for (_, contestant) in contestants.iter_mut().enumerate().filter(|(index, _)| *index != 1) {
                let latency = load::open(contestant.running.listen, rate, contestant.expectation)
                    .with_context(|| format!("{} at {rate} requests a second", contestant.row.label))?;
                contestant.row.latencies[place].push(latency);
                contestant.skip_log()?;
            }
        }
    }
    Ok(direct)
}

impl Contestant {
    fn enter(scenario: Scenario, entry: &Entry, surroundings: &Surroundings) -> anyhow::Result<Self> {
        let Entry { candidate, burden, light } = entry;
        let running = candidate.start(scenario, *burden, surroundings.peers, &[])?;
        let missing = checks::work_of(candidate, scenario, &running)?;
        // HAProxy leaves a line out when another of its threads is writing one.
        let drops_lines = candidate.program == Program::Haproxy && scenario.cores(*burden) > 1;
        let is_logged = scenario.is_logged() && !drops_lines && !candidate.logs_elsewhere(scenario)?;
        let expectation = checks::expectation(candidate, scenario);
        let burdens = scenario.burdens().map(|[light, heavy]| if *burden == Burden::Light { light } else { heavy });
        let label = burdens.map_or_else(|| candidate.label.clone(), |burden| format!("{}, {burden}", candidate.label));
        let mut contestant = Self {
            held: None,
            aim: Aim::new(scenario, *burden, &running, expectation),
            expectation,
            shares_cores: scenario.shares_cores(),
            log: LogCount::new(),
            is_logged,
            answered: 0,
            row: Row {
                label,
                program: candidate.program,
                light: *light,
                missing,
                thrown_away: 0,
                slices: Vec::new(),
                latencies: vec![Vec::new(); RATES.len()],
                idle: None,
                many: None,
            },
            running,
        };
        if scenario == Scenario::Idle && *burden == Burden::Heavy {
            contestant.hold()?;
        }
        contestant.skip_log()?;
        if candidate.program == Program::Portcullis && scenario == Scenario::Refused {
            // Whatever a fresh limiter lets through is spent here and not in the first slice.
            for _ in 0..3 {
                probe(scenario, &contestant.running)?;
            }
        }
        Ok(contestant)
    }

    /// Opens the idle connections that stay through all rounds.
    fn hold(&mut self) -> anyhow::Result<()> {
        let Running { listen, pids, .. } = &self.running;
        load::idle(*listen, pids, BEFORE_IDLE, self.expectation)?;
        let held = Held::open(*listen, pids, IDLE_CONNECTIONS, self.expectation)
            .with_context(|| format!("idle connections of {}", self.row.label))?;
        self.row.idle = Some(held.idle.clone());
        self.held = Some(held);
        Ok(())
    }

    fn slice(&mut self, plan: Plan) -> anyhow::Result<()> {
        for try_number in 1.. {
            let slice = load::closed(&self.aim, &self.running.pids, WARM, plan.slice)
                .with_context(|| format!("a slice of {}", self.row.label))?;
            self.answered += slice.answered_in_all;
            self.log.take(&self.running.log)?;
            if self.shares_cores || slice.disturbed() <= DISTURBED_AT_MOST || try_number >= TRIES {
                self.row.slices.push(slice);
                break;
            }
            self.row.thrown_away += 1;
        }
        Ok(())
    }

    fn idle(&mut self, connections: usize) -> anyhow::Result<Idle> {
        let idle = load::idle(self.running.listen, &self.running.pids, connections, self.expectation)
            .with_context(|| format!("idle connections of {}", self.row.label))?;
        self.skip_log()?;
        Ok(idle)
    }

    /// Counts lines of the access log that belong to slices.
    fn count_log(&mut self) -> anyhow::Result<()> {
        self.log.take(&self.running.log)
    }

    /// Leaves out lines of the access log that belong to no slice.
    fn skip_log(&mut self) -> anyhow::Result<()> {
        self.log.skip(&self.running.log)
    }

    fn leave(mut self) -> anyhow::Result<Row> {
        if let Some(held) = &mut self.held {
            held.check().with_context(|| format!("idle connections of {}", self.row.label))?;
        }
        self.running.stop();
        // What a proxy still held back for a batch.
        self.log.take(&self.running.log)?;
        if self.is_logged {
            self.log.check(self.answered).with_context(|| format!("the access log of {}", self.row.label))?;
        }
        Ok(self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::{Burden, Candidate, Scenario, entries, order};

    #[test]
    fn pairs_keep_reference_and_control_in_front_and_know_their_light_half() {
        let haproxy = Candidate::parse("haproxy").unwrap();
        let candidates = [haproxy.clone(), haproxy.again(), Candidate::parse("portcullis").unwrap()];
        let seen: Vec<_> = entries(Scenario::Routes, &candidates)
            .into_iter()
            .map(|entry| (entry.candidate.label, entry.burden, entry.light))
            .collect();
        let expected = [
            ("haproxy", Burden::Light, None),
            ("haproxy (again)", Burden::Light, None),
            ("haproxy", Burden::Heavy, Some(0)),
            ("portcullis", Burden::Light, None),
            ("portcullis", Burden::Heavy, Some(3)),
        ];
        assert_eq!(seen, expected.map(|(label, burden, light)| (label.to_owned(), burden, light)));
        assert!(entries(Scenario::Full, &candidates).iter().all(|entry| entry.light.is_none()));
    }

    #[test]
    fn everyone_runs_once_a_round_and_in_every_place() {
        for places in 1..6 {
            let mut seen = vec![vec![0; places]; places];
            for round in 0..2 * places {
                let mut order = order(places, round);
                order.iter().enumerate().for_each(|(at, &place)| seen[place][at] += 1);
                order.sort_unstable();
                assert_eq!(order, (0..places).collect::<Vec<_>>());
            }
            assert!(seen.iter().flatten().all(|&times| times == 2), "{places}: {seen:?}");
        }
    }
}
