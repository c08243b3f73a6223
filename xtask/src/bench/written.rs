//! The table of results in `bench/README.md`, written by `cargo xtask bench --write`.
//!
//! Each line stands for itself: it comes from one run with its own control. Lines of scenarios that were not run this time
//! stay, as long as machine and versions are the same; after a change of machine they go.
//!
//! Invariant: a void scenario writes nothing, and nothing outside the two marks is touched.
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::candidate::Program;
use super::machine;
use super::rounds::{Results, Row};
use super::scenario::{Goal, Scenario};
use super::statistics::Sample;
use super::verdict::{IDLE_BYTES, Verdict, cpu_ratio, times};

const BEGIN: &str = "<!-- measured: written by `cargo xtask bench --write bench/README.md` -->";
const END: &str = "<!-- measured: end -->";

const SINGLE: &str = "| scenario | HAProxy us/req | HAProxy again | nginx | Portcullis us/req | Portcullis / HAProxy | goal | when |\n\
    |---|---|---|---|---|---|---|---|\n";
const PAIRED: &str = "| against itself | HAProxy | nginx | Portcullis | goal | when |\n|---|---|---|---|---|---|\n";

/// One line of one of the two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    is_paired: bool,
    /// The first cell.
    key: String,
    text: String,
}

/// Brings the file's tables up to date.
pub(crate) fn write(path: &Path, machine: &str, results: &[Results]) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let when = machine::occasion();
    let lines: Vec<Line> = results.iter().filter(|one| !one.is_void()).flat_map(|one| lines(one, &when)).collect();
    let text = update(&text, machine, lines).with_context(|| format!("writing {}", path.display()))?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn update(text: &str, machine: &str, lines: Vec<Line>) -> anyhow::Result<String> {
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("there are no marks {BEGIN:?} and {END:?}");
    };
    let old = text.get(begin + BEGIN.len()..end).context("the marks are in the wrong order")?;
    let mut all = if old.lines().any(|line| line == machine) { read(old) } else { Vec::new() };
    all.retain(|old| !lines.iter().any(|new| new.key == old.key));
    all.extend(lines);
    // The order of the scenarios, and within one that in which its lines were made.
    let place = |line: &Line| Scenario::ALL.iter().position(|one| line.key.split(':').next() == Some(one.name()));
    all.sort_by_key(place);
    let table = |is_paired: bool| {
        all.iter().filter(|line| line.is_paired == is_paired).map(|line| line.text.as_str()).collect::<String>()
    };
    let (front, back) = (&text[..begin], &text[end..]);
    Ok(format!("{front}{BEGIN}\n\n{machine}\n\n{SINGLE}{}\n{PAIRED}{}\n{back}", table(false), table(true)))
}

/// The lines of both tables as they stand in the file.
fn read(block: &str) -> Vec<Line> {
    let mut is_paired = false;
    let mut lines = Vec::new();
    for line in block.lines() {
        let key = line.strip_prefix("| ").and_then(|rest| rest.split(" |").next()).unwrap_or_default();
        match key {
            "" => {}
            "scenario" => is_paired = false,
            "against itself" => is_paired = true,
            key => lines.push(Line { is_paired, key: key.to_owned(), text: format!("{line}\n") }),
        }
    }
    lines
}

fn lines(results: &Results, when: &str) -> Vec<Line> {
    if results.scenario.burdens().is_some() { paired(results, when) } else { vec![single(results, when)] }
}

fn single(results: &Results, when: &str) -> Line {
    let key = results.scenario.name();
    let reference = &results.rows[0];
    let of = |program| results.rows.iter().skip(2).find(|row| row.program == program);
    let cpu = |row: Option<&Row>| {
        let sample = row.and_then(|row| Sample::new(row.slices.iter().map(super::load::Slice::cpu_us).collect()));
        sample.map_or_else(|| "-".to_owned(), |sample| format!("{:.2}", sample.median()))
    };
    let ratio = |row: Option<&Row>| interval(row.and_then(|row| cpu_ratio(row, reference)));
    let ours = of(Program::Portcullis);
    let text = format!(
        "| {key} | {} | {} | {} | {} | **{}** | {} | {when} |\n",
        cpu(Some(reference)),
        ratio(results.rows.get(1)),
        ratio(of(Program::Nginx)),
        cpu(ours),
        ratio(ours),
        goal(results),
    );
    Line { is_paired: false, key: key.to_owned(), text }
}

