//! `validate`: every mistake in a config file at once. Connects to nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::source;

/// Options of `validate`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The config file.
    #[arg(long, short, default_value = source::DEFAULT_FILE)]
    config: PathBuf,
    /// Print the mistakes as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints mistakes and exits 1, or says that there are none and exits 0.
///
/// # Errors
/// Never; mistakes are the result.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mistakes = source::compile(&arguments.config).err().unwrap_or_default();
    if arguments.json {
        println!("{}", serde_json::json!({ "valid": mistakes.is_empty(), "mistakes": mistakes }));
    } else if mistakes.is_empty() {
        println!("{}: ok", arguments.config.display());
    } else {
        for mistake in &mistakes {
            eprintln!("{mistake}");
        }
        let plural = if mistakes.len() == 1 { "" } else { "s" };
        eprintln!("{}: {} mistake{plural}", arguments.config.display(), mistakes.len());
    }
    Ok(if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
