//! `bare-executor`: what a pooled executor does at the least, and the floor that others are measured against.
//!
//! It subscribes on the v1 executor API and runs any number of tasks at a time, in one thread, with nothing that polls. The command
//! of a task is in `TaskInfo.data`: JSON `{"shell": "line"}` or `{"argv": ["program", …]}`.

#![allow(clippy::disallowed_methods, reason = "a real process takes real time")]

mod executor;
mod link;
mod task;
mod watch;

use anyhow::bail;
use microscaler_testbed::executor::Settings;

const USAGE: &str = "usage: bare-executor --run | --pretend    (started by a Mesos agent)
  --run      each task is a process
  --pretend  a task is only said to run, and to be killed";

fn main() -> anyhow::Result<()> {
    let pretends = match std::env::args().nth(1).as_deref() {
        Some("--run") => false,
        Some("--pretend") => true,
        _ => bail!(USAGE),
    };
    executor::Executor::new(Settings::from_environment()?, pretends)?.run()
}
