//! Tables for people, JSON for machines, and the verdicts.
//!
//! Ratios are CPU per request of a candidate over HAProxy's, each from the same round; smaller is better.
//!
//! Invariant: when HAProxy against itself leaves [`CONTROL`], or something else held the proxies' core, the run is void
//! and says so before any figure.
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::load::{CONNECTIONS, Latency, Slice};
use super::rounds::{IDLE_CONNECTIONS, Plan, RATES, Results, Row};
use super::scenario::Scenario;
use super::statistics::Sample;

/// Where the median of HAProxy over HAProxy must lie for a run to count.
const CONTROL: std::ops::RangeInclusive<f64> = 0.95..=1.05;

/// The median share of slices in which a stranger may have a candidate's core.
const DISTURBED_AT_MOST: f64 = 0.10;
/// Both reasons in words.
pub(crate) const WHY_VOID: &str =
    "HAProxy against itself left 0.95-1.05, or something else had the proxies' core for more than a tenth of the time";

/// How a goal was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    /// The median misses the goal, but the interval reaches it: noise may be the reason.
    Undecided,
    Missed,
}

fn verdict(ratio: &Sample, goal: f64) -> Verdict {
    if ratio.median() <= goal {
        Verdict::Met
    } else if ratio.median_interval().0 <= goal {
        Verdict::Undecided
    } else {
        Verdict::Missed
    }
}

/// A candidate's CPU per request over the reference's, round by round.
fn ratios(row: &Row, reference: &Row) -> Option<Sample> {
    let pairs = row.slices.iter().zip(&reference.slices);
    Sample::new(pairs.map(|(own, reference)| own.cpu_us() / reference.cpu_us()).collect())
}

/// The median share of its slices in which a stranger had a candidate's core.
fn disturbed(row: &Row) -> f64 {
    Sample::new(row.slices.iter().map(Slice::disturbed).collect()).map_or(0.0, |share| share.median())
}

impl Results {
    /// Whether the machine was too noisy for the ratios to mean anything. A busy neighbour costs candidates unequally,
    /// and the control can pass by luck.
    pub(crate) fn is_void(&self) -> bool {
        let [reference, control, ..] = &self.rows[..] else { return true };
        let is_disturbed = self.rows.iter().any(|row| disturbed(row) > DISTURBED_AT_MOST);
        is_disturbed || ratios(control, reference).is_none_or(|ratio| !CONTROL.contains(&ratio.median()))
    }

    /// The tables.
    pub(crate) fn text(&self, plan: Plan) -> String {
        let mut text = format!(
            "\n## {}: {} rounds x {} ms, {CONNECTIONS} connections\n\n",
            self.scenario.name(),
            plan.rounds,
            plan.slice.as_millis()
        );
        if self.is_void() {
            let _ = write!(text, "**VOID: {WHY_VOID}. No ratio below means anything.**\n\n");
        }
        text.push_str(
            "| candidate | req/s median (min-max) | CPU us/req median (min-max) | CPU / haproxy: median (IQR) [95 % interval] \
             | RSS MiB | bytes/idle connection | disturbed |\n|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            self.write_row(&mut text, row);
        }
        let thrown_away: usize = self.rows.iter().map(|row| row.thrown_away).sum();
        if thrown_away > 0 {
            let _ = writeln!(
                text,
                "\n{thrown_away} slices were thrown away and repeated, because the machine was not quiet."
            );
        }
        for row in self.rows.iter().filter(|row| !row.missing.is_empty()) {
            let _ = writeln!(text, "\n{} does less: no {}.", row.label, row.missing.join(", no "));
        }
        if self.rows.iter().any(|row| row.idle.is_some()) {
            self.write_latencies(&mut text);
        }
        self.write_comparisons(&mut text);
        self.write_verdicts(&mut text);
        text
    }

