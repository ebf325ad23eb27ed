//! The pooled executor: one process on each agent that runs many tasks, so that starting one costs a process and not an executor.
//!
//! ```text
//!  agent ══ events ═► link ── Event ──► machine ── Effect ──► host ──► processes, cgroups, files
//!        ◄═ calls ════  ▲                 ▲  │                 │
//!                       └──── UPDATE ─────┼──┘                 │
//!                                         └─ exits, probes ────┘
//! ```
//!
//! | look for | in |
//! |---|---|
//! | what Mesos tells by the environment | [`settings`] |
//! | what the framework tells | [`words`] |
//! | connecting, subscribing, reading events, writing calls | [`link`], [`http`], [`wire`] |
//! | updates and tasks that are not acknowledged | [`told`], [`status`] |
//! | what an event leads to | [`machine`] |
//! | when checks are due and what they mean | [`checks`]; how they look: [`probe`] |
//! | processes: starting, signalling, reaping, sweeping | [`host`], [`spawn`], [`vfork`], [`processes`], [`exit`] |
//! | limits of each task | [`cgroup`] |
//! | directories and logs | [`sandbox`], [`rotate`] |
//! | the loop around it all | [`rim`] |
//! | a program of its own, small in memory | `main.rs` |
//!
//! # Decisions, and why
//! - **One thread, for everything.** A second would cost memory, and turn the signal that ends a task with its executor
//!   (PR_SET_PDEATHSIG goes with the thread) into a coin toss. What blocks is short: a clone, a few small files.
//! - **No TASK_STARTING**: the agent sends a task's next status only when the one before is acknowledged, a round trip to the framework.
//!   TASK_RUNNING is told when exec has succeeded.
//! - **Ends are seen by SIGCHLD**, not by a pidfd for each task: a subreaper has to wait for orphans anyway, so there is one place for it.
//! - **Nothing survives its task.** When its main process has ended, its group is killed, and then, until nothing is found, whoever is in
//!   its cgroup, or has become our child and is in its session or carries its mark (`MICROSCALER_TASK_ID`, which children inherit). The
//!   end is told only then, so that the room it gives back is empty. Without a cgroup, a process that has both left the session and
//!   dropped the mark escapes. TERM goes to the process group of the main process; whoever has left that only hears KILL.
//! - **The executor's end ends its tasks**: under the linux launcher by the agent, which kills the container's cgroup; else by
//!   PR_SET_PDEATHSIG, which reaches the main process of each task and not what that has started.
//! - **A KILL for a task that is not here is remembered** for a minute: it may overtake its LAUNCH. Nothing is answered, as with Mesos'
//!   own executors: the agent answers for tasks that it knows to have ended.
//! - **Memory over the limit ends the task alone**, wholly, even when the kernel has picked one of its children.
//! - **MESOS_\* and LIBPROCESS_\* are not passed on**, but for MESOS_CONTAINER_IP and MESOS_ALLOCATION_ROLE: they hold the executor's
//!   credentials, and would make a task that speaks with Mesos pass for the executor. Tasks get MESOS_TASK_ID, and MESOS_SANDBOX is their
//!   own directory, where they find their stdout and stderr as they would under Mesos' command executor.
//! - **A task that its health check ends has failed** (TASK_FAILED, `healthy: false`); Mesos' command executor says TASK_KILLED, which
//!   frameworks take for something that they have asked for. While the agent is away, checks go on.
//! - **Health is told when it changes**, not with each failure; redirects are not followed (any 3xx is healthy), and https is refused.

use std::io;
use std::path::PathBuf;

mod cgroup;
mod checks;
mod exit;
mod host;
mod http;
mod link;
mod machine;
mod probe;
mod processes;
mod rim;
mod rotate;
mod sandbox;
mod settings;
mod spawn;
mod status;
mod told;
mod vfork;
mod wire;
pub mod words;

use self::rim::Rim;
use self::settings::{Settings, SettingsError};

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Logs of tasks are rotated when they are longer, in bytes; 0 is never.
    pub most_log: u64,
    /// Directories of so many ended tasks are kept.
    pub keep_tasks: usize,
}

/// Why there is no executor.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the sandbox {path} cannot be used: {source}", path = path.display())]
    Sandbox { path: PathBuf, source: io::Error },
    #[error("the kernel does not let this process adopt orphans of its tasks: {0}")]
    Subreaper(io::Error),
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
    #[error("no runtime: {0}")]
    Runtime(io::Error),
}

/// Runs as an executor until Mesos, or its absence, ends it. Whether it was Mesos.
///
/// # Errors
/// When no agent has started this process, or the system refuses what it needs.
pub fn run(options: &Options) -> Result<bool, ExecutorError> {
    let settings = Settings::read(std::env::vars_os().collect())?;
    let tasks = settings.sandbox.join("tasks");
    std::fs::create_dir_all(&tasks).map_err(|source| ExecutorError::Sandbox { path: tasks, source })?;
    let itself = Some(rustix::process::getpid());
    rustix::process::set_child_subreaper(itself).map_err(|error| ExecutorError::Subreaper(error.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExecutorError::Runtime)?;
    runtime.block_on(async { Ok(Rim::new(settings, options)?.run().await) })
}
