//! The shape of a guard: a folder with the same files and the same headings, listed in the same places.

use std::path::Path;

use anyhow::Context;

use super::Finding;

const HEADINGS: [&str; 5] = ["What it does", "Refuses when", "Remembers", "If a dependency fails", "Cost"];
const FILES: [&str; 3] = ["config.rs", "decide.rs", "mod.rs"];

/// Reads every guard's folder.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let guards = root.join("crates/guards/src");
    let list = |name: &str| {
        let path = guards.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let (all, path) = (list("all.rs")?, list("request_path.rs")?);
    let mut findings = Vec::new();
    for entry in std::fs::read_dir(&guards)? {
        let folder = entry?.path();
        // A folder with a `mod.rs` is a guard; a folder beside a file of its name is that file's inside.
        if !folder.is_dir() || folder.with_extension("rs").exists() {
            continue;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files: Vec<String> = std::fs::read_dir(&folder)?
            .filter_map(|file| Some(file.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        let header = std::fs::read_to_string(folder.join("mod.rs")).unwrap_or_default();
        findings.extend(findings_of(&name, &files, &header, &all, &path));
    }
    Ok(findings)
}

fn findings_of(name: &str, files: &[String], header: &str, all: &str, path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has = |file: &str| files.iter().any(|present| present == file);
    for file in FILES {
        if !has(file) {
            findings.push(format!("guard {name} has no {file}"));
        }
    }
    if !has("tests.rs") && !has("tests") {
        findings.push(format!("guard {name} has no tests"));
    }
    for heading in HEADINGS {
        if !header.lines().any(|line| line.trim_start_matches("//!").trim_start_matches([' ', '#']) == heading) {
            findings.push(format!("guard {name}: the header of mod.rs has no heading `{heading}`"));
        }
    }
    if !all.contains(&format!("name: \"{name}\"")) {
        findings.push(format!("guard {name} is not listed in all.rs"));
    }
    if has("metrics.rs") && !all.contains(&format!("{name}::metrics::ALL")) {
        findings.push(format!("guard {name} counts, but all.rs does not list its metrics"));
    }
    if !path.contains(&format!("{name}::build(")) {
        findings.push(format!("guard {name} does not stand on the list in request_path.rs"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{HEADINGS, findings_of};

    #[test]
    fn a_whole_guard_passes_and_an_empty_folder_has_every_finding() {
        let files = ["config.rs", "decide.rs", "mod.rs", "tests.rs", "metrics.rs"].map(str::to_owned);
        let header: String = HEADINGS.iter().map(|heading| format!("//! # {heading}\n")).collect();
        let all = "Room { name: \"gate\", metrics: gate::metrics::ALL }";
        assert!(findings_of("gate", &files, &header, all, "gate::build(config)").is_empty());
        // Three files, tests, five headings, and two lists.
        assert_eq!(findings_of("gate", &[], "", "", "").len(), 11);
        assert_eq!(findings_of("gate", &files, &header, "name: \"gate\"", "gate::build(").len(), 1);
    }
}
