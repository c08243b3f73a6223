//! `config show|diff`: the effective config, its schema, an example, a reference, and what differs. Secrets are masked.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use portcullis_config::{Example, Loaded, diff, effective, effective_value, example, reference, schema};
use portcullis_gateway::config::Config;

use crate::source;

/// What to show of the config.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show one view of the config.
    Show(Show),
    /// Show which keys differ between two config files.
    Diff {
        /// The one before.
        before: PathBuf,
        /// The one after.
        after: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Options of `config show`.
#[derive(clap::Args)]
#[group(required = true, multiple = false, id = "view")]
pub(crate) struct View {
    /// What runs: the file, the environment and the defaults together.
    #[arg(long)]
    effective: bool,
    /// The JSON Schema of the config file.
    #[arg(long)]
    schema: bool,
    /// A commented example of every key.
    #[arg(long)]
    example: bool,
    /// Every key in Markdown.
    #[arg(long)]
    reference: bool,
}

/// One view of the config.
#[derive(clap::Args)]
pub(crate) struct Show {
    #[command(flatten)]
    view: View,
    /// The config file, for --effective.
    #[arg(long, short, default_value = source::DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON, for --effective.
    #[arg(long)]
    json: bool,
}

/// Prints it.
///
/// # Errors
/// When a config file has mistakes; they are printed before.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Show(Show { view, config, json }) => {
            if view.schema {
                println!("{:#}", schema::<Config>());
            } else if view.example {
                print!("{}", example::<Config>(Example::Commented));
            } else if view.reference {
                print!("{}", reference::<Config>());
            } else {
                let loaded = read(&config)?.map(Config::filled);
                if json {
                    println!("{:#}", effective_value(&loaded));
                } else {
                    print!("{}", effective(&loaded));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Diff { before, after, json } => {
            let changes = diff(&read(&before)?, &read(&after)?);
            if json {
                let rows: Vec<_> = changes
                    .iter()
                    .map(|change| serde_json::json!({ "path": change.path, "before": change.before, "after": change.after }))
                    .collect();
                println!("{:#}", serde_json::Value::from(rows));
            } else {
                for change in &changes {
                    println!("{change}");
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn read(path: &std::path::Path) -> anyhow::Result<Loaded<Config>> {
    match source::read(path) {
        Ok(loaded) => Ok(loaded),
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{mistake}");
            }
            bail!("{} has {} mistake(s)", path.display(), mistakes.len())
        }
    }
}
