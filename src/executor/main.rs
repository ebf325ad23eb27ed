//! `microscaler-executor`: what `microscaler executor` does, alone in a program. Only what it needs is linked, and so it takes a third of
//! the memory: pages of a program count by where its functions happen to lie, and those of the large one lie far apart.

use std::process::ExitCode;

use clap::Parser;
use microscaler::cli::executor::{Args, run};

/// Runs tasks on a Mesos agent, many in one process. Mesos starts it; nobody else has to.
#[derive(Parser)]
#[command(version, max_term_width = 80)]
struct Cli {
    /// The verb of the whole program may be there, so that a pool's executor.path may name either.
    #[arg(value_parser = ["executor"], hide = true)]
    _verb: Option<String>,

    #[command(flatten)]
    args: Args,

    /// What is logged: error, warn, info, debug.
    #[arg(long, env = "MICROSCALER_LOG")]
    log: Option<String>,
}

fn main() -> ExitCode {
    let Cli { args, log, .. } = Cli::parse();
    run(&args, log.as_deref()).unwrap_or_else(|error| {
        anstream::eprintln!("microscaler-executor: {error:#}");
        ExitCode::FAILURE
    })
}
