//! Which room may use which. Arrows run downward only; the table is the one in ARCHITECTURE.md.

use anyhow::Context;
use serde_json::Value;

use super::Finding;
use crate::process::program;

/// Each room with the rooms below it that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("portcullis", &["portcullis-config", "portcullis-gateway", "portcullis-guards", "portcullis-core"]),
    ("portcullis-gateway", &["portcullis-accounts", "portcullis-guards", "portcullis-store", "portcullis-core"]),
    ("portcullis-tower", &["portcullis-guards", "portcullis-store", "portcullis-core"]),
    ("portcullis-guards", &["portcullis-store", "portcullis-core"]),
    ("portcullis-accounts", &["portcullis-store", "portcullis-core"]),
    ("portcullis-store", &["portcullis-core"]),
    ("portcullis-config", &["portcullis-core"]),
    ("portcullis-testkit", &["portcullis-core"]),
    ("portcullis-core", &[]),
];

/// Reads the workspace as cargo sees it.
pub(super) fn check() -> anyhow::Result<Vec<Finding>> {
    let output = program(&["cargo", "metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading what cargo metadata says")?;
    Ok(findings(&metadata))
}

fn findings(metadata: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, below)) = ARROWS.iter().find(|(room, _)| *room == name) else {
            if name.starts_with("portcullis") && name != "portcullis-gen" {
                findings.push(format!("{name} is a room without a row in the table of arrows"));
            }
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            // Tests may use the testkit and themselves; what ships may not.
            let is_for_tests = dependency["kind"] == "dev";
            if used.starts_with("portcullis") && !is_for_tests && !below.contains(&used) {
                findings.push(format!("{name} uses {used}: that arrow runs upward or across (see ARCHITECTURE.md)"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::findings;

    #[test]
    fn an_arrow_upward_is_found_and_one_downward_is_not() {
        let package = |name: &str, used: &str, kind: Option<&str>| json!({ "packages": [{ "name": name, "dependencies": [{ "name": used, "kind": kind }] }] });
        assert_eq!(findings(&package("portcullis-core", "portcullis-store", None)).len(), 1);
        assert_eq!(findings(&package("portcullis-new", "serde", None)).len(), 1);
        assert!(findings(&package("portcullis-store", "portcullis-core", None)).is_empty());
        assert!(findings(&package("portcullis-core", "portcullis-testkit", Some("dev"))).is_empty());
    }
}
