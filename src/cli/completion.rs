//! `microscaler completion`.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

/// Print a completion script for a shell.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler completion bash > /etc/bash_completion.d/microscaler
  source <(microscaler completion zsh)")]
pub struct Args {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Prints it.
///
/// # Errors
/// When stdout takes nothing more.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // The generator would panic on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "microscaler", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
