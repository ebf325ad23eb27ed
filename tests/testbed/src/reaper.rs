//! The process that cleans up if ours cannot.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running `testbed-reaper`. It waits for the end of our process, however that comes: the pipe to it closes then.
pub(crate) struct Reaper {
    child: Child,
}

impl Reaper {
    pub(crate) fn start(program: &Path, id: &str, directory: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        // It must outlive a Ctrl-C and whoever ends our output; and it must not carry a mark itself.
        command.arg(id).arg(directory).current_dir("/").process_group(0).env_remove(crate::marked::VARIABLE);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Ends it without letting it clean up.
    pub(crate) fn abandon(mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
