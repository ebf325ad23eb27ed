//! Stand-in for `mesos-executor`, the command executor, which the archive does not hold. The agent starts a fresh one for every task
//! that names no executor of its own, so it must be up in an instant: small, static, no runtime.
//!
//! It speaks the v1 executor API and behaves as the real one, without health checks, images and a terminal.

#![allow(clippy::disallowed_methods, reason = "a real process takes real time")]

mod agent;
mod executor;
mod process;

use microscaler_testbed::executor::Settings;

fn main() -> anyhow::Result<()> {
    let settings = Settings::from_environment()?;
    executor::Executor::new(agent::Agent::new(settings)).run();
    Ok(())
}
