//! Ends what a testbed leaves behind on the machine: processes, control groups and mounts. Files are the caller's.

use crate::{cgroups, marked, mounts};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// What could not be ended, in words.
#[derive(Debug, Default)]
pub struct Left {
    pub problems: Vec<String>,
    /// Something is still mounted below the directory: deleting the directory could delete what belongs to others.
    pub is_mounted: bool,
}

/// Clears everything of the testbed `id` but the files in its directory.
#[must_use]
pub fn clear(id: &str, directory: &Path) -> Left {
    let mut left = Left::default();
    let processes = marked::end(id, LIMIT);
    if !processes.is_empty() {
        left.problems.push(format!("these processes do not end: {processes:?}"));
    }
    // Mounts first: an unmounted root filesystem lets go of the last of a container.
    let mounted = mounts::unmount_below(directory);
    if !mounted.is_empty() {
        left.problems.push(format!("still mounted, so its files stay: {mounted:?}"));
        left.is_mounted = true;
    }
    let groups = cgroups::remove(id, LIMIT);
    if !groups.is_empty() {
        left.problems.push(format!("these control groups cannot be removed: {groups:?}"));
    }
    left
}
