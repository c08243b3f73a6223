//! `gen`: writes docs/reference from the declarations in the code, by the `portcullis-gen` binary.
//!
//! It is a binary of its own so that xtask need not wait for the gateway to compile.

use crate::process::{program, run as run_program};

/// Options of `gen`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a page differs from the code.
    #[arg(long)]
    pub(crate) check: bool,
}

/// The command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = program(&["cargo", "run", "--quiet", "--package", "portcullis-gen", "--"]);
    if arguments.check {
        command.arg("--check");
    }
    run_program(&mut command)
}
