//! `validate`: every mistake in a config file at once. Connects to nothing, unless it is told to.
//!
//! Invariant: with `--connect` or without, mistakes look alike and exit alike; a warning never fails.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use portcullis_core::clock::Clock;
use portcullis_gateway::clock::SystemClock;
use portcullis_gateway::trial::{self, Found};

use crate::source;

/// For how long `--connect` tries.
const TRIAL_TIME: Duration = Duration::from_secs(30);

/// Options of `validate`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The config file.
    #[arg(long, short, default_value = source::DEFAULT_FILE)]
    config: PathBuf,
    /// Also try what the config leads to: each target of each upstream, and how long certificates are still good. Takes at
    /// most 30 seconds.
    #[arg(long)]
    connect: bool,
    /// Print the mistakes as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Said {
    mistakes: Vec<String>,
    warnings: Vec<String>,
}

/// Prints mistakes and exits 1, or says that there are none and exits 0.
///
/// # Errors
/// When there is no runtime to connect with; mistakes are the result.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let said = if arguments.connect {
        connect(&arguments.config)?
    } else {
        Said { mistakes: source::compile(&arguments.config).err().unwrap_or_default(), warnings: Vec::new() }
    };
    let Said { mistakes, warnings } = &said;
    if arguments.json {
        let mut page = serde_json::json!({ "valid": mistakes.is_empty(), "mistakes": mistakes });
        if arguments.connect {
            page["warnings"] = warnings.clone().into();
        }
        println!("{page}");
    } else {
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        for mistake in mistakes {
            eprintln!("{mistake}");
        }
        let plural = if mistakes.len() == 1 { "" } else { "s" };
        match mistakes.len() {
            0 => println!("{}: ok", arguments.config.display()),
            count => eprintln!("{}: {count} mistake{plural}", arguments.config.display()),
        }
    }
    Ok(if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn connect(file: &Path) -> anyhow::Result<Said> {
    let (running, loaded) = match source::compile_loaded(file) {
        Ok(compiled) => compiled,
        Err(mistakes) => return Ok(Said { mistakes, warnings: Vec::new() }),
    };
    let now = SystemClock::start().now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let trial = tokio::task::LocalSet::new();
    let Found { mistakes, warnings } = trial.block_on(&runtime, trial::try_all(&running, TRIAL_TIME, now));
    // A look-up that hangs holds a thread, and nobody waits for it.
    runtime.shutdown_background();
    let tell = |found: Vec<_>| found.iter().map(|mistake| source::describe(&loaded, mistake)).collect();
    Ok(Said { mistakes: tell(mistakes), warnings: tell(warnings) })
}
