//! `completion SHELL`: a script that completes verbs and options.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Options of `completion`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which shell.
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Never; the type is that of all verbs.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut command = crate::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "portcullis", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
