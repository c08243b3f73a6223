//! One scenario, measured: interleaved slices, then latency at fixed rates, then idle connections.
//!
//! Invariant: within a round every candidate runs once, and the order turns from round to round, so that drift
//! of the machine and what a neighbour leaves behind fall on all alike.
use std::time::{Duration, Instant};

use anyhow::Context;

use super::candidate::{Candidate, Program, Running};
use super::checks::{self, LogCount};
use super::load::{self, Expectation, Idle, Latency, Slice, Surroundings};
use super::machine;
use super::scenario::Scenario;

/// Load before each slice that is not counted: connections open, caches and pools fill.
const WARM: Duration = Duration::from_millis(200);
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

struct Contestant {
    running: Running,
    expectation: Expectation,
    log: Option<LogCount>,
    answered: u64,
    row: Row,
}

/// Measures one scenario. The first candidate is the reference, the second its control.
pub(crate) fn run(scenario: Scenario, candidates: &[Candidate], plan: Plan) -> anyhow::Result<Results> {
    let surroundings = Surroundings::start()?;
    let mut contestants = Vec::new();
    for candidate in candidates {
        contestants.push(Contestant::enter(scenario, candidate, &surroundings)?);
    }
    for round in 0..plan.rounds {
        // Before a round and never within one: slices of a pair must lie close together.
        machine::wait_for_quiet(plan.patient_until)?;
        eprintln!("{}: round {} of {}", scenario.name(), round + 1, plan.rounds);
        for place in order(contestants.len(), round) {
            contestants[place].slice(plan)?;
        }
    }
    let mut direct = Vec::new();
    if plan.is_whole {
        eprintln!("{}: latency", scenario.name());
        direct = latencies(&mut contestants, &surroundings)?;
        eprintln!("{}: idle connections", scenario.name());
        for contestant in &mut contestants {
            contestant.idle()?;
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
                contestant.discard_log()?;
            }
        }
    }
    Ok(direct)
}

impl Contestant {
    fn enter(scenario: Scenario, candidate: &Candidate, surroundings: &Surroundings) -> anyhow::Result<Self> {
        let running = candidate.start(scenario, surroundings.peers, &[])?;
        let missing = checks::work_of(candidate, scenario, &running)?;
        let is_counted = scenario.is_logged() && !candidate.logs_elsewhere(scenario)?;
        let mut contestant = Self {
            expectation: checks::expectation(candidate, scenario),
            log: None,
            answered: 0,
            row: Row {
                label: candidate.label.clone(),
                missing,
                thrown_away: 0,
                slices: Vec::new(),
                latencies: vec![Vec::new(); RATES.len()],
                idle: None,
            },
            running,
        };
        contestant.empty_log()?;
        contestant.log = is_counted.then(LogCount::new);
        if candidate.program == Program::Portcullis && scenario == Scenario::Refused {
            // Whatever a fresh limiter lets through is spent here and not in the first slice.
            for _ in 0..3 {
                load::probe(contestant.running.listen)?;
            }
        }
        Ok(contestant)
    }

    fn slice(&mut self, plan: Plan) -> anyhow::Result<()> {
        for try_number in 1.. {
            let slice = load::closed(self.running.listen, &self.running.pids, WARM, plan.slice, self.expectation)
                .with_context(|| format!("a slice of {}", self.row.label))?;
            self.answered += slice.answered_in_all;
            self.empty_log()?;
            if slice.disturbed() <= DISTURBED_AT_MOST || try_number >= TRIES {
                self.row.slices.push(slice);
                break;
            }
            self.row.thrown_away += 1;
        }
        Ok(())
    }

    fn idle(&mut self) -> anyhow::Result<()> {
        let idle = load::idle(self.running.listen, &self.running.pids, IDLE_CONNECTIONS, self.expectation)
            .with_context(|| format!("idle connections of {}", self.row.label))?;
        self.row.idle = Some(idle);
        self.discard_log()
    }

    /// Counts the access log's lines, where that is asked for, and empties it.
    fn empty_log(&mut self) -> anyhow::Result<()> {
        match &mut self.log {
            Some(count) => count.take(&self.running.log),
            None => self.discard_log(),
        }
    }

    /// Empties the access log of lines that belong to no slice.
    fn discard_log(&self) -> anyhow::Result<()> {
        LogCount::new().take(&self.running.log)
    }

    fn leave(mut self) -> anyhow::Result<Row> {
        self.running.stop();
        // What a proxy still held back for a batch.
        self.empty_log()?;
        if let Some(log) = &self.log {
            log.check(self.answered).with_context(|| format!("the access log of {}", self.row.label))?;
        }
        Ok(self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::order;

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
