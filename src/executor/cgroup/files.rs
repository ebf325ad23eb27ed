//! The small files that cgroups are made of.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::Pid;

use super::CgroupError;

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CgroupError {
    let path = path.display().to_string();
    |source| CgroupError::Io { path, source }
}

pub fn make(directory: &Path) -> Result<(), CgroupError> {
    fs::create_dir(directory).map_err(failed(directory))
}

pub fn write(directory: &Path, name: &str, value: &str) -> Result<(), CgroupError> {
    let path = directory.join(name);
    // Never made: in a cgroup that is a failure, and elsewhere a file that nobody looks for.
    let mut file = File::options().write(true).open(&path).map_err(failed(&path))?;
    std::io::Write::write_all(&mut file, value.as_bytes()).map_err(failed(&path))
}

pub fn read(directory: &Path, name: &str) -> Result<String, CgroupError> {
    let path = directory.join(name);
    fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(failed(&path))
}

pub fn open(directory: &Path, name: &str, for_writing: bool) -> Result<OwnedFd, CgroupError> {
    let path = directory.join(name);
    Ok(File::options().read(!for_writing).write(for_writing).open(&path).map_err(failed(&path))?.into())
}

pub fn number(directory: &Path, name: &str) -> Option<u64> {
    read(directory, name).ok()?.parse().ok()
}

/// A number in a file of lines `key number`.
pub fn keyed(directory: &Path, name: &str, key: &str) -> Option<u64> {
    let text = read(directory, name).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

pub fn processes(directory: &Path) -> Vec<Pid> {
    let list = read(directory, "cgroup.procs").unwrap_or_default();
    list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

/// Rounded down; nothing for what is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn whole(number: f64) -> u64 {
    // A cast of this kind saturates.
    number.max(0.0) as u64
}
