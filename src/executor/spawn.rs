//! fork and exec, into a session, a process group and, where there are some, cgroups of its own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, setrlimit, setsid};

use super::wire::CommandInfo;
use super::words::Work;

/// By it, what a task leaves behind is known: children inherit it.
pub const MARK: &str = "MICROSCALER_TASK_ID";

/// What is executed.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// A line for /bin/sh -c.
    Shell(&'a str),
    /// The file, and all arguments, the program's own name among them.
    Exec(&'a str, &'a [String]),
}

impl<'a> Program<'a> {
    /// Of a task; it has been checked that there is one.
    pub fn of_work(work: &'a Work) -> Self {
        match (&work.shell, work.argv.first()) {
            (Some(line), _) => Self::Shell(line),
            (None, file) => Self::Exec(file.map_or("", String::as_str), &work.argv),
        }
    }

    /// Of a check.
    pub fn of_command(command: &'a CommandInfo) -> Self {
        if command.shell { Self::Shell(&command.value) } else { Self::Exec(&command.value, &command.arguments) }
    }

    fn command(self) -> Command {
        match self {
            Self::Shell(line) => {
                let mut command = Command::new("/bin/sh");
                command.arg0("sh").arg("-c").arg(line);
                command
            }
            Self::Exec(file, arguments) => {
                let mut command = Command::new(file);
                if let Some((own_name, rest)) = arguments.split_first() {
                    command.arg0(own_name).args(rest);
                }
                command
            }
        }
    }

    fn name(self) -> &'a str {
        match self {
            Self::Shell(_) => "/bin/sh",
            Self::Exec(file, _) => file,
        }
    }
}

/// Everything that a process is started with.
pub struct Start<'a> {
    pub program: Program<'a>,
    pub environment: &'a [(OsString, OsString)],
    pub directory: &'a Path,
    pub stdout: Stdio,
    pub stderr: Stdio,
    /// Files that put the process that writes "0" to them into a cgroup.
    pub joins: Vec<OwnedFd>,
    /// The limit of open files that tasks have, where it is not our own.
    pub files: Option<Rlimit>,
}

/// Raises our limit of open files as far as we may, and gives what it was before: programs that use select(2) rely on a low one.
pub fn raise_file_limit() -> Option<Rlimit> {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum }).ok()?;
    Some(before)
}

/// Starts it; it has executed the program when this returns.
///
/// # Errors
/// In words, naming the program or the directory.
pub fn spawn(start: Start) -> Result<Pid, String> {
    let Start { program, environment, directory, stdout, stderr, joins, files } = start;
    let mut command = program.command();
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value))).current_dir(directory);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    prepare_child(&mut command, joins, files);
    let child = command.spawn().map_err(|error| {
        if directory.is_dir() {
            format!("cannot execute {:?}: {error}", program.name())
        } else {
            format!("cannot start in {}: it is no directory", directory.display())
        }
    })?;
    // It is waited for with all others; dropping the handle does nothing.
    Ok(Pid::from_child(&child))
}

#[allow(unsafe_code)]
fn prepare_child(command: &mut Command, joins: Vec<OwnedFd>, files: Option<Rlimit>) {
    let parent = getpid();
    let prepare = move || child_prepares(parent, &joins, files);
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are sound. It makes system calls alone (rustix
    // calls the kernel without libc's locks or buffers), reads what was prepared before the fork, and allocates and frees nothing: its
    // errors are bare error numbers.
    unsafe { command.pre_exec(prepare) };
}

fn child_prepares(parent: Pid, joins: &[OwnedFd], files: Option<Rlimit>) -> io::Result<()> {
    setsid()?;
    // Ends with the executor. That is told by the thread that forked, and the executor has only one.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // It has ended before it could be told.
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
    }
    for join in joins {
        rustix::io::write(join, b"0")?;
    }
    if let Some(files) = files {
        setrlimit(Resource::Nofile, files)?;
    }
    Ok(())
}

/// What a task finds in its environment: `base` is inherited. Of two of the same name the later counts, and so the mark is the last.
pub fn environment(base: &[(OsString, OsString)], work: &Work, id: &str, directory: &Path) -> Vec<(OsString, OsString)> {
    let pair = |name: &str, value: &OsStr| (OsString::from(name), value.to_owned());
    let mut environment = Vec::with_capacity(base.len() + work.env.len() + 3);
    environment.extend_from_slice(base);
    environment.push(pair("MESOS_TASK_ID", id.as_ref()));
    environment.push(pair("MESOS_SANDBOX", directory.as_ref()));
    // The operating system has no words for others.
    let known = work.env.iter().filter(|(name, value)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    environment.extend(known.map(|(name, value)| pair(name, value.as_ref())));
    environment.push(pair(MARK, id.as_ref()));
    environment
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn start<'a>(program: Program<'a>, directory: &'a Path) -> Start<'a> {
        let (stdout, stderr) = (Stdio::null(), Stdio::null());
        Start { program, environment: &[], directory, stdout, stderr, joins: Vec::new(), files: None }
    }

    #[test]
    fn what_cannot_be_executed_is_named() {
        let exec = [String::from("x")];
        let error = spawn(start(Program::Exec("/no/such/program", &exec), Path::new("/"))).unwrap_err();
        assert_eq!(error, "cannot execute \"/no/such/program\": No such file or directory (os error 2)");
        let error = spawn(start(Program::Shell("true"), Path::new("/no/such/directory"))).unwrap_err();
        assert_eq!(error, "cannot start in /no/such/directory: it is no directory");
    }

    #[test]
    fn the_mark_is_the_executors_word() {
        let work = Work { env: vec![(MARK.into(), "other".into()), ("MESOS_SANDBOX".into(), "/mine".into())], ..Work::default() };
        let all = environment(&[("PATH".into(), "/bin".into())], &work, "t", Path::new("/sandbox/tasks/t"));
        let last = |name: &str| all.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!(last(MARK), Some("t"));
        assert_eq!((last("PATH"), last("MESOS_TASK_ID"), last("MESOS_SANDBOX")), (Some("/bin"), Some("t"), Some("/mine")));
    }
}