    fn write_row(&self, text: &mut String, row: &Row) {
        let spread = |value: fn(&Slice) -> f64, digits: usize| {
            Sample::new(row.slices.iter().map(value).collect()).map_or("-".to_owned(), |sample| {
                let (median, low, high) = (sample.median(), sample.smallest(), sample.largest());
                format!("{median:.digits$} ({low:.digits$}-{high:.digits$})")
            })
        };
        let ratio = ratios(row, &self.rows[0]).map_or("-".to_owned(), |sample| {
            let ((low, high), (from, to)) = (sample.median_interval(), (sample.quantile(0.25), sample.quantile(0.75)));
            format!("{:.3} ({from:.3}-{to:.3}) [{low:.3}-{high:.3}]", sample.median())
        });
        let ratio = if std::ptr::eq(row, &self.rows[0]) { "1".to_owned() } else { ratio };
        let (memory, per_connection) = row.idle.as_ref().map_or(("-".to_owned(), "-".to_owned()), |idle| {
            let mebibytes = idle.before_bytes as f64 / 1024.0 / 1024.0;
            (format!("{mebibytes:.1}"), format!("{:.0}", idle.bytes_per_connection()))
        });
        let _ = writeln!(
            text,
            "| {} | {} | {} | {ratio} | {memory} | {per_connection} | {:.1} % |",
            row.label,
            spread(Slice::requests_per_second, 0),
            spread(Slice::cpu_us, 2),
            disturbed(row) * 100.0,
        );
    }

    fn write_latencies(&self, text: &mut String) {
        text.push_str("\nLatency in us from the scheduled start, median (min-max) of the rounds:\n\n| |");
        for rate in RATES {
            let _ = write!(text, " p50 at {rate}/s | p99 at {rate}/s |");
        }
        let _ = writeln!(text, "\n|---|{}", "---|---|".repeat(RATES.len()));
        let rows = self.rows.iter().filter(|row| row.latencies.iter().any(|rounds| !rounds.is_empty()));
        let direct = std::iter::once(("direct", &self.direct));
        for (label, latencies) in direct.chain(rows.map(|row| (row.label.as_str(), &row.latencies))) {
            let _ = write!(text, "| {label} |");
            for rounds in latencies {
                for value in [|latency: &Latency| latency.p50_us, |latency: &Latency| latency.p99_us] {
                    let cell = Sample::new(rounds.iter().map(value).collect()).map_or("-".to_owned(), |sample| {
                        format!("{:.0} ({:.0}-{:.0})", sample.median(), sample.smallest(), sample.largest())
                    });
                    let _ = write!(text, " {cell} |");
                }
            }
            text.push('\n');
        }
        let _ = writeln!(text, "\nIdle: {IDLE_CONNECTIONS} connections, each used once. p99 is a report, not a gate.");
    }

    /// The gateway against everyone else who is not the reference, from the same rounds.
    fn write_comparisons(&self, text: &mut String) {
        let is_ours = |row: &&Row| row.label.starts_with("portcullis");
        for own in self.rows.iter().filter(is_ours) {
            for other in self.rows.iter().skip(2).filter(|row| row.label != own.label) {
                let Some(ratio) = ratios(own, other) else { continue };
                let (low, high) = ratio.median_interval();
                let _ =
                    writeln!(text, "\nCPU {} / {}: {:.3} [{low:.3}-{high:.3}]", own.label, other.label, ratio.median());
            }
        }
    }

    fn write_verdicts(&self, text: &mut String) {
        let Some(goal) = self.scenario.cpu_goal() else { return };
        for row in self.rows.iter().filter(|row| row.label.starts_with("portcullis")) {
            let Some(ratio) = ratios(row, &self.rows[0]) else { continue };
            let median = ratio.median();
            let _ = match verdict(&ratio, goal) {
                _ if self.is_void() => writeln!(text, "\nGoal {goal}: no verdict, the run is void."),
                Verdict::Met => writeln!(text, "\nGoal {goal}: met by {} with {median:.3}.", row.label),
                Verdict::Undecided => writeln!(
                    text,
                    "\nGoal {goal}: undecided for {}; the median {median:.3} misses it, the interval reaches it.",
                    row.label
                ),
                Verdict::Missed => {
                    let short = (median / goal - 1.0) * 100.0;
                    writeln!(text, "\nGoal {goal}: MISSED by {} with {median:.3}, {short:.1} % too much.", row.label)
                }
            };
        }
    }