fn paired(results: &Results, when: &str) -> Vec<Line> {
    let name = results.scenario.name();
    let burdens = results.scenario.burdens().unwrap_or_default().map(|burden| burden.replace('|', "/"));
    let what = format!("{} over {}", burdens[1], burdens[0]);
    let is_about_times = matches!(results.scenario.goal(), Some(Goal::TimesLight(_)));
    let line = |about: &str, cell: &dyn Fn(Program) -> String, goal: String| {
        let key = format!("{name}: {about}");
        let mut text = format!("| {key} |");
        for program in [Program::Haproxy, Program::Nginx, Program::Portcullis] {
            let _ = write!(text, " {} |", cell(program));
        }
        let _ = writeln!(text, " {goal} | {when} |");
        Line { is_paired: true, key, text }
    };
    let pair = |program| results.pairs().find(move |(heavy, _)| heavy.program == program);
    let cpu = |program| interval(pair(program).and_then(|(heavy, light)| cpu_ratio(heavy, light)));
    let rate = |program| interval(pair(program).and_then(|(heavy, light)| times(heavy, light)));
    let none = || "none".to_owned();
    let mut lines = Vec::new();
    if is_about_times {
        lines.push(line(&format!("requests a second, {what}"), &rate, goal(results)));
        lines.push(line(&format!("CPU per request, {what}"), &cpu, none()));
    } else {
        lines.push(line(&format!("CPU per request, {what}"), &cpu, goal(results)));
    }
    let bytes = |idle: Option<f64>| idle.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"));
    if results.rows.iter().any(|row| row.idle.is_some()) {
        let each = |program| {
            let idle = pair(program).and_then(|(heavy, _)| heavy.idle.as_ref());
            bytes(idle.map(super::load::Idle::bytes_per_connection))
        };
        lines.push(line("bytes a connection, 1,000 idle", &each, none()));
    }
    let many =
        |program| results.rows.iter().filter(move |row| row.program == program).find_map(|row| row.many.as_ref());
    if let Some(ours) = many(Program::Portcullis) {
        let each = |program| bytes(many(program).map(super::load::Idle::bytes_per_connection));
        let verdict = if ours.bytes_per_connection() <= IDLE_BYTES { "met" } else { "MISSED" };
        let about = format!("bytes a connection, {} idle", ours.connections);
        lines.push(line(&about, &each, format!("{IDLE_BYTES}, {verdict}")));
    }
    lines
}

fn interval(ratio: Option<Sample>) -> String {
    ratio.map_or_else(
        || "-".to_owned(),
        |ratio| {
            let (low, high) = ratio.median_interval();
            format!("{:.3} [{low:.3}-{high:.3}]", ratio.median())
        },
    )
}

fn goal(results: &Results) -> String {
    let Some(goal) = results.scenario.goal() else { return "none".to_owned() };
    let goal = match goal {
        Goal::OverHaproxy(goal) | Goal::OverLight(goal) => format!("at most {goal}"),
        Goal::TimesLight(goal) => format!("at least {goal}"),
    };
    let verdict = match results.judge().first().map(|judgement| judgement.verdict) {
        Some(Verdict::Met) => "met",
        Some(Verdict::Undecided) => "undecided",
        Some(Verdict::Missed) => "MISSED",
        None => "not measured",
    };
    format!("{goal}, {verdict}")
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, lines, update};
    use crate::bench::rounds::Results;
    use crate::bench::scenario::Scenario;
    use crate::bench::verdict::tests::{results, row};

    #[test]
    fn lines_of_other_scenarios_stay_on_the_same_machine_and_go_on_another() {
        let empty = format!("before\n{BEGIN}\n{END}\nafter\n");
        let full = update(&empty, "machine A", lines(&results(20.0, 10.0, 0.0), "day 1")).unwrap();
        assert!(full.starts_with("before\n") && full.ends_with("\nafter\n"), "{full}");
        assert!(full.contains(
            "| full | 20.00 | 1.000 [1.000-1.000] | - | 10.00 | **0.500 [0.500-0.500]** | at most 0.83, met | day 1 |"
        ));
        let plain = Results { scenario: Scenario::Plain, ..results(20.0, 22.0, 0.0) };
        let both = update(&full, "machine A", lines(&plain, "day 2")).unwrap();
        assert!(both.find("| plain |").unwrap() < both.find("| full |").unwrap(), "{both}");
        assert_eq!(both, update(&both, "machine A", lines(&plain, "day 2")).unwrap());
        let moved = update(&both, "machine B", lines(&plain, "day 3")).unwrap();
        assert!(!moved.contains("| full |") && moved.contains("| plain |"), "{moved}");
        assert!(update("no marks", "machine A", Vec::new()).is_err());
    }

    #[test]
    fn pairs_have_a_table_of_their_own_and_a_missed_goal_says_so() {
        let rows = vec![
            row("haproxy, 10 routes", None, 20.0, 0.0),
            row("haproxy (again), 10 routes", None, 20.0, 0.0),
            row("haproxy, 10,000 routes", Some(0), 30.0, 0.0),
            row("portcullis, 10 routes", None, 10.0, 0.0),
            row("portcullis, 10,000 routes", Some(3), 13.0, 0.0),
        ];
        let results = Results { scenario: Scenario::Routes, rows, direct: Vec::new() };
        let text = update(&format!("{BEGIN}{END}"), "machine A", lines(&results, "day 1")).unwrap();
        let line = "| routes: CPU per request, 10,000 routes over 10 routes | 1.500 [1.500-1.500] | - \
            | 1.300 [1.300-1.300] | at most 1.2, MISSED | day 1 |";
        assert!(text.contains(line), "{text}");
        let again = update(&text, "machine A", Vec::new()).unwrap();
        assert_eq!(text, again);
    }
}
