//! Processes that tasks have left behind. The executor is a subreaper, so they become its children when their own parents end, and each
//! of them is found among these.

use std::fs;

use rustix::process::{Pid, RawPid, getpid, getsid};

use super::spawn::MARK;

/// Our children; also those that have ended and are not reaped yet.
pub fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(pid).collect(),
        // A kernel without that list.
        Err(_) => children_of(own.get()),
    }
}

fn children_of(parent: RawPid) -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| pid(entry.file_name().to_str()?));
    let is_child = |pid: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        parent_in(&stat) == Some(parent)
    };
    pids.filter(is_child).collect()
}

/// `pid (name) state parent …`; the name may hold anything, brackets too.
fn parent_in(stat: &str) -> Option<RawPid> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

/// The session it is in; none if it is gone.
pub fn session(pid: Pid) -> Option<Pid> {
    getsid(Some(pid)).ok()
}

/// The id of the task whose mark the process carries.
pub fn mark(pid: Pid) -> Option<String> {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
    mark_in(&environment)
}

fn mark_in(environment: &[u8]) -> Option<String> {
    let value =
        environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(parent_in("12 (a) b (c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in(""), None);
        assert_eq!(mark_in(b"PATH=/bin\0MICROSCALER_TASK_ID=web.1\0X=1\0").unwrap(), "web.1");
        assert_eq!(mark_in(b"NOT_MICROSCALER_TASK_ID=web.1\0"), None);
    }

    #[test]
    fn both_ways_find_a_child() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "echo; read end"]).env(MARK, "t").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Its environment is there only some time after it has been spawned.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = Pid::from_child(&child);
        assert!(children_of(getpid().as_raw_nonzero().get()).contains(&pid));
        assert_eq!(mark(pid).unwrap(), "t");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
