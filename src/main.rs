//! The command line: everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use microscaler::cli::Cli;

fn main() -> ExitCode {
    microscaler::cli::main(Cli::parse())
}
