//! Writes docs/reference from the declarations in the code: errors, metrics, guards, config.
//!
//! `--check` changes nothing and fails when a page differs. Called by `cargo xtask gen`.
//!
//! Invariant: a page says only what a declaration says.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use portcullis_config::{Example, example, reference, schema};
use portcullis_core::metric::{Declaration, Kind, Values};
use portcullis_core::refusal::CATALOGUE;
use portcullis_gateway::config::Config;
use portcullis_guards::all::ALL;

const MADE_BY: &str = "<!-- Made by `cargo xtask gen` from the declarations in the code. Do not edit. -->\n\n";

fn main() -> anyhow::Result<()> {
    let is_check = std::env::args().any(|word| word == "--check");
    let folder = Path::new("docs/reference");
    let mut stale = Vec::new();
    for (name, text) in pages() {
        let path = folder.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|present| present == text) {
            continue;
        }
        if is_check {
            stale.push(path.display().to_string());
        } else {
            std::fs::create_dir_all(folder)?;
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            println!("wrote {}", path.display());
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!("{} differ from the code; run `cargo xtask gen`", stale.join(", "))
}

fn pages() -> [(&'static str, String); 6] {
    [
        ("errors.md", errors()),
        ("metrics.md", metrics()),
        ("guards.md", guards()),
        ("config.md", format!("{MADE_BY}{}", reference::<Config>())),
        ("config.schema.json", format!("{:#}\n", schema::<Config>())),
        ("portcullis.example.yaml", example::<Config>(Example::Commented)),
    ]
}

fn errors() -> String {
    let mut page = format!(
        "{MADE_BY}# Errors\n\nEvery \"no\" that a client can hear. Bodies are JSON, or RFC 9457 problem details for \
         `Accept: application/problem+json`. A code whose last column is *reserved* is promised to a guard that is not \
         built yet; nothing says it today.\n\n| number | code | status | severity | message | said by |\n|---|---|---|---|---|---|\n"
    );
    for entry in CATALOGUE {
        let said_by = if entry.said_by.is_empty() { "*reserved*" } else { entry.said_by };
        let (name, severity) = (entry.name, entry.severity.name());
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            page,
            "| {} | `{name}` | {} | {severity} | {} | {said_by} |",
            entry.number, entry.status, entry.message
        );
    }
    page
}

fn metrics() -> String {
    let mut page = format!(
        "{MADE_BY}# Metrics\n\nServed at `/metrics` of the telemetry listener. The prefix `portcullis_` can be changed by \
         `telemetry.prefix`. Histograms are in seconds. A label value that is in no list is counted as `_other`.\n\n\
         | metric | kind | labels | help |\n|---|---|---|---|\n"
    );
    let of_guards = ALL.iter().flat_map(|room| room.metrics.iter());
    for declaration in of_guards
        .chain(portcullis_gateway::accounts::METRICS)
        .chain(portcullis_gateway::telemetry::ALL)
        .chain(portcullis_gateway::listen::metrics::ALL)
    {
        let kind = match declaration.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(
            page,
            "| `portcullis_{}` | {kind} | {} | {} |",
            declaration.name,
            labels(declaration),
            declaration.help
        );
    }
    page
}

fn labels(declaration: &Declaration) -> String {
    let labels: Vec<String> = declaration
        .labels
        .iter()
        .map(|label| match label.values {
            Values::Closed(values) => format!("`{}`: {}", label.name, values.join(", ")),
            Values::Configured(what) => format!("`{}`: {what}", label.name),
        })
        .collect();
    if labels.is_empty() { "none".to_owned() } else { labels.join("; ") }
}

fn guards() -> String {
    let mut page = format!("{MADE_BY}# Guards\n\nThe way of a request, outside first:\n\n");
    for (index, room) in ALL.iter().enumerate() {
        let _ = writeln!(page, "{}. [`{name}`](#{name})", index + 1, name = room.name);
    }
    for room in ALL {
        let _ = writeln!(page, "\n## {}\n", room.name);
        for line in room.source.lines().take_while(|line| line.starts_with("//!")) {
            let text = line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default();
            let text = text.strip_prefix("# ").map_or_else(|| text.to_owned(), |heading| format!("### {heading}"));
            let _ = writeln!(page, "{text}");
        }
    }
    page
}
