//! One task: a process in a group of its own, or only the memory of a task.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

pub struct Task {
    pub name: String,
    /// As JSON, the way statuses carry it.
    pub id: String,
    pub grace_period: Option<Duration>,
    pub is_killed: bool,
    pub kill_hard_at: Option<Instant>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    group: Pid,
}

impl Task {
    pub fn new(name: String, id: String, grace_period: Option<Duration>) -> Self {
        Self { name, id, grace_period, is_killed: false, kill_hard_at: None, process: None }
    }

    /// Starts what `TaskInfo.data` says; the descriptor is readable when it has ended.
    pub fn start(&mut self, data: &Value) -> Result<OwnedFd> {
        let mut command = command_of(data)?;
        // No more than this keeps to posix_spawn, which returns after a successful exec. A plain fork, not waiting for the exec, was
        // measured: it tells RUNNING no earlier.
        let child = command.process_group(0).spawn().with_context(|| format!("cannot run {command:?}"))?;
        let group = Pid::from_child(&child);
        self.process = Some(Process { child, group });
        // Nobody reaps the child but us, so the id is its own.
        pidfd_open(group, PidfdFlags::empty()).context("no descriptor of the process")
    }

    /// Signals all processes of the group; false if there is none.
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(process) = &self.process else { return false };
        // An error says that the group is gone.
        let _ = kill_process_group(process.group, signal);
        true
    }

    /// After the end of its first process: ends the rest of the group. The state to report, and a message.
    pub fn finish(&mut self) -> (&'static str, String) {
        self.signal(Signal::KILL);
        let Some(mut process) = self.process.take() else { return ("TASK_FAILED", "It has no process".to_owned()) };
        match process.child.wait() {
            Err(error) => ("TASK_FAILED", format!("Its exit status is unknown: {error}")),
            Ok(status) if self.is_killed => ("TASK_KILLED", describe(status)),
            Ok(status) if status.success() => ("TASK_FINISHED", describe(status)),
            Ok(status) => ("TASK_FAILED", describe(status)),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("Command terminated with signal {signal}"),
        None => format!("Command exited with status {}", status.code().unwrap_or_default()),
    }
}

/// Base64 of `{"shell": "line"}` or `{"argv": [program, argument…]}`. Input and output are this executor's: the sandbox.
/// `{"nothing": true}`: the task was launched only to start the executor.
pub fn is_nothing(data: &Value) -> bool {
    read(data).is_ok_and(|what| what["nothing"] == true)
}

fn read(data: &Value) -> Result<Value> {
    let text = data.as_str().context("TaskInfo.data is missing: it says what to run")?;
    let bytes = STANDARD.decode(text).context("TaskInfo.data is not base64")?;
    serde_json::from_slice(&bytes).context("TaskInfo.data is not JSON")
}

fn command_of(data: &Value) -> Result<Command> {
    let what = read(data)?;
    if let Some(line) = what["shell"].as_str() {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line);
        return Ok(command);
    }
    let mut words = what["argv"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let Some(program) = words.next() else { bail!("TaskInfo.data has neither \"shell\" nor \"argv\": {what}") };
    let mut command = Command::new(program);
    command.args(words);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_command(what: &Value) -> Result<Command> {
        command_of(&json!(STANDARD.encode(what.to_string())))
    }

    #[test]
    fn reads_what_to_run() {
        assert_eq!(format!("{:?}", read_command(&json!({ "shell": "true" })).unwrap()), r#""/bin/sh" "-c" "true""#);
        assert_eq!(format!("{:?}", read_command(&json!({ "argv": ["sleep", "1"] })).unwrap()), r#""sleep" "1""#);
        assert!(read_command(&json!({})).unwrap_err().to_string().contains("neither"));
        assert!(command_of(&Value::Null).unwrap_err().to_string().contains("missing"));
    }
}
