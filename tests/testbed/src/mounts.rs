//! What is mounted, by `/proc/self/mountinfo`.

use rustix::mount::{UnmountFlags, unmount};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount of now.
pub(crate) struct Mount {
    pub point: PathBuf,
    /// Such as `cgroup`.
    pub kind: String,
    /// Of the filesystem itself, such as `rw,memory`.
    pub options: String,
}

/// In the order in which they were made.
pub(crate) fn all() -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(parse).collect()
}

/// `36 35 98:0 /root /point options optional… - kind source options`.
fn parse(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let options = after.nth(1)?.to_owned();
    Some(Mount { point: unescape(before.split(' ').nth(4)?), kind, options })
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut pieces = text.split('\\');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(3).unwrap_or((piece, ""));
        bytes.extend(u8::from_str_radix(digits, 8));
        bytes.extend_from_slice(rest.as_bytes());
    }
    OsString::from_vec(bytes).into()
}

/// Unmounts everything below a directory, the latest first. Returns what is still mounted: then nothing there may be deleted.
pub(crate) fn unmount_below(directory: &Path) -> Vec<PathBuf> {
    for point in below(directory).iter().rev() {
        // What fails is still there afterwards.
        let _ = unmount(point, UnmountFlags::DETACH);
    }
    below(directory)
}

fn below(directory: &Path) -> Vec<PathBuf> {
    all().into_iter().map(|mount| mount.point).filter(|point| point.starts_with(directory)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let mount = parse(r"36 35 98:0 /a /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue").unwrap();
        let Mount { point, kind, options } = mount;
        assert_eq!((point.as_path(), &*kind, &*options), (Path::new("/mnt 2"), "ext3", "rw,errors=continue"));
        assert!(all().iter().any(|mount| mount.point == Path::new("/")));
    }
}
