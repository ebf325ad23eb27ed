//! The files of tasks: a directory for each in the executor's sandbox, and what it writes to stdout and stderr.
//!
//! A file system takes longer to find room for a directory and two files than a process takes to start, and longest where others have
//! just been removed. So some stand ready with their files open, made of those of old tasks where that can be, and a task that starts
//! takes one over by renaming it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where tasks' directories are, and which of them belong to tasks that have ended.
#[derive(Debug)]
pub struct Sandbox {
    tasks: PathBuf,
    spare: PathBuf,
    ended: VecDeque<Arc<str>>,
    /// Directories of so many ended tasks are kept.
    keep: usize,
    ready: Vec<Files>,
    /// No directories are made ready any more, since that has failed.
    is_stuck: bool,
    /// Of the directories that were made ready so far.
    serial: u64,
}

/// Opened for a task that starts.
#[derive(Debug)]
pub struct Files {
    pub directory: PathBuf,
    pub stdout: File,
    pub stderr: File,
}

/// So many are made ready anew: as many tasks as an agent is likely to get at once.
const READY: usize = 16;
/// So many are kept ready out of old ones, which come later than the tasks start that are to take them over.
const MOST_READY: usize = 4 * READY;
/// One takes about 0.1 ms.
const TIDIED_AT_ONCE: usize = 8;
/// With so many old directories too many, tasks that start have to wait for a moment.
const PRESSING: usize = 64;

/// What a task has written.
pub const LOGS: [&str; 2] = ["stdout", "stderr"];

impl Sandbox {
    pub fn new(sandbox: &Path, keep: usize) -> Self {
        let [tasks, spare] = ["tasks", "spare"].map(|name| sandbox.join(name));
        Self { tasks, spare, ended: VecDeque::new(), keep, ready: Vec::new(), is_stuck: false, serial: 0 }
    }

    /// Mesos allows no id that would lead out of here.
    pub fn directory(&self, id: &str) -> PathBuf {
        self.tasks.join(id)
    }

    /// # Errors
    /// When they cannot be made.
    pub fn open(&mut self, id: &str) -> io::Result<Files> {
        if matches!(id, "" | "." | "..") || id.contains('/') {
            return Err(io::Error::other(format!("a task id that is no file name: {id:?}")));
        }
        self.ended.retain(|ended| **ended != *id);
        let directory = self.directory(id);
        if let Some(files) = self.ready.pop()
            && fs::rename(&files.directory, &directory).is_ok()
        {
            return Ok(Files { directory, ..files });
        }
        // None is ready, or the task has been here before.
        Files::open(directory)
    }

    /// The last output of a task's check.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn check_output(&self, id: &str, name: &Path) -> io::Result<File> {
        File::create(self.directory(id).join(name))
    }

    /// The task is over: its directory stays until enough others have come.
    pub fn ended(&mut self, id: &Arc<str>) {
        self.ended.push_back(id.clone());
    }

    /// Whether there are directories to remove or to make ready.
    pub fn is_untidy(&self) -> bool {
        self.surplus() > 0 || self.wants_ready(READY)
    }

    /// Whether that cannot wait until nothing else is to be done.
    pub fn is_pressing(&self) -> bool {
        self.surplus() >= PRESSING
    }

    fn wants_ready(&self, most: usize) -> bool {
        self.ready.len() < most && !self.is_stuck
    }

    fn surplus(&self) -> usize {
        self.ended.len().saturating_sub(self.keep)
    }

    /// Makes some directories ready, out of the oldest or anew, and removes what is left over. Few at a time, as that takes the one
    /// thread's time: another for it would cost more memory than it is worth.
    pub fn tidy(&mut self) {
        for _ in 0..TIDIED_AT_ONCE {
            let oldest = if self.surplus() > 0 { self.ended.pop_front() } else { None };
            if oldest.is_none() && !self.wants_ready(READY) {
                return;
            }
            if let Err(error) = self.tidy_one(oldest.as_deref()) {
                tracing::warn!(task = oldest.as_deref(), %error, "no more directories of tasks are made ready");
                self.is_stuck = true;
            }
        }
    }

    fn tidy_one(&mut self, oldest: Option<&str>) -> io::Result<()> {
        let old = oldest.map(|id| self.directory(id));
        self.serial += 1;
        let directory = self.spare.join(self.serial.to_string());
        if let Some(old) = old {
            if !self.wants_ready(MOST_READY) || !is_as_made(&old) {
                return fs::remove_dir_all(old);
            }
            for name in LOGS {
                File::options().write(true).truncate(true).open(old.join(name))?;
            }
            fs::create_dir_all(&self.spare)?;
            fs::rename(old, &directory)?;
        }
        self.ready.push(Files::open(directory)?);
        Ok(())
    }
}

