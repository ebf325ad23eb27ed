//! `microscaler executor`: runs tasks on an agent, many in one process.

use std::process::ExitCode;

use tracing::level_filters::LevelFilter;

use crate::executor::{Options, run as run_executor};

/// Run tasks on a Mesos agent, many in one process. Mesos starts it; nobody else has to.
///
/// Microscaler launches its tasks with this program as their executor, and the agent then starts it, once for all tasks of a framework on
/// that agent. What it needs to know stands in its environment (MESOS_AGENT_ENDPOINT and others). Each task has a directory of its own
/// in the executor's sandbox, tasks/<task id>, with its stdout and stderr.
#[derive(clap::Args)]
pub struct Args {
    /// Rotate stdout and stderr of a task to .1 when they are longer than this, in MiB; 0: never.
    #[arg(long, value_name = "MIB", default_value_t = 10)]
    log_mib: u64,

    /// Keep the directories of so many tasks that have ended.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    keep_tasks: usize,
}

/// Runs until Mesos ends it.
///
/// # Errors
/// When no agent has started this process, or the system refuses what it needs.
pub fn run(args: &Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    start_logging(log);
    let options = Options { most_log: args.log_mib.saturating_mul(1 << 20), keep_tasks: args.keep_tasks };
    Ok(if run_executor(&options)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A level and no more: filters by module cost more memory than the rest of the executor.
fn start_logging(log: Option<&str>) {
    let level = log.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::WARN);
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_target(false).with_ansi(false).init();
}
