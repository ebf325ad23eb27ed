//! The files of tasks: a directory for each in the executor's sandbox, and what it writes to stdout and stderr.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where tasks' directories are, and which of them belong to tasks that have ended.
#[derive(Debug)]
pub struct Sandbox {
    tasks: PathBuf,
    ended: VecDeque<Arc<str>>,
    /// Directories of so many ended tasks are kept.
    keep: usize,
}

/// Opened for a task that starts.
#[derive(Debug)]
pub struct Files {
    pub directory: PathBuf,
    pub stdout: File,
    pub stderr: File,
}

/// One takes about 0.1 ms.
const REMOVED_AT_ONCE: usize = 8;

/// What a task has written.
pub const LOGS: [&str; 2] = ["stdout", "stderr"];

impl Sandbox {
    pub fn new(sandbox: &Path, keep: usize) -> Self {
        Self { tasks: sandbox.join("tasks"), ended: VecDeque::new(), keep }
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
        let made = fs::create_dir(&directory).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => fs::create_dir_all(&directory),
        });
        made?;
        // Appending: what is written after a rotation begins at the start of the file, not where the last write ended.
        let open = |name: &str| File::options().create(true).append(true).open(directory.join(name));
        Ok(Files { stdout: open(LOGS[0])?, stderr: open(LOGS[1])?, directory })
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

    /// Whether there are directories to remove.
    pub fn has_surplus(&self) -> bool {
        self.ended.len() > self.keep
    }

    /// Removes some of the oldest. Not when their successors end, as others wait for the news of that; and few at a time, as that takes the
    /// one thread's time: another for it would cost more memory than it is worth.
    pub fn tidy(&mut self) {
        for _ in 0..REMOVED_AT_ONCE {
            if !self.has_surplus() {
                return;
            }
            let Some(oldest) = self.ended.pop_front() else { return };
            if let Err(error) = fs::remove_dir_all(self.directory(&oldest)) {
                tracing::warn!(task = %oldest, %error, "the directory of an old task cannot be removed");
            }
        }
    }
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
        assert!(sandbox.has_surplus());
        sandbox.tidy();
        assert!(!sandbox.has_surplus());
        let mut left: Vec<_> = fs::read_dir(root.path().join("tasks")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "d"]);
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
