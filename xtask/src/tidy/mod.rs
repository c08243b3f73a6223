//! `tidy`: the rules of the house that a compiler does not know.
//!
//! `arrows` which room may use which, `folders` the shape of a guard, `sources` each file, `catalogue` the error codes.
//!
//! Invariant: each rule is a function from text to findings with a test that shows it failing.

mod arrows;
mod catalogue;
mod folders;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::process::root;

/// One thing that is not as it should be.
pub(crate) type Finding = String;

/// The command.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = root();
    let files = rust_files(&root)?;
    let mut findings = arrows::check()?;
    findings.extend(folders::check(&root)?);
    findings.extend(sources::check(&files));
    findings.extend(catalogue::check(&root, &files, &scenarios(&root)?)?);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files are in order", files.len());
        return Ok(());
    }
    bail!("{} findings", findings.len())
}

/// A source file with its path from the root.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Whether it is only compiled for tests or benchmarks.
    pub(crate) fn is_for_tests(&self) -> bool {
        let path = &self.path;
        [
            "/tests/",
            "/tests.rs",
            "_tests.rs",
            "/benches/",
            "/conformance",
            "/interleavings",
            "/rehearsal.rs",
            "/testkit/",
        ]
        .iter()
        .any(|part| path.contains(part))
    }

    /// The part before the unit tests.
    pub(crate) fn product_code(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }
}

fn scenarios(root: &Path) -> anyhow::Result<String> {
    let mut texts = String::new();
    for entry in std::fs::read_dir(root.join("scenarios")).context("reading scenarios")? {
        texts.push_str(&std::fs::read_to_string(entry?.path())?);
    }
    Ok(texts)
}

fn rust_files(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["crates", "xtask", "examples", "bench", "fuzz"].map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
