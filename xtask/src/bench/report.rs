//! Tables for people and JSON for machines. `verdict.rs` says what they mean.
//!
//! Ratios are CPU per request of a candidate over HAProxy's, each from the same round; smaller is better.
//!
//! Invariant: when HAProxy against itself leaves 0.95-1.05, or something else held the proxies' core, the run is void
//! and says so before any figure.
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::load::{CONNECTIONS, Latency, Slice};
use super::rounds::{IDLE_CONNECTIONS, Plan, RATES, Results, Row};
use super::scenario::{Goal, Scenario, Traffic};
use super::statistics::Sample;
use super::verdict::{IDLE_BYTES, Verdict, cpu_ratio, disturbed, times};

/// Both reasons in words.
pub(crate) const WHY_VOID: &str =
    "HAProxy against itself left 0.95-1.05, or something else had the proxies' core for more than a tenth of the time";

impl Results {
    /// The tables.
    pub(crate) fn text(&self, plan: Plan) -> String {
        let load = match self.scenario.traffic() {
            Traffic::Plain | Traffic::Tls => format!("{CONNECTIONS} connections"),
            Traffic::Handshakes => format!("{CONNECTIONS} connections at once, a handshake for every request"),
            Traffic::Http2 => "16 connections of 4 streams".to_owned(),
        };
        let mut text = format!(
            "\n## {}: {} rounds x {} ms, {load}\n\n",
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
        if !self.direct.is_empty() {
            self.write_latencies(&mut text);
        }
        if self.scenario.burdens().is_some() {
            self.write_pairs(&mut text);
        } else {
            self.write_comparisons(&mut text);
        }
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
        let ratio = cpu_ratio(row, &self.rows[0]).map_or("-".to_owned(), |sample| {
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
                let Some(ratio) = cpu_ratio(own, other) else { continue };
                let (low, high) = ratio.median_interval();
                let _ =
                    writeln!(text, "\nCPU {} / {}: {:.3} [{low:.3}-{high:.3}]", own.label, other.label, ratio.median());
            }
        }
    }

    /// Each proxy against itself.
    fn write_pairs(&self, text: &mut String) {
        text.push_str("\n| against itself | CPU per request | requests/s |\n|---|---|---|\n");
        let cell = |ratio: Option<Sample>| {
            ratio.map_or("-".to_owned(), |ratio| {
                let (low, high) = ratio.median_interval();
                format!("{:.3} [{low:.3}-{high:.3}]", ratio.median())
            })
        };
        for (heavy, light) in self.pairs() {
            let _ = writeln!(
                text,
                "| {} | {} | {} |",
                heavy.label,
                cell(cpu_ratio(heavy, light)),
                cell(times(heavy, light))
            );
        }
        for row in &self.rows {
            let Some(many) = &row.many else { continue };
            let bytes = many.bytes_per_connection();
            let verdict = if bytes <= IDLE_BYTES { "met" } else { "MISSED" };
            let _ = writeln!(
                text,
                "\n{}: {bytes:.0} bytes for each of {} idle connections. Goal {IDLE_BYTES}: {verdict}.",
                row.label, many.connections
            );
        }
    }

    fn write_verdicts(&self, text: &mut String) {
        let goal = match self.scenario.goal() {
            None => return,
            Some(Goal::OverHaproxy(goal)) => format!("at most {goal} of HAProxy's CPU per request"),
            Some(Goal::OverLight(goal)) => format!("at most {goal} of its own CPU per request"),
            Some(Goal::TimesLight(goal)) => format!("at least {goal} times its own requests a second"),
        };
        for judgement in self.judge() {
            let (label, median) = (&judgement.row.label, judgement.ratio.median());
            let _ = match judgement.verdict {
                _ if self.is_void() => writeln!(text, "\nGoal: {goal}. No verdict, the run is void."),
                Verdict::Met => writeln!(text, "\nGoal: {goal}. Met by {label} with {median:.3}."),
                Verdict::Undecided => writeln!(
                    text,
                    "\nGoal: {goal}. Undecided for {label}; the median {median:.3} misses it, the interval reaches it."
                ),
                Verdict::Missed => writeln!(text, "\nGoal: {goal}. MISSED by {label} with {median:.3}."),
            };
        }
    }

    /// Everything measured, round by round.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let ratio = cpu_ratio(row, &self.rows[0]);
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
                    "bytes_per_idle_connection_of_many": row.many.as_ref().map(|idle| idle.bytes_per_connection()),
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
    use crate::bench::rounds::Plan;
    use crate::bench::verdict::tests::results;
    use std::time::{Duration, Instant};

    #[test]
    fn a_void_run_gives_no_verdict() {
        let patient_until = Instant::now();
        let plan = Plan { rounds: 6, slice: Duration::from_secs(1), is_whole: false, patient_until };
        let goal = "Goal: at most 0.83 of HAProxy's CPU per request.";
        assert!(results(20.0, 10.0, 0.0).text(plan).contains(&format!("{goal} Met by portcullis with 0.500.")));
        assert!(results(20.0, 18.0, 0.0).text(plan).contains(&format!("{goal} MISSED by portcullis with 0.900.")));
        let void = results(25.0, 10.0, 0.0).text(plan);
        assert!(void.contains("VOID") && void.contains("No verdict") && !void.contains("Met by"), "{void}");
    }
}
