//! `microscaler completion`.

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
/// Never.
#[allow(clippy::unnecessary_wraps)]
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "microscaler", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
