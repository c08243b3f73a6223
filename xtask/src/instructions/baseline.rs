//! The committed counts a change is held against: `bench/instructions-baseline.json`.
//!
//! Invariant: only the gateway's own counts gate. HAProxy's stand beside them so that the ratio can be read.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// How much more than the baseline is still the same.
const TOLERANCE: f64 = 0.03;

/// Instructions per request, by scenario and candidate.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Baseline {
    scenarios: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Baseline {
    /// Reads a baseline.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes it, replacing what was there except for scenarios that were not counted now.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut all = if path.is_file() { Self::read(path)? } else { Self::default() };
        all.scenarios.extend(self.scenarios.clone());
        let text = serde_json::to_string_pretty(&all)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Takes the counts of a scenario.
    pub(crate) fn put<'a>(&mut self, scenario: &str, counts: impl Iterator<Item = (&'a str, f64)>) {
        let counts = counts.map(|(label, count)| (label.to_owned(), count.round())).collect();
        self.scenarios.insert(scenario.to_owned(), counts);
    }

    /// What there is to say against the gateway's count; `None` when it is within the tolerance.
    pub(crate) fn complaint(&self, scenario: &str, instructions: f64) -> Option<String> {
        let Some(before) = self.scenarios.get(scenario).and_then(|counts| counts.get("portcullis")) else {
            return Some(format!("{scenario}: the baseline has no count for portcullis; write one with --write"));
        };
        let change = instructions / before - 1.0;
        (change > TOLERANCE).then(|| {
            format!(
                "{scenario}: {instructions:.0} user instructions per request, {:.1} % more than the baseline's {before:.0}",
                change * 100.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Baseline;

    #[test]
    fn more_than_three_per_cent_more_is_a_complaint_and_so_is_a_missing_count() {
        let mut baseline = Baseline::default();
        baseline.put("full", [("portcullis", 20_000.0), ("haproxy", 40_000.0)].into_iter());
        assert!(baseline.complaint("full", 15_000.0).is_none());
        assert!(baseline.complaint("full", 20_500.0).is_none());
        assert!(baseline.complaint("full", 20_700.0).is_some());
        assert!(baseline.complaint("plain", 1.0).is_some());
    }

    #[test]
    fn writing_keeps_scenarios_that_were_not_counted() {
        let folder = crate::bench::machine::Folder::new("baseline-test").unwrap();
        let path = folder.path().join("baseline.json");
        let mut first = Baseline::default();
        first.put("plain", [("portcullis", 1_000.0)].into_iter());
        first.write(&path).unwrap();
        let mut second = Baseline::default();
        second.put("full", [("portcullis", 2_000.4)].into_iter());
        second.write(&path).unwrap();
        let all = Baseline::read(&path).unwrap();
        assert!(all.complaint("plain", 1_000.0).is_none());
        assert_eq!(all.scenarios["full"]["portcullis"], 2_000.0);
    }
}