    /// Everything measured, round by round.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let ratio = ratios(row, &self.rows[0]);
                let each = |value: fn(&Slice) -> f64| row.slices.iter().map(value).collect::<Vec<_>>();
                json!({
                    "candidate": row.label,
                    "leaves_out": row.missing,
                    "thrown_away_slices": row.thrown_away,
                    "requests_per_second": each(Slice::requests_per_second),
                    "cpu_us_per_request": each(Slice::cpu_us),
                    "disturbed_share": each(Slice::disturbed),
                    "cpu_ratio_median": ratio.as_ref().map(Sample::median),
                    "cpu_ratio_interval": ratio.as_ref().map(Sample::median_interval),
                    "latency": latency_json(&row.latencies),
                    "resident_bytes": row.idle.as_ref().map(|idle| idle.before_bytes),
                    "bytes_per_idle_connection": row.idle.as_ref().map(|idle| idle.bytes_per_connection()),
                })
            })
            .collect();
        json!({
            "scenario": self.scenario.name(), "is_void": self.is_void(), "rows": rows,
            "direct_latency": latency_json(&self.direct),
        })
    }
}

fn latency_json(latencies: &[Vec<Latency>]) -> Value {
    let rates = RATES.iter().zip(latencies).map(|(rate, rounds)| {
        let each = |value: fn(&Latency) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
        json!({ "requests_per_second": rate, "p50_us": each(|one| one.p50_us), "p99_us": each(|one| one.p99_us) })
    });
    rates.collect()
}

/// The lines that sum several scenarios up.
pub(crate) fn summary(results: &[Results]) -> String {
    let void: Vec<&str> = results.iter().filter(|one| one.is_void()).map(|one| one.scenario.name()).collect();
    match void.is_empty() {
        true => format!("All controls within 0.95-1.05, nothing disturbed ({} scenarios).", results.len()),
        false => format!("VOID: {}. Let the machine rest and run again.", void.join(", ")),
    }
}

/// The scenarios that have no valid result.
pub(crate) fn void_scenarios(results: &[Results]) -> Vec<Scenario> {
    results.iter().filter(|one| one.is_void()).map(|one| one.scenario).collect()
}

#[cfg(test)]
mod tests {
    use super::{Results, Row, Slice, Verdict, verdict};
    use crate::bench::rounds::Plan;
    use crate::bench::scenario::Scenario;
    use crate::bench::statistics::Sample;
    use std::time::{Duration, Instant};

    fn results(control_us: f64, ours_us: f64, disturbed: f64) -> Results {
        let row = |label: &str, cpu_us| Row {
            label: label.to_owned(),
            missing: Vec::new(),
            thrown_away: 0,
            slices: vec![Slice::pretend(cpu_us, disturbed); 6],
            latencies: Vec::new(),
            idle: None,
        };
        let rows = vec![row("haproxy", 20.0), row("haproxy (again)", control_us), row("portcullis", ours_us)];
        Results { scenario: Scenario::Full, rows, direct: Vec::new() }
    }

    #[test]
    fn a_control_off_the_mark_and_a_neighbour_make_a_run_void() {
        assert!(!results(20.5, 10.0, 0.01).is_void());
        assert!(results(22.0, 10.0, 0.01).is_void());
        assert!(results(18.0, 10.0, 0.01).is_void());
        assert!(results(20.0, 10.0, 0.2).is_void());
    }

    #[test]
    fn a_void_run_gives_no_verdict() {
        let patient_until = Instant::now();
        let plan = Plan { rounds: 6, slice: Duration::from_secs(1), is_whole: false, patient_until };
        assert!(results(20.0, 10.0, 0.0).text(plan).contains("Goal 0.83: met by portcullis with 0.500."));
        assert!(results(20.0, 18.0, 0.0).text(plan).contains("MISSED by portcullis with 0.900, 8.4 % too much."));
        let void = results(25.0, 10.0, 0.0).text(plan);
        assert!(void.contains("VOID") && void.contains("no verdict") && !void.contains("met by"), "{void}");
    }

    #[test]
    fn a_goal_is_missed_only_when_the_whole_interval_misses_it() {
        let sample = |from: f64, step: f64| Sample::new((0..12).map(|n| from + f64::from(n) * step).collect()).unwrap();
        assert_eq!(verdict(&sample(0.70, 0.005), 0.83), Verdict::Met);
        assert_eq!(verdict(&sample(0.75, 0.016), 0.83), Verdict::Undecided);
        assert_eq!(verdict(&sample(0.90, 0.005), 0.83), Verdict::Missed);
    }
}
