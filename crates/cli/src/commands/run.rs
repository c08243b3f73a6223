//! `run`: serves until a signal ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use portcullis_gateway::config::{Config, LogFormat};
use portcullis_gateway::serve::{Exit, Start, StartError, serve};

use crate::source::{self, FileSource, Overrides};

/// Options of `run`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The config file. Default: portcullis.yaml, unless --upstream is given.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// The service to stand in front of, with safe defaults and no file.
    #[arg(long, conflicts_with = "config", value_name = "URL")]
    upstream: Option<String>,
    /// Where clients connect, instead of what the config says.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where metrics and health are served, instead of what the config says.
    #[arg(long, value_name = "ADDRESS")]
    telemetry: Option<SocketAddr>,
    /// How log lines look, instead of what the config says.
    #[arg(long, value_enum)]
    log_format: Option<Format>,
}

/// How log lines look.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> LogFormat {
        match format {
            Format::Json => LogFormat::Json,
            Format::Text => LogFormat::Text,
        }
    }
}

/// Serves; the exit code says how it ended.
///
/// # Errors
/// When it could not start: the config has mistakes, or an address is taken.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let overrides = Overrides {
        listen: arguments.listen,
        telemetry: arguments.telemetry,
        format: arguments.log_format.map(LogFormat::from),
    };
    let (mut config, file) = match (arguments.upstream, arguments.config) {
        (Some(url), _) => (Config::in_front_of(&url), None),
        (None, given) => {
            let path = given.unwrap_or_else(|| PathBuf::from(source::DEFAULT_FILE));
            match FileSource::open(&path, overrides) {
                Ok((config, file)) => (config, Some(file)),
                Err(mistakes) => return Ok(refuse(&mistakes)),
            }
        }
    };
    overrides.apply(&mut config);
    // A start that fails must tell a mistake's place in the file, so keep the means to do so.
    let places = file.as_ref().map(FileSource::places);
    let start = Start {
        config,
        source: file.map(|file| Box::new(file) as _),
        log: Box::new(std::io::stdout()),
        on_ready: Box::new(|_| {}),
    };
    match serve(start) {
        Ok(exit) => Ok(code_of(exit)),
        Err(StartError::Config(mistakes)) => {
            let told: Vec<String> = mistakes
                .iter()
                .map(|mistake| match &places {
                    Some(places) => places.describe(mistake),
                    None => source::plain(mistake),
                })
                .collect();
            Ok(refuse(&told))
        }
        Err(error) => Err(error).context("could not start"),
    }
}

fn refuse(mistakes: &[String]) -> ExitCode {
    for mistake in mistakes {
        eprintln!("{mistake}");
    }
    eprintln!("portcullis: not started, {} mistake(s) in the config", mistakes.len());
    ExitCode::from(1)
}

/// The exit code of CONVENTIONS for how serving ended.
pub(crate) fn code_of(exit: Exit) -> ExitCode {
    ExitCode::from(match exit {
        Exit::Done => 0,
        Exit::Forced => 2,
        Exit::Unfinished => 3,
    })
}
