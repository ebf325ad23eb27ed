//! Control groups, version 1: Mesos 1.11 knows no other.
//!
//! All groups of a testbed have names that begin with its id, so that they can be found and removed whoever is left to do it.

use crate::mounts;
use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the freezer is mounted on a machine that has none of version 1: once for all testbeds, since an agent takes the first
/// that it finds. It stays.
const OWN_FREEZER: &str = "/run/microscaler-cgroup/freezer";
/// Between two attempts to remove a group that still holds a process.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The name of one agent's groups.
pub(crate) fn name(id: &str, agent: &str) -> String {
    format!("{id}.{agent}")
}

/// Where the controller's hierarchy of version 1 is mounted.
pub(crate) fn hierarchy(controller: &str) -> Option<PathBuf> {
    let mut mounts = mounts::all().into_iter().filter(|mount| mount.kind == "cgroup");
    mounts.find(|mount| mount.options.split(',').any(|option| option == controller)).map(|mount| mount.point)
}

/// Mounts a hierarchy of the freezer, which the Linux launcher needs, if there is none. Version 2 leaves it free.
pub(crate) fn mount_freezer() -> Result<()> {
    if hierarchy("freezer").is_some() {
        return Ok(());
    }
    let options = CString::new("freezer")?;
    fs::create_dir_all(OWN_FREEZER).with_context(|| OWN_FREEZER.to_owned())?;
    mount("cgroup", OWN_FREEZER, "cgroup", MountFlags::empty(), options.as_c_str())
        .with_context(|| format!("cannot mount the freezer of cgroups version 1 at {OWN_FREEZER}"))
}

/// The topmost groups of a testbed, in all hierarchies; those of Docker may be of version 2.
pub(crate) fn groups(id: &str) -> Vec<PathBuf> {
    let begin = name(id, "");
    let hierarchies = mounts::all().into_iter().filter(|mount| matches!(mount.kind.as_str(), "cgroup" | "cgroup2"));
    let groups = hierarchies.flat_map(|mount| subdirectories(&mount.point));
    groups.filter(|group| group.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin))).collect()
}

/// Lets the processes of frozen groups go on, since they do not even heed SIGKILL: an agent that ends in the middle of killing a
/// container leaves them so.
pub(crate) fn thaw(group: &Path) {
    let state = group.join("freezer.state");
    if state.exists() {
        // A group that is gone needs no thawing.
        let _ = fs::write(state, "THAWED");
    }
    subdirectories(group).iter().for_each(|inner| thaw(inner));
}

/// Removes the testbed's groups, whose processes have ended. Returns those that are left when `limit` is over.
pub(crate) fn remove(id: &str, limit: Duration) -> Vec<PathBuf> {
    let deadline = Instant::now() + limit;
    loop {
        groups(id).iter().for_each(|group| remove_tree(group));
        let left = groups(id);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
}

/// The files in a group are the kernel's and go with it.
fn remove_tree(group: &Path) {
    subdirectories(group).iter().for_each(|inner| remove_tree(inner));
    // Busy as long as a process in it is not quite gone.
    let _ = fs::remove_dir(group);
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
