//! Finds and ends the processes of one testbed: all that carry its id in their environment, and their descendants.
//!
//! Agents are told to hand the mark on to executors, which hand it on to tasks, so it reaches everything that a testbed starts.

use crate::cgroups;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// The variable that carries the mark.
pub const VARIABLE: &str = "MICROSCALER_TESTBED";

/// Marks commands that an executor runs beside its task.
pub const HELPER_VARIABLE: &str = "MICROSCALER_TESTBED_HELPER";

/// A process of this moment; `start` tells it from a later one with the same id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    start: u64,
    environment: Vec<u8>,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let (parent, start) = parent_and_start(pid)?;
        // Unreadable if it belongs to somebody else: then it is not ours.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        Some(Self { pid, parent, start, environment })
    }

    /// Whether its environment has the variable (with any value).
    #[must_use]
    pub fn has_variable(&self, name: &str) -> bool {
        self.variables().any(|entry| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')))
    }

    /// Whether it is an executor of Docker's, which the agent starts outside of any container.
    #[must_use]
    pub(crate) fn is_docker_executor(&self) -> bool {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        program.file_name().is_some_and(|name| name == "mesos-docker-executor")
    }

    fn has_mark(&self, id: &str) -> bool {
        let entry = format!("{VARIABLE}={id}");
        self.variables().any(|variable| variable == entry.as_bytes())
    }

    fn variables(&self) -> impl Iterator<Item = &[u8]> {
        self.environment.split(|byte| *byte == 0)
    }
}

/// Parent and start time (in clock ticks since boot) of a process that is neither gone nor a zombie.
fn parent_and_start(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; state is the first field after it.
    let mut values = stat.rsplit_once(") ")?.1.split(' ');
    let state = values.next()?;
    let parent = values.next()?.parse().ok()?;
    let start = values.nth(17)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some((parent, start))
}

fn all() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Process::read(pid)?))).collect()
}

/// The processes that carry the mark `id`, and all their descendants (which may have cleared their environment), by pid.
#[must_use]
pub fn processes(id: &str) -> Vec<Process> {
    let everything = all();
    let mut ours: BTreeSet<u32> = everything.values().filter(|process| process.has_mark(id)).map(|process| process.pid).collect();
    loop {
        let children = everything.values().filter(|process| ours.contains(&process.parent) && !ours.contains(&process.pid));
        let children: Vec<u32> = children.map(|process| process.pid).collect();
        if children.is_empty() {
            break;
        }
        ours.extend(children);
    }
    ours.iter().filter_map(|pid| everything.get(pid).cloned()).collect()
}

/// Ends all processes that carry the mark, and waits until they are gone, at most `limit`. Returns those that are left.
#[must_use]
pub fn end(id: &str, limit: Duration) -> Vec<Process> {
    let deadline = Instant::now() + limit;
    let mut quiet_rounds = 0;
    loop {
        let found = processes(id);
        // Twice nothing: for an instant, a process in execve shows an empty environment.
        quiet_rounds = if found.is_empty() { quiet_rounds + 1 } else { 0 };
        if quiet_rounds == 2 || Instant::now() > deadline {
            return found;
        }
        found.iter().for_each(kill);
        cgroups::groups(id).iter().for_each(|group| cgroups::thaw(group));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// SIGKILL for exactly that process: the descriptor pins it, and the start time tells that it is still the one we saw.
fn kill(process: &Process) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if parent_and_start(process.pid).is_some_and(|(_, start)| start == process.start) {
        // An error says that it is gone already.
        let _ = pidfd_send_signal(descriptor, Signal::KILL);
    }
}