impl Files {
    fn open(directory: PathBuf) -> io::Result<Self> {
        let made = fs::create_dir(&directory).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => fs::create_dir_all(&directory),
        });
        made?;
        // Appending: what is written after a rotation begins at the start of the file, not where the last write ended.
        let open = |name: &str| File::options().create(true).append(true).open(directory.join(name));
        Ok(Self { stdout: open(LOGS[0])?, stderr: open(LOGS[1])?, directory })
    }
}

/// Whether nothing but its logs is in the directory of an old task, and nobody else has a hold of them.
fn is_as_made(directory: &Path) -> bool {
    let is_log = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let metadata = entry.metadata().ok()?;
        let is_plain = metadata.is_file() && metadata.nlink() == 1 && LOGS.iter().any(|name| entry.file_name() == *name);
        is_plain.then_some(())
    };
    let logs: Option<Vec<()>> = fs::read_dir(directory).ok().and_then(|entries| entries.map(is_log).collect());
    logs.is_some_and(|logs| logs.len() == LOGS.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_the_last_directories_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::new(root.path(), 2);
        for id in ["a", "b", "c", "a", "d"] {
            let mut files = sandbox.open(id).unwrap();
            files.stdout.write_all(b"x").unwrap();
            sandbox.ended(&id.into());
        }
        while sandbox.is_untidy() {
            sandbox.tidy();
        }
        let mut left: Vec<_> = fs::read_dir(root.path().join("tasks")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "d"]);
    }

    #[test]
    fn what_stands_ready_is_empty_and_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::new(root.path(), 0);
        for id in ["plain", "full"] {
            let mut files = sandbox.open(id).unwrap();
            files.stdout.write_all(b"old").unwrap();
            sandbox.ended(&id.into());
        }
        let kept = fs::metadata(sandbox.directory("plain").join(LOGS[0])).unwrap().ino();
        // What a task has put there, or linked to, is not for others.
        std::os::unix::fs::symlink("/etc/passwd", sandbox.directory("full").join("stdin")).unwrap();
        while sandbox.is_untidy() {
            sandbox.tidy();
        }
        let taken: Vec<Files> = (0..READY).map(|n| sandbox.open(&n.to_string()).unwrap()).collect();
        assert_eq!(fs::read_dir(root.path().join("spare")).unwrap().count(), 0);
        let inodes: Vec<u64> = taken.iter().map(|files| files.stdout.metadata().unwrap().ino()).collect();
        assert!(inodes.contains(&kept));
        for mut files in taken {
            files.stdout.write_all(b"new").unwrap();
            assert_eq!(fs::read_to_string(files.directory.join(LOGS[0])).unwrap(), "new");
            assert!(is_as_made(&files.directory));
        }
        assert!(sandbox.open("one more").is_ok());
    }

    #[test]
    fn a_task_that_was_here_before_finds_what_it_has_written() {
        let root = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::new(root.path(), 9);
        sandbox.open("a").unwrap().stdout.write_all(b"1").unwrap();
        sandbox.tidy();
        let mut again = sandbox.open("a").unwrap();
        again.stdout.write_all(b"2").unwrap();
        assert_eq!(fs::read_to_string(again.directory.join(LOGS[0])).unwrap(), "12");
    }

    #[test]
    fn no_id_leads_out() {
        let root = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::new(root.path(), 2);
        for id in ["..", "a/../../b", ""] {
            assert!(sandbox.open(id).is_err(), "{id}");
        }
    }
}
