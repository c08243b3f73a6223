//! What holds for each source file: a header, a size, no clock reads below the gateway, nothing left half done.

use super::{File, Finding};

/// Lines after which a file must be split. Aim at 250, think at 400.
const MOST_LINES: usize = 600;

/// Where the operating system's clocks may be read: the product's two clocks, and programs that wait for people or peers.
const CLOCKS: &[&str] =
    &["crates/gateway/src/clock.rs", "crates/tower/src/clock.rs", "crates/cli/", "xtask/", "bench/"];

/// Files whose purpose is told by what they declare.
const WITHOUT_INVARIANT: &[&str] = &["/lib.rs", "/main.rs", "/all.rs", "xtask/", "bench/", "examples/", "crates/cli/"];

/// Checks every file.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    files.iter().flat_map(findings_of).collect()
}

fn findings_of(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = &file.path;
    let mut find = |what: &str| findings.push(format!("{path}: {what}"));
    if !file.text.starts_with("//!") {
        find("begins without a header (`//!`: what it is for, where it sits, what it never does)");
    }
    let lines = file.text.lines().count();
    if lines > MOST_LINES {
        find(&format!("has {lines} lines; look for the two things in it (at most {MOST_LINES})"));
    }
    for left in [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
        concat!("tod", "o!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
    ] {
        if file.text.contains(left) {
            find(&format!("holds `{left}`: finish it, or write an issue"));
        }
    }
    if file.is_for_tests() {
        return findings;
    }
    let code = file.product_code();
    let is_small = code.lines().count() < 40;
    if path.starts_with("crates/")
        && !is_small
        && !code.contains("Invariant:")
        && !WITHOUT_INVARIANT.iter().any(|part| path.contains(part))
    {
        find("names no `Invariant:` in its header");
    }
    if !CLOCKS.iter().any(|allowed| path.starts_with(allowed)) {
        for clock in ["Instant::now(", "SystemTime::now("] {
            if code.lines().any(|line| line.contains(clock) && !line.trim_start().starts_with("//")) {
                find(&format!("reads a clock (`{clock})`); time is passed in"));
            }
        }
    }
    if code.lines().any(|line| line.contains(concat!(".unw", "rap()")) && !line.trim_start().starts_with("//")) {
        find("calls unwrap(); use expect(\"the invariant that makes it safe\") or return the error");
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{File, findings_of};

    fn findings(path: &str, text: &str) -> usize {
        findings_of(&File { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn each_rule_finds_its_sample() {
        let header = "//! A file.\n//! Invariant: none.\n";
        assert_eq!(findings("crates/a/src/x.rs", header), 0);
        assert_eq!(findings("crates/a/src/x.rs", "fn x() {}\n"), 1);
        assert_eq!(findings("crates/a/src/x.rs", &format!("{header}{}", "\n".repeat(700))), 1);
        assert_eq!(findings("crates/a/src/x.rs", &format!("{header}let t = Instant::now();")), 1);
        assert_eq!(findings("crates/a/src/x.rs", &format!("{header}let t = a.unwrap();")), 1);
        assert_eq!(findings("crates/a/src/x.rs", &format!("{header}// {}", concat!("TO", "DO"))), 1);
        assert_eq!(findings("crates/a/src/x.rs", &format!("//! A file.\n{}", "let a = 1;\n".repeat(50))), 1);
        assert_eq!(findings("crates/gateway/src/clock.rs", &format!("{header}let t = Instant::now();")), 0);
        assert_eq!(findings("crates/a/src/x/tests.rs", &format!("{header}let t = a.unwrap();")), 0);
    }

    #[test]
    fn what_stands_in_unit_tests_is_not_product_code() {
        let text = "//! A file.\nfn x() {}\n#[cfg(test)]\nmod tests {\n    fn t() { a.unwrap(); }\n}\n";
        assert_eq!(findings("crates/a/src/x.rs", text), 0);
    }
}
