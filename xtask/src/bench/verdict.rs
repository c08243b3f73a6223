//! Ratios of paired slices, whether a run counts, and whether a goal was met.
//!
//! Invariant: a goal counts as missed only when the whole interval misses it, and never by a void run.
use super::candidate::Program;
use super::load::Slice;
use super::rounds::{Results, Row};
use super::scenario::Goal;
use super::statistics::Sample;

/// Where the median of HAProxy over HAProxy must lie for a run to count.
const CONTROL: std::ops::RangeInclusive<f64> = 0.95..=1.05;

/// The median share of slices in which a stranger may have a candidate's core.
const DISTURBED_AT_MOST: f64 = 0.10;

/// The most an idle connection of the gateway may take, in bytes.
pub(crate) const IDLE_BYTES: f64 = 8192.0;

/// How a goal was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// The median misses the goal, but the interval reaches it: noise may be the reason.
    Undecided,
    Missed,
}

impl Verdict {
    fn at_most(ratio: &Sample, goal: f64) -> Self {
        Self::of(ratio.median() <= goal, ratio.median_interval().0 <= goal)
    }

    fn at_least(ratio: &Sample, goal: f64) -> Self {
        Self::of(ratio.median() >= goal, ratio.median_interval().1 >= goal)
    }

    fn of(is_met: bool, is_within_reach: bool) -> Self {
        match (is_met, is_within_reach) {
            (true, _) => Self::Met,
            (false, true) => Self::Undecided,
            (false, false) => Self::Missed,
        }
    }
}

/// A row's ratio to another row of the same rounds, round by round.
fn paired(row: &Row, other: &Row, value: fn(&Slice) -> f64) -> Option<Sample> {
    Sample::new(row.slices.iter().zip(&other.slices).map(|(own, other)| value(own) / value(other)).collect())
}

/// CPU per request over that of another row.
pub(crate) fn cpu_ratio(row: &Row, other: &Row) -> Option<Sample> {
    paired(row, other, Slice::cpu_us)
}

/// Requests a second over those of another row.
pub(crate) fn times(row: &Row, other: &Row) -> Option<Sample> {
    paired(row, other, Slice::requests_per_second)
}

/// The median share of its slices in which a stranger had a candidate's core.
pub(crate) fn disturbed(row: &Row) -> f64 {
    Sample::new(row.slices.iter().map(Slice::disturbed).collect()).map_or(0.0, |share| share.median())
}

/// One row of the gateway against the goal.
pub(crate) struct Judgement<'a> {
    pub(crate) row: &'a Row,
    pub(crate) ratio: Sample,
    pub(crate) verdict: Verdict,
}

impl Results {
    /// Whether the machine was too noisy for the ratios to mean anything. A busy neighbour costs candidates unequally,
    /// and the control can pass by luck. Where cores are shared, those a proxy waits for are its own upstream and load.
    pub(crate) fn is_void(&self) -> bool {
        let [reference, control, ..] = &self.rows[..] else { return true };
        let is_disturbed =
            !self.scenario.shares_cores() && self.rows.iter().any(|row| disturbed(row) > DISTURBED_AT_MOST);
        let is_off = |ratio: Option<Sample>| ratio.is_none_or(|ratio| !CONTROL.contains(&ratio.median()));
        let is_slow = self.scenario.shares_cores() && is_off(times(control, reference));
        is_disturbed || is_slow || is_off(cpu_ratio(control, reference))
    }

    /// The pairs in which a proxy is compared with itself: heavy, light.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Row, &Row)> {
        self.rows.iter().filter_map(|row| Some((row, &self.rows[row.light?])))
    }

    /// The gateway's rows against the scenario's goal.
    pub(crate) fn judge(&self) -> Vec<Judgement<'_>> {
        let Some(goal) = self.scenario.goal() else { return Vec::new() };
        let ours = self.rows.iter().filter(|row| row.program == Program::Portcullis);
        ours.filter_map(|row| {
            let (ratio, verdict) = match goal {
                Goal::OverHaproxy(goal) => {
                    let ratio = cpu_ratio(row, &self.rows[0])?;
                    let verdict = Verdict::at_most(&ratio, goal);
                    (ratio, verdict)
                }
                Goal::OverLight(goal) => {
                    let ratio = cpu_ratio(row, &self.rows[row.light?])?;
                    let verdict = Verdict::at_most(&ratio, goal);
                    (ratio, verdict)
                }
                Goal::TimesLight(goal) => {
                    let ratio = times(row, &self.rows[row.light?])?;
                    let verdict = Verdict::at_least(&ratio, goal);
                    (ratio, verdict)
                }
            };
            Some(Judgement { row, ratio, verdict })
        })
        .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Results, Row, Sample, Slice, Verdict};
    use crate::bench::candidate::Program;
    use crate::bench::scenario::Scenario;

    /// A row of six equal slices.
    pub(in crate::bench) fn row(label: &str, light: Option<usize>, cpu_us: f64, disturbed: f64) -> Row {
        let program = if label.starts_with("portcullis") { Program::Portcullis } else { Program::Haproxy };
        Row {
            label: label.to_owned(),
            program,
            light,
            missing: Vec::new(),
            thrown_away: 0,
            slices: vec![Slice::pretend(cpu_us, disturbed); 6],
            latencies: Vec::new(),
            idle: None,
            many: None,
        }
    }

    pub(in crate::bench) fn results(control_us: f64, ours_us: f64, disturbed: f64) -> Results {
        let row = |label: &str, cpu_us| row(label, None, cpu_us, disturbed);
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
    fn waiting_on_a_shared_core_is_no_disturbance() {
        let shared = Results { scenario: Scenario::Cores, ..results(20.0, 10.0, 0.4) };
        assert!(!shared.is_void());
    }

    #[test]
    fn a_goal_is_missed_only_when_the_whole_interval_misses_it() {
        let sample = |from: f64, step: f64| {
            Sample::new((0..12).map(|n| from + f64::from(n) * step).collect()).expect("finite numbers")
        };
        assert_eq!(Verdict::at_most(&sample(0.70, 0.005), 0.83), Verdict::Met);
        assert_eq!(Verdict::at_most(&sample(0.75, 0.016), 0.83), Verdict::Undecided);
        assert_eq!(Verdict::at_most(&sample(0.90, 0.005), 0.83), Verdict::Missed);
        assert_eq!(Verdict::at_least(&sample(1.91, 0.005), 1.9), Verdict::Met);
        assert_eq!(Verdict::at_least(&sample(1.80, 0.017), 1.9), Verdict::Undecided);
        assert_eq!(Verdict::at_least(&sample(1.60, 0.005), 1.9), Verdict::Missed);
    }

    #[test]
    fn pairs_are_judged_against_their_own_light_half() {
        let rows = vec![
            row("haproxy", None, 20.0, 0.0),
            row("haproxy (again)", None, 20.0, 0.0),
            row("haproxy", Some(0), 40.0, 0.0),
            row("portcullis", None, 10.0, 0.0),
            row("portcullis", Some(3), 11.0, 0.0),
        ];
        let results = Results { scenario: Scenario::Routes, rows, direct: Vec::new() };
        let judgements = results.judge();
        assert_eq!(judgements.len(), 1);
        assert_eq!((judgements[0].ratio.median(), judgements[0].verdict), (1.1, Verdict::Met));
        assert_eq!(results.pairs().count(), 2);
    }
}
