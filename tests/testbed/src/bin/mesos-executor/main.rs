//! Stand-ins for two programs that the archive does not hold: `mesos-executor`, the command executor, and, under that name,
//! `mesos-docker-executor`. The agent starts a fresh one for every task that names no executor of its own, so it must be up in an
//! instant: small, static, no runtime.
//!
//! They speak the v1 executor API and behave as the real ones, without a terminal; see the README for what else is missing.

#![allow(clippy::disallowed_methods, reason = "a real process takes real time")]

mod agent;
mod check;
mod checkpoint;
mod docker;
mod executor;
mod options;
mod place;
mod probe;
mod process;
mod rootfs;
mod task;

use anyhow::Result;
use microscaler_testbed::executor::Settings;
use options::Options;
use place::Place;
use std::path::Path;

fn main() -> Result<()> {
    let settings = Settings::from_environment()?;
    let program = std::env::args_os().next().unwrap_or_default();
    let is_docker = Path::new(&program).file_name().is_some_and(|name| name == "mesos-docker-executor");
    let options = Options::from_command_line(is_docker);
    let place = if is_docker { Place::docker(&options)? } else { Place::of_command(&options)? };
    executor::Executor::new(agent::Agent::new(settings), place).run();
    Ok(())
}
