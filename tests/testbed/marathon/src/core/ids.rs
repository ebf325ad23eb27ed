//! Ids: of apps (paths), deployments (UUIDs), instances and tasks.

use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt::Write;

/// A random (version 4) UUID.
#[must_use]
pub fn uuid() -> String {
    let mut bytes = [0_u8; 16];
    // Sixteen bytes never come short.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // A String takes every write.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether Marathon takes that as the id of an app: segments of small letters, digits, dots and inner dashes; `.` and `..` as well.
#[must_use]
pub fn is_valid_path(path: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_valid = |segment: &str| {
        segment.split('.').all(|label| {
            label.is_empty() || label.chars().all(|c| is_plain(c) || c == '-') && !label.starts_with('-') && !label.ends_with('-')
        })
    };
    path.split('/').all(is_valid)
}

/// The absolute path without empty, `.` and `..` segments: `a//b`, `../x` and `/a/../c` become `/a/b`, `/x` and `/c`.
#[must_use]
pub fn canonical(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// The same, with `base` before what does not begin with a slash.
#[must_use]
pub fn canonical_in(base: &str, path: &str) -> String {
    if path.starts_with('/') { canonical(path) } else { canonical(&format!("{base}/{path}")) }
}

/// All groups above a path, from the root (`/`) on.
pub fn parents(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(index, _)| index);
    ends.map(|end| if end == 0 { "/" } else { &path[..end] })
}

#[must_use]
pub fn new_instance(app: &str) -> String {
    format!("{}.instance-{}", app.trim_start_matches('/').replace('/', "_"), uuid())
}

/// Such as `a_b.instance-<uuid>._app.1`.
#[must_use]
pub fn task(instance: &str, incarnation: u32) -> String {
    format!("{instance}._app.{incarnation}")
}

/// The instance of a task, with which of its tasks it is; none if that is no task id.
#[must_use]
pub fn instance_of(task: &str) -> Option<(&str, u32)> {
    let (instance, incarnation) = task.rsplit_once("._app.")?;
    let (_, uuid) = instance.rsplit_once(".instance-")?;
    (uuid.len() == 36).then_some((instance, incarnation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked_and_normalised_as_marathon_does() {
        for bad in ["/Capital", "/a_b", "/-x", "/x-", "/a b"] {
            assert!(!is_valid_path(bad), "{bad}");
        }
        for (given, meant) in [("/a//b", "/a/b"), ("noslash", "/noslash"), ("../x", "/x"), ("/a/../c", "/c"), ("/x.y", "/x.y")] {
            assert!(is_valid_path(given), "{given}");
            assert_eq!(canonical(given), meant);
        }
        assert_eq!(canonical_in("/grp", "x"), "/grp/x");
        assert_eq!(canonical_in("/grp", "/grp/y"), "/grp/y");
        assert_eq!(parents("/a/b/c").collect::<Vec<_>>(), ["/", "/a", "/a/b"]);
    }

    #[test]
    fn a_task_tells_its_instance() {
        let instance = new_instance("/a/b");
        assert!(instance.starts_with("a_b.instance-"), "{instance}");
        assert_eq!(instance_of(&task(&instance, 3)), Some((instance.as_str(), 3)));
        assert_eq!(instance_of("nonsense"), None);
        assert_eq!(uuid().len(), 36);
    }
}
