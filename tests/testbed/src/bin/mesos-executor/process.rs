//! A task's process, in a session and process group of its own.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, setsid, waitid};
use serde_json::Value;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub struct Process {
    child: Child,
    group: Pid,
}

impl Process {
    /// Starts a command.
    ///
    /// # Errors
    /// If the program cannot be executed.
    pub fn start(mut command: Command) -> io::Result<Self> {
        // SAFETY: between fork and exec the closure makes one system call and touches no memory that another thread may hold.
        unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
        // spawn() returns after a successful exec, so the group exists from here on.
        let child = command.stdin(Stdio::null()).spawn()?;
        let group = Pid::from_child(&child);
        Ok(Self { child, group })
    }

    /// `on_exit` is called in a thread of its own at the moment the process ends.
    pub fn watch(&self, on_exit: impl FnOnce() + Send + 'static) {
        let group = self.group;
        std::thread::spawn(move || {
            // Not reaped yet: until finish() the process id, and with it the group's, cannot be given to another.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(group), options), Err(rustix::io::Errno::INTR)) {}
            on_exit();
        });
    }

    /// Whether the process ends within that time.
    pub fn ends_within(&self, limit: Duration) -> io::Result<bool> {
        let descriptor = pidfd_open(self.group, PidfdFlags::empty())?;
        let limit = limit.try_into().ok();
        Ok(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], limit.as_ref())? > 0)
    }

    /// Signals all processes of the group.
    pub fn signal(&self, signal: Signal) {
        // An error says that the group is gone.
        let _ = kill_process_group(self.group, signal);
    }

    /// Call after the exit: ends what is left of the group, as the agent ends a whole container with its first process.
    pub fn finish(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.child.wait()
    }
}

/// The program of a `CommandInfo` and its environment; output goes where ours goes, to the sandbox.
pub fn command_of(info: &Value) -> Command {
    let value = info["value"].as_str().unwrap_or_default();
    let mut command;
    if is_shell(info) {
        command = Command::new("/bin/sh");
        command.arg0("sh").arg("-c").arg(value);
    } else {
        command = Command::new(value);
        let mut arguments = arguments(info);
        if let Some(own_name) = arguments.next() {
            command.arg0(own_name);
        }
        command.args(arguments);
    }
    command.envs(variables(info));
    command
}

/// Whether the value of a `CommandInfo` is a line for the shell.
pub fn is_shell(info: &Value) -> bool {
    info["shell"].as_bool().unwrap_or(true)
}

/// Of a `CommandInfo`; the first is the program's own name.
pub fn arguments(info: &Value) -> impl Iterator<Item = &str> {
    info["arguments"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The environment of a `CommandInfo`.
pub fn variables(info: &Value) -> impl Iterator<Item = (&str, &str)> {
    let variables = info["environment"]["variables"].as_array().into_iter().flatten();
    variables.filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str().unwrap_or_default())))
}

/// In the words of Mesos; `what` is "Command" or "Container".
pub fn describe(what: &str, status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("{what} exited with status {code}"),
        (None, Some(signal)) => format!("{what} terminated with signal {}", signal_name(signal)),
        (None, None) => format!("{what} ended: {status}"),
    }
}

/// As strsignal(3) names it.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        _ => return format!("Unknown signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_as_mesos_does() {
        assert_eq!(describe("Container", ExitStatus::from_raw(3 << 8)), "Container exited with status 3");
        assert_eq!(describe("Command", ExitStatus::from_raw(15)), "Command terminated with signal Terminated");
    }
}
