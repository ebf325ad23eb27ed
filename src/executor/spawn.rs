//! Starting a program, in a session, a process group and, where there are some, cgroups of its own.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

use super::vfork::{Birth, Step};
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

    /// The program's own name among them.
    fn arguments(self) -> Vec<&'a str> {
        match self {
            Self::Shell(line) => vec!["sh", "-c", line],
            Self::Exec(file, []) => vec![file],
            Self::Exec(_, arguments) => arguments.iter().map(String::as_str).collect(),
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
    pub stdout: File,
    pub stderr: File,
    /// Files that put the process that writes "0" to them into a cgroup, in which nobody else is: one that runs out of memory while the
    /// child still shares ours would end us, too.
    pub joins: Vec<OwnedFd>,
    /// The limit of open files that tasks have, where it is not our own.
    pub open_files: Option<Rlimit>,
}

/// Raises our limit of open files as far as we may, and gives what it was before: programs that use select(2) rely on a low one.
pub fn raise_file_limit() -> Option<Rlimit> {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum }).ok()?;
    Some(before)
}

/// Where programs are sought when the environment does not say; as execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Starts it; it has executed the program when this returns.
///
/// # Errors
/// In words, naming the program or the directory.
pub fn spawn(start: &Start) -> Result<Pid, String> {
    let (name, directory) = (start.program.name(), start.directory.display());
    birth(start).and_then(|birth| birth.spawn()).map_err(|(step, error)| match step {
        Step::Execute => format!("cannot execute {name:?}: {error}"),
        Step::Directory if !start.directory.is_dir() => format!("cannot start in {directory}: it is no directory"),
        Step::Directory => format!("cannot start in {directory}: {error}"),
        Step::Clone => format!("cannot start a process: {error}"),
        Step::Session => format!("cannot start a session: {error}"),
        Step::Cgroup => format!("cannot enter its cgroup: {error}"),
        Step::Limit => format!("cannot limit its open files: {error}"),
    })
}

fn birth<'s>(start: &'s Start) -> Result<Birth<'s>, (Step, io::Error)> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|error| (Step::Execute, error.into()));
    // Of several with one name the last counts.
    let environment: BTreeMap<&OsStr, &OsStr> = start.environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    let path = environment.get(OsStr::new("PATH")).copied().unwrap_or(OsStr::new(DEFAULT_PATH));
    let candidates = candidates(start.program.name(), path);
    let pairs = environment.iter().map(|(name, value)| [name.as_bytes(), value.as_bytes()].join(&b'='));
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    Ok(Birth {
        candidates: candidates.iter().map(|file| text(file)).collect::<Result<_, _>>()?,
        arguments: start.program.arguments().into_iter().map(|word| text(word.as_bytes())).collect::<Result<_, _>>()?,
        environment: pairs.map(|pair| text(&pair)).collect::<Result<_, _>>()?,
        directory: text(start.directory.as_os_str().as_bytes()).map_err(|(_, error)| (Step::Directory, error))?,
        stdin: null.map_err(|error| (Step::Execute, error.into()))?,
        stdout: start.stdout.as_fd(),
        stderr: start.stderr.as_fd(),
        joins: &start.joins,
        open_files: start.open_files,
    })
}

/// Where a program may be.
fn candidates(name: &str, path: &OsStr) -> Vec<Vec<u8>> {
    if name.is_empty() || name.contains('/') {
        return vec![name.as_bytes().to_vec()];
    }
    std::env::split_paths(path).map(|directory| directory.join(name).into_os_string().into_vec()).collect()
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
        let [stdout, stderr] = [(); 2].map(|()| File::create("/dev/null").unwrap());
        Start { program, environment: &[], directory, stdout, stderr, joins: Vec::new(), open_files: None }
    }

    #[test]
    fn what_cannot_be_executed_is_named() {
        let exec = [String::from("x")];
        let error = spawn(&start(Program::Exec("/no/such/program", &exec), Path::new("/"))).unwrap_err();
        assert_eq!(error, "cannot execute \"/no/such/program\": No such file or directory (os error 2)");
        let error = spawn(&start(Program::Shell("true"), Path::new("/no/such/directory"))).unwrap_err();
        assert_eq!(error, "cannot start in /no/such/directory: it is no directory");
    }

    /// What the program writes, with an environment of only this PATH.
    fn output(program: Program, path: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("stdout");
        let environment = [("PATH".into(), "/nowhere".into()), ("PATH".into(), path.into())];
        let stdout = File::create(&file).unwrap();
        let pid = spawn(&Start { environment: &environment, stdout, ..start(program, directory.path()) }).unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn programs_are_sought_on_their_own_path() {
        let bin = tempfile::tempdir().unwrap();
        let path = bin.path().join("no-format");
        std::fs::write(&path, "echo $0 $1").unwrap();
        let words = ["other".to_owned(), "x".to_owned()];
        let on = format!("/no/such/place:{}", bin.path().display());
        let not_allowed = spawn(&Start {
            environment: &[("PATH".into(), on.clone().into())],
            ..start(Program::Exec("no-format", &words), Path::new("/"))
        });
        assert_eq!(not_allowed.unwrap_err(), "cannot execute \"no-format\": Permission denied (os error 13)");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(output(Program::Exec("no-format", &words), &on), format!("{} x\n", path.display()));
    }

    #[test]
    fn a_program_has_a_session_and_signals_of_its_own() {
        // Rust ignores SIGPIPE, and a signal that is ignored or blocked would be so in the program, too.
        let line = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ps -o pid= -o sid= -o pgid= $$";
        let text = output(Program::Shell(line), "/bin:/usr/bin");
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let ["SigBlk:", blocked, "SigIgn:", ignored, pid, session, group] = words[..] else { panic!("{text}") };
        // The C library keeps two for itself, and lets nobody change them.
        let own = 0b11_u64 << 31;
        let both = [blocked, ignored].map(|mask| u64::from_str_radix(mask, 16).unwrap() & !own);
        assert_eq!((both, session, group), ([0, 0], pid, pid));
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
