//! Which cgroups this process is in, and whether its container has them for itself.

use std::path::{Path, PathBuf};

use super::CgroupError;

/// The cgroup directories that belong to the container alone.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    V1(Dirs),
    V2(PathBuf),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Dirs {
    pub memory: PathBuf,
    pub cpu: Option<PathBuf>,
}

/// A line of `/proc/self/cgroup`; version 2 has no controllers there.
struct Own<'a> {
    controllers: &'a str,
    path: &'a str,
}

/// From the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
///
/// # Errors
/// When the memory cgroup is also that of others.
pub fn find(cgroup: &str, mountinfo: &str, container_id: &str) -> Result<Found, CgroupError> {
    let own: Vec<Own> = cgroup.lines().filter_map(parse).collect();
    let is_ours = |own: &&Own| !container_id.is_empty() && own.path.split('/').any(|part| part == container_id);
    let v1 = |controller: &str| {
        let own = own.iter().filter(is_ours).find(|own| own.controllers.split(',').any(|name| name == controller))?;
        directory(mountinfo, "cgroup", controller, own.path)
    };
    if let Some(memory) = v1("memory") {
        return Ok(Found::V1(Dirs { memory, cpu: v1("cpu") }));
    }
    let v2 = own.iter().filter(is_ours).find(|own| own.controllers.is_empty());
    if let Some(directory) = v2.and_then(|own| directory(mountinfo, "cgroup2", "", own.path)) {
        return Ok(Found::V2(directory));
    }
    Err(CgroupError::Shared(own.iter().map(|own| format!("{}:{}", own.controllers, own.path)).collect::<Vec<_>>().join(" ")))
}

/// `id:controllers:path`
fn parse(line: &str) -> Option<Own<'_>> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    Some(Own { controllers, path })
}

/// Where a cgroup's path stands in the file system.
fn directory(mountinfo: &str, kind: &str, controller: &str, path: &str) -> Option<PathBuf> {
    let mut mounts = mountinfo.lines().filter_map(|line| mount(line, kind, controller));
    mounts.find_map(|(root, point)| Some(Path::new(point).join(Path::new(path).strip_prefix(root).ok()?)))
}

/// Root and mount point of a line (`id parent major:minor root point options … - type source options`), if it is of that kind.
fn mount<'a>(line: &'a str, kind: &str, controller: &str) -> Option<(&'a str, &'a str)> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let is_kind = back.next() == Some(kind);
    let options = back.nth(1).unwrap_or_default();
    if !is_kind || !(controller.is_empty() || options.split(',').any(|option| option == controller)) {
        return None;
    }
    let mut front = front.split(' ').skip(3);
    Some((front.next()?, front.next()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 24 0:25 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
35 30 0:30 /outer /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn a_container_of_its_own_is_found_in_version_1() {
        let cgroup = "9:memory:/outer/mesos/c0ffee\n4:cpu,cpuacct:/mesos/c0ffee\n0::/\n";
        let dirs = Dirs {
            memory: "/sys/fs/cgroup/memory/mesos/c0ffee".into(),
            cpu: Some("/sys/fs/cgroup/cpu,cpuacct/mesos/c0ffee".into()),
        };
        assert_eq!(find(cgroup, MOUNTS, "c0ffee").unwrap(), Found::V1(dirs));
    }

    #[test]
    fn memory_alone_is_of_use_too() {
        let cgroup = "9:memory:/outer/mesos/c0ffee\n4:cpu,cpuacct:/\n";
        let dirs = Dirs { memory: "/sys/fs/cgroup/memory/mesos/c0ffee".into(), cpu: None };
        assert_eq!(find(cgroup, MOUNTS, "c0ffee").unwrap(), Found::V1(dirs));
    }

    #[test]
    fn version_2_is_found() {
        let cgroup = "4:memory:/\n0::/mesos/c0ffee/leaf\n";
        let found = find(cgroup, MOUNTS, "c0ffee").unwrap();
        assert_eq!(found, Found::V2("/sys/fs/cgroup/unified/mesos/c0ffee/leaf".into()));
    }

    #[test]
    fn the_cgroups_of_others_are_left_alone() {
        for cgroup in ["9:memory:/\n4:cpu:/\n0::/\n", "9:memory:/outer/agent\n0::/user.slice/c0ffee-not\n", ""] {
            assert!(find(cgroup, MOUNTS, "c0ffee").is_err(), "{cgroup}");
        }
        let error = find("9:memory:/agent\n", MOUNTS, "c0ffee").unwrap_err().to_string();
        assert!(error.contains("memory:/agent") && error.contains("--launcher=linux"), "{error}");
        assert!(find("9:memory:/\n", MOUNTS, "").is_err());
    }
}
