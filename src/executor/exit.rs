//! How a process ended, in the words of Mesos.

use rustix::process::WaitStatus;

/// An exit status or a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Status(i32),
    Signal(i32),
}

impl From<WaitStatus> for Exit {
    fn from(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Status(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(code) => write!(f, "Command exited with status {code}"),
            Self::Signal(signal) => write!(f, "Command terminated with signal {}", signal_name(*signal)),
        }
    }
}

/// As strsignal(3) names it.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "Hangup",
        "Interrupt",
        "Quit",
        "Illegal instruction",
        "Trace/breakpoint trap",
        "Aborted",
        "Bus error",
        "Floating point exception",
        "Killed",
        "User defined signal 1",
        "Segmentation fault",
        "User defined signal 2",
        "Broken pipe",
        "Alarm clock",
        "Terminated",
        "Stack fault",
        "Child exited",
        "Continued",
        "Stopped (signal)",
        "Stopped",
        "Stopped (tty input)",
        "Stopped (tty output)",
        "Urgent I/O condition",
        "CPU time limit exceeded",
        "File size limit exceeded",
        "Virtual timer expired",
        "Profiling timer expired",
        "Window changed",
        "I/O possible",
        "Power failure",
        "Bad system call",
    ];
    let name = usize::try_from(signal - 1).ok().and_then(|index| NAMES.get(index));
    name.map_or_else(|| format!("Unknown signal {signal}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mesos_words() {
        assert_eq!(Exit::Status(3).to_string(), "Command exited with status 3");
        assert_eq!(Exit::Signal(9).to_string(), "Command terminated with signal Killed");
        assert_eq!(Exit::Signal(15).to_string(), "Command terminated with signal Terminated");
        assert_eq!(Exit::Signal(31).to_string(), "Command terminated with signal Bad system call");
        assert_eq!(Exit::Signal(34).to_string(), "Command terminated with signal Unknown signal 34");
    }
}
