//! The error catalogue against the code: what is said is said somewhere and reached by a test, what is reserved is not.

use std::path::Path;

use anyhow::Context;

use super::{File, Finding};

const CATALOGUE: &str = "crates/core/src/refusal/catalogue.rs";

/// Reads the catalogue and looks for each code.
pub(super) fn check(root: &Path, files: &[File], scenarios: &str) -> anyhow::Result<Vec<Finding>> {
    let text = std::fs::read_to_string(root.join(CATALOGUE)).with_context(|| format!("reading {CATALOGUE}"))?;
    Ok(rows(&text).iter().flat_map(|row| findings_of(row, files, scenarios)).collect())
}

struct Row<'a> {
    code: &'a str,
    name: &'a str,
    said_by: &'a str,
}

/// `Code = 1001 "ERR_CODE" 401 Low Info "guard" "Text.";`
fn rows(text: &str) -> Vec<Row<'_>> {
    text.lines()
        .filter_map(|line| {
            let (code, rest) = line.trim().split_once(" = ")?;
            let mut quoted = rest.split('"');
            let name = quoted.nth(1)?;
            let said_by = quoted.nth(1)?;
            name.starts_with("ERR_").then_some(Row { code, name, said_by })
        })
        .collect()
}

fn findings_of(row: &Row<'_>, files: &[File], scenarios: &str) -> Vec<Finding> {
    let Row { code, name, said_by } = row;
    let used = format!("Code::{code}");
    let is_used = |text: &str| {
        text.match_indices(&used)
            .any(|(at, _)| !text[at + used.len()..].starts_with(|next: char| next.is_alphanumeric()))
    };
    let outside = || files.iter().filter(|file| file.path != CATALOGUE);
    let is_said = outside().any(|file| !file.is_for_tests() && is_used(file.product_code()));
    // A test names a code as clients see it.
    let is_reached = scenarios.contains(name)
        || outside().any(|file| {
            let tests = if file.is_for_tests() {
                &file.text
            } else {
                file.text.strip_prefix(file.product_code()).unwrap_or("")
            };
            tests.contains(name) || is_used(tests)
        });
    match (said_by.is_empty(), is_said, is_reached) {
        (true, true, _) => vec![format!("{name} is reserved, but something says it: name who, in {CATALOGUE}")],
        (false, false, _) => vec![format!("{name} is said by {said_by}, but nothing says it")],
        (false, true, false) => vec![format!("{name}: no test reaches it")],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{File, findings_of, rows};

    const TEXT: &str = "    Said = 1001 \"ERR_SAID\" 401 Low Info \"gate\" \"No.\";\n    Kept = 1002 \"ERR_KEPT\" 401 Low Info \"\" \"No.\";";

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_code_is_said_and_reached_or_reserved_and_silent() {
        let rows = rows(TEXT);
        assert_eq!(rows.len(), 2);
        let code = file("crates/a/src/x.rs", "Refusal::new(Code::Said)");
        let test = file("crates/a/src/tests.rs", "assert!(body.contains(\"ERR_SAID\"))");
        assert!(findings_of(&rows[0], &[code, test], "").is_empty());
        assert_eq!(findings_of(&rows[0], &[], "").len(), 1);
        assert_eq!(findings_of(&rows[0], &[file("crates/a/src/x.rs", "Code::Said")], "").len(), 1);
        assert_eq!(findings_of(&rows[0], &[file("crates/a/src/x.rs", "Code::SaidOften")], "").len(), 1);
        assert!(findings_of(&rows[0], &[file("crates/a/src/x.rs", "Code::Said")], "~ ERR_SAID").is_empty());
        assert!(findings_of(&rows[1], &[], "").is_empty());
        assert_eq!(findings_of(&rows[1], &[file("crates/a/src/x.rs", "Code::Kept")], "").len(), 1);
    }
}
