//! Where the task runs: as a process of this machine, in an unpacked image, or in a Docker container.

use crate::docker::Docker;
use crate::options::Options;
use crate::process::{Process, command_of};
use crate::rootfs::Rootfs;
use anyhow::Result;
use microscaler_testbed::marked;
use rustix::process::Signal;
use serde_json::Value;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub enum Place {
    Host,
    Rootfs(Arc<Rootfs>),
    Docker(Arc<Docker>),
}

impl Place {
    pub fn of_command(options: &Options) -> Result<Self> {
        Ok(Rootfs::from_options(options)?.map_or(Self::Host, |rootfs| Self::Rootfs(Arc::new(rootfs))))
    }

    pub fn docker(options: &Options) -> Result<Self> {
        Ok(Self::Docker(Arc::new(Docker::from_options(options)?)))
    }

    /// What runs a task.
    pub fn task_command(&self, task: &Value) -> Result<Command> {
        Ok(match self {
            Self::Host => command_of(&task["command"]),
            Self::Rootfs(rootfs) => rootfs.task_command(&task["command"]),
            Self::Docker(docker) => docker.run(task)?,
        })
    }

    /// What runs a `CommandInfo` beside the task.
    pub fn check_command(&self, info: &Value) -> Command {
        let mut command = match self {
            Self::Host => command_of(info),
            Self::Rootfs(rootfs) => rootfs.command(info),
            Self::Docker(docker) => docker.exec(info),
        };
        // Tells the testbed that this is no task.
        command.env(marked::HELPER_VARIABLE, "1");
        command
    }

    /// Mesos' Docker executor knows health checks, but no `TaskInfo.check`.
    pub fn knows_checks(&self) -> bool {
        !matches!(self, Self::Docker(_))
    }

    /// What ends when the task ends, in the words of Mesos.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Docker(_) => "Container",
            _ => "Command",
        }
    }

    /// Asks the task to end within the grace period; that passing, the caller will [`kill`](Self::kill) it.
    pub fn terminate(&self, process: &Process, grace: Duration) {
        match self {
            Self::Docker(docker) => docker.stop(grace),
            _ => process.signal(Signal::TERM),
        }
    }

    pub fn kill(&self, process: &Process) {
        match self {
            Self::Docker(docker) => docker.kill(),
            _ => process.signal(Signal::KILL),
        }
    }
}
