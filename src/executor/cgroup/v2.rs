//! cgroups version 2: one hierarchy, whose inner nodes hold no processes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::{Bounds, CgroupError, bytes, files, is_gone, shares};

/// Agents that know version 2 put a container's processes into a leaf of that name.
const LEAF: &str = "leaf";
/// Where we put them otherwise.
const OWN: &str = "executor";

#[derive(Debug)]
pub struct Place {
    base: PathBuf,
    has_cpu: bool,
    /// The period of the container's own CPU quota, in µs, where it has one.
    period: Option<u64>,
}

#[derive(Debug)]
pub struct Cage {
    path: PathBuf,
}

impl Place {
    /// Makes room for sub-cgroups: who has them may hold no processes, so those that are there move into one of them.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn claim(own: &Path) -> Result<Self, CgroupError> {
        let base = match own.parent() {
            Some(parent) if own.ends_with(LEAF) => parent.to_owned(),
            _ => own.to_owned(),
        };
        let controllers = files::read(&base, "cgroup.controllers")?;
        let has = |name: &str| controllers.split_ascii_whitespace().any(|controller| controller == name);
        if !has("memory") {
            return Err(CgroupError::Controller(base.display().to_string()));
        }
        if base == own {
            move_into(&base, OWN)?;
        }
        let has_cpu = has("cpu");
        files::write(&base, "cgroup.subtree_control", if has_cpu { "+memory +cpu" } else { "+memory" })?;
        let period = files::read(&base, "cpu.max").ok().and_then(|text| period(&text));
        Ok(Self { base, has_cpu, period })
    }

    pub fn has_cpu(&self) -> bool {
        self.has_cpu
    }

    pub fn make(&self, name: &str, bounds: Bounds) -> Result<Cage, CgroupError> {
        let cage = Cage { path: self.base.join(name) };
        files::make(&cage.path)?;
        let set = settings(bounds, self.has_cpu, self.period);
        let written = set.into_iter().try_for_each(|(file, value)| files::write(&cage.path, file, &value));
        written.inspect_err(|_| _ = cage.remove())?;
        Ok(cage)
    }
}

/// `quota period`, or `max period` without a quota.
fn period(text: &str) -> Option<u64> {
    let (quota, period) = text.split_once(' ')?;
    period.parse().ok().filter(|_| quota != "max")
}

fn settings(bounds: Bounds, has_cpu: bool, period: Option<u64>) -> Vec<(&'static str, String)> {
    let mut set = Vec::new();
    if let Some(mem) = bounds.mem {
        set.push(("memory.max", bytes(mem).to_string()));
        set.push(("memory.oom.group", "1".to_owned()));
    }
    if let Some(cpus) = bounds.cpus.filter(|_| has_cpu) {
        set.push(("cpu.weight", weight(shares(cpus)).to_string()));
        if let Some(period) = period {
            #[allow(clippy::cast_precision_loss)] // A period is a second at most.
            let quota = files::whole(cpus * period as f64).max(1000);
            set.push(("cpu.max", format!("{quota} {period}")));
        }
    }
    set
}

/// The shares of version 1 on the scale of version 2, as runc and systemd have it.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn move_into(base: &Path, name: &str) -> Result<(), CgroupError> {
    let leaf = base.join(name);
    if !leaf.is_dir() {
        files::make(&leaf)?;
    }
    for process in files::processes(base) {
        files::write(&leaf, "cgroup.procs", &process.as_raw_nonzero().to_string())?;
    }
    Ok(())
}

impl Cage {
    pub fn joins(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        Ok(vec![files::open(&self.path, "cgroup.procs", true)?])
    }

    pub fn processes(&self) -> Vec<Pid> {
        files::processes(&self.path)
    }

    /// How often the kernel has killed here for memory.
    pub fn kills(&self) -> u64 {
        files::keyed(&self.path, "memory.events", "oom_kill").unwrap_or(0)
    }

    /// Limit and greatest use, as far as the kernel keeps it.
    pub fn memory(&self) -> Option<(u64, u64)> {
        let limit = files::number(&self.path, "memory.max")?;
        Some((limit, files::number(&self.path, "memory.peak").unwrap_or(limit)))
    }

    pub fn remove(&self) -> bool {
        is_gone(&self.path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory with files as the kernel would have them.
    fn cgroup(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(OWN)).unwrap();
        fs::write(root.path().join(OWN).join("cgroup.procs"), "").unwrap();
        files.iter().for_each(|(name, text)| fs::write(root.path().join(name), text).unwrap());
        root
    }

    #[test]
    fn processes_move_into_a_leaf_before_controllers_are_handed_down() {
        let root = cgroup(&[
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cgroup.procs", "12\n"),
            ("cgroup.subtree_control", ""),
            ("cpu.max", "50000 100000\n"),
        ]);
        let place = Place::claim(root.path()).unwrap();
        assert_eq!((place.has_cpu, place.period), (true, Some(100_000)));
        assert_eq!(fs::read_to_string(root.path().join("executor/cgroup.procs")).unwrap(), "12");
        assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory +cpu");
    }

    #[test]
    fn beside_the_agents_leaf_nothing_moves() {
        let root = cgroup(&[("cgroup.controllers", "memory\n"), ("cgroup.procs", "12\n"), ("cgroup.subtree_control", "")]);
        let place = Place::claim(&root.path().join(LEAF)).unwrap();
        assert_eq!((&*place.base, place.has_cpu, place.period), (root.path(), false, None));
        assert_eq!(fs::read_to_string(root.path().join("executor/cgroup.procs")).unwrap(), "");
    }

    #[test]
    fn without_memory_there_is_no_use() {
        let root = cgroup(&[("cgroup.controllers", "cpu\n")]);
        assert!(matches!(Place::claim(root.path()), Err(CgroupError::Controller(_))));
    }

    #[test]
    fn bounds_become_files() {
        let bounds = Bounds { cpus: Some(0.5), mem: Some(64.0) };
        let text = |set: Vec<(&str, String)>| set.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>();
        assert_eq!(text(settings(bounds, true, None)), "memory.max=67108864 memory.oom.group=1 cpu.weight=20 ");
        assert!(text(settings(bounds, true, Some(100_000))).ends_with("cpu.max=50000 100000 "));
        assert_eq!(text(settings(Bounds { cpus: Some(1.0), mem: None }, false, None)), "");
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }

    #[test]
    fn kills_for_memory_are_seen() {
        let root =
            cgroup(&[("memory.events", "low 0\noom 1\noom_kill 2\n"), ("memory.max", "1048576\n"), ("memory.peak", "99\n")]);
        let cage = Cage { path: root.path().to_owned() };
        assert_eq!((cage.kills(), cage.memory()), (2, Some((1_048_576, 99))));
    }
}
