//! What a testbed has of its own on this machine: a directory, a mark on all its processes, and a reaper.

use crate::leftovers;
use crate::reaper::Reaper;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Ends all processes that carry the mark, and removes the directory, when it is dropped or when our process is gone.
pub(crate) struct Home {
    id: String,
    /// Ends what this value does not get to end. Dropped before the directory, which it waits for.
    reaper: Option<Reaper>,
    directory: Option<TempDir>,
    root: PathBuf,
}

impl Home {
    /// A new directory within `parent`, or within the system's directory for such. `reaper` is the program.
    pub fn make(parent: Option<&Path>, reaper: &Path) -> Result<Self> {
        let directory = make_directory(parent)?;
        let root = directory.path().to_owned();
        let id = unique_id(&root);
        let reaper = Reaper::start(reaper, &id, &root)?;
        Ok(Self { id, reaper: Some(reaper), directory: Some(directory), root })
    }

    /// The value of `MICROSCALER_TESTBED` for all processes.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn directory(&self) -> &Path {
        &self.root
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let left = leftovers::clear(&self.id, &self.root);
        for problem in &left.problems {
            eprintln!("testbed {}: {problem}", self.id);
        }
        if (left.is_mounted || std::env::var_os("MICROSCALER_TESTBED_KEEP").is_some())
            && let Some(directory) = self.directory.take()
        {
            eprintln!("testbed {}: its files are in {}", self.id, directory.keep().display());
            if let Some(reaper) = self.reaper.take() {
                reaper.abandon();
            }
        }
    }
}

fn make_directory(parent: Option<&Path>) -> Result<TempDir> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    std::fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
    let parent = parent.canonicalize()?;
    tempfile::Builder::new().prefix("microscaler-testbed-").tempdir_in(&parent).with_context(|| parent.display().to_string())
}

/// Unique on this machine: the directory is, but it may be given to another later.
fn unique_id(directory: &Path) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}-{}-{number}", std::process::id())
}
