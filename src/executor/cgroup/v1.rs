//! cgroups version 1: a hierarchy for each controller.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::Pid;

use super::find::Dirs;
use super::{Bounds, CgroupError, bytes, files, is_gone, shares};

/// The least quota that the kernel takes, in µs.
const MIN_QUOTA: u64 = 1000;

#[derive(Debug)]
pub struct Place {
    dirs: Dirs,
    /// The period of the container's own CPU quota, in µs, where it has one: tasks have quotas only there.
    period: Option<u64>,
}

#[derive(Debug)]
pub struct Cage {
    memory: PathBuf,
    cpu: Option<PathBuf>,
    alarm: Option<Arc<OwnedFd>>,
    has_quota: bool,
    /// Why its CPU has no quota, where it was to have one.
    pub shortfall: Option<CgroupError>,
}

impl Place {
    /// # Errors
    /// When the container's memory limit would not count for tasks.
    pub fn claim(dirs: Dirs) -> Result<Self, CgroupError> {
        // Kernels since 5.11 know nothing else.
        let is_hierarchical = || files::number(&dirs.memory, "memory.use_hierarchy").is_none_or(|value| value == 1);
        if !is_hierarchical() {
            let _ = files::write(&dirs.memory, "memory.use_hierarchy", "1");
        }
        if !is_hierarchical() {
            return Err(CgroupError::Flat(dirs.memory.display().to_string()));
        }
        let has_quota = |dir: &PathBuf| files::number(dir, "cpu.cfs_quota_us").is_some();
        let period = dirs.cpu.as_ref().filter(|dir| has_quota(dir)).and_then(|dir| files::number(dir, "cpu.cfs_period_us"));
        Ok(Self { dirs, period })
    }

    pub fn has_cpu(&self) -> bool {
        self.dirs.cpu.is_some()
    }

    pub fn make(&self, name: &str, bounds: Bounds) -> Result<Cage, CgroupError> {
        let (memory, cpu) = (self.dirs.memory.join(name), self.dirs.cpu.as_ref().map(|dir| dir.join(name)));
        let mut cage = Cage { memory, cpu, alarm: None, has_quota: false, shortfall: None };
        let made = cage.make(bounds, self.period);
        made.inspect_err(|_| _ = cage.remove())?;
        Ok(cage)
    }
}

impl Cage {
    fn make(&mut self, bounds: Bounds, period: Option<u64>) -> Result<(), CgroupError> {
        files::make(&self.memory)?;
        if let Some(mem) = bounds.mem {
            files::write(&self.memory, "memory.limit_in_bytes", &bytes(mem).to_string())?;
            self.alarm = self.set_alarm().inspect_err(|error| tracing::warn!(%error, "out of memory is seen late")).ok();
        }
        let Some(cpu) = &self.cpu else { return Ok(()) };
        files::make(cpu)?;
        let Some(cpus) = bounds.cpus else { return Ok(()) };
        files::write(cpu, "cpu.shares", &shares(cpus).to_string())?;
        // The kernel refuses what is above the container's own at this moment. Memory and shares are of use without it.
        let set = period.map(|period| set_quota(cpu, cpus, period));
        self.has_quota = matches!(set, Some(Ok(())));
        self.shortfall = set.and_then(Result::err);
        Ok(())
    }

    /// The kernel kills one process when memory has run out, perhaps not the main one: who listens here hears of it.
    fn set_alarm(&self) -> Result<Arc<OwnedFd>, CgroupError> {
        let io = |errno: rustix::io::Errno| CgroupError::Io { path: "eventfd".to_owned(), source: errno.into() };
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io)?;
        let control = files::open(&self.memory, "memory.oom_control", false)?;
        let line = format!("{} {}", alarm.as_raw_fd(), control.as_raw_fd());
        files::write(&self.memory, "cgroup.event_control", &line)?;
        Ok(Arc::new(alarm))
    }

    pub fn joins(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        std::iter::once(&self.memory).chain(&self.cpu).map(|dir| files::open(dir, "cgroup.procs", true)).collect()
    }

    pub fn alarm(&self) -> Option<Arc<OwnedFd>> {
        self.alarm.clone()
    }

    /// Whether what the alarm was for is the task's own doing.
    pub fn heed_alarm(&self) -> bool {
        if self.has_hit_limit() {
            return true;
        }
        // Else what comes later would not be told from it.
        let _ = self.alarm.as_ref().map(|alarm| rustix::io::read(alarm, &mut [0; 8]));
        // It may have come just before.
        self.has_hit_limit()
    }

    /// Whether its own memory has ever run short. When that of the whole container does, the kernel sounds the alarms of all that is
    /// within, and may kill there.
    fn has_hit_limit(&self) -> bool {
        files::number(&self.memory, "memory.failcnt").is_none_or(|count| count > 0)
    }

    fn is_alarmed(&self) -> bool {
        let ready = |alarm: &Arc<OwnedFd>| poll(&mut [PollFd::new(alarm, PollFlags::IN)], Some(&Timespec::default()));
        self.alarm.as_ref().is_some_and(|alarm| ready(alarm).is_ok_and(|count| count > 0))
    }

    pub fn processes(&self) -> Vec<Pid> {
        files::processes(&self.memory)
    }

    /// Whether the kernel has killed here for this task's memory.
    pub fn is_over_memory(&self) -> bool {
        let kills = files::keyed(&self.memory, "memory.oom_control", "oom_kill");
        // Kernels before 4.13 do not count kills. What they do count (failcnt) is also what could be reclaimed.
        self.has_hit_limit() && kills.map_or_else(|| self.is_alarmed(), |kills| kills > 0)
    }

    /// Limit and greatest use.
    pub fn memory(&self) -> Option<(u64, u64)> {
        let number = |name| files::number(&self.memory, name);
        Some((number("memory.limit_in_bytes")?, number("memory.max_usage_in_bytes")?))
    }

    /// Its quota goes first: the agent gives the container less when it hears of the task's end, and what is less than a quota within is
    /// refused to it, for which it would end the container. A cgroup that has been removed still counts until the kernel lets go of it,
    /// and one with processes that cannot be ended stays.
    pub fn remove(&self) -> bool {
        let cpu_is_gone = self.cpu.as_deref().is_none_or(|cpu| {
            if self.has_quota {
                // Where that fails, it is gone already.
                let _ = files::write(cpu, "cpu.cfs_quota_us", "-1");
            }
            is_gone(cpu)
        });
        is_gone(&self.memory) && cpu_is_gone
    }
}

fn set_quota(cpu: &Path, cpus: f64, period: u64) -> Result<(), CgroupError> {
    #[allow(clippy::cast_precision_loss)] // A period is a second at most.
    let quota = files::whole(cpus * period as f64).max(MIN_QUOTA);
    files::write(cpu, "cpu.cfs_period_us", &period.to_string())?;
    files::write(cpu, "cpu.cfs_quota_us", &quota.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_hierarchy_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("memory.use_hierarchy"), "0").unwrap();
        let dirs = Dirs { memory: root.path().to_owned(), cpu: None };
        // A plain file takes the value.
        assert!(Place::claim(dirs).is_ok());
        assert_eq!(files::number(root.path(), "memory.use_hierarchy"), Some(1));
    }

    #[test]
    fn kills_for_memory_are_told_with_limit_and_use() {
        let root = tempfile::tempdir().unwrap();
        let cage = Cage { memory: root.path().to_owned(), cpu: None, alarm: None, has_quota: false, shortfall: None };
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write("memory.failcnt", "7\n");
        write("memory.limit_in_bytes", "33554432\n");
        write("memory.max_usage_in_bytes", "33554432\n");
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        assert!(!cage.is_over_memory());
        write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        assert_eq!((cage.is_over_memory(), cage.memory()), (true, Some((33_554_432, 33_554_432))));
        // The kernel has chosen it when the container's memory ran out.
        write("memory.failcnt", "0\n");
        assert!(!cage.is_over_memory());
    }

    /// The directory of a cage, and the cage, whose alarm sounds.
    fn alarmed(failcnt: &str, oom_control: &str) -> (tempfile::TempDir, Cage) {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("memory.failcnt"), failcnt).unwrap();
        std::fs::write(root.path().join("memory.oom_control"), oom_control).unwrap();
        let alarm = Some(Arc::new(eventfd(1, EventfdFlags::NONBLOCK).unwrap()));
        let cage = Cage { memory: root.path().to_owned(), cpu: None, alarm, has_quota: false, shortfall: None };
        (root, cage)
    }

    #[test]
    fn the_containers_memory_is_not_the_tasks() {
        let (root, cage) = alarmed("0\n", "oom_kill_disable 0\nunder_oom 0\n");
        assert!(!cage.is_over_memory() && !cage.heed_alarm());
        // What is only reclaimed later on is not taken for it.
        std::fs::write(root.path().join("memory.failcnt"), "3\n").unwrap();
        assert!(!cage.is_alarmed() && !cage.is_over_memory());
    }

    #[test]
    fn where_kills_are_not_counted_the_alarm_tells_of_them() {
        let (_root, cage) = alarmed("3\n", "oom_kill_disable 0\nunder_oom 0\n");
        assert!(cage.is_over_memory() && cage.heed_alarm());
        assert!(cage.is_over_memory(), "it is remembered");
        let (_root, cage) = alarmed("3\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        assert!(!cage.is_over_memory());
    }

    #[test]
    fn a_cage_that_stays_for_now_keeps_no_quota() {
        let root = tempfile::tempdir().unwrap();
        // A directory with files cannot be removed, as a cgroup with processes cannot.
        std::fs::write(root.path().join("cpu.cfs_quota_us"), "50").unwrap();
        let cpu = Some(root.path().to_owned());
        let cage = Cage { memory: root.path().join("gone"), cpu, alarm: None, has_quota: true, shortfall: None };
        assert!(!cage.remove());
        assert_eq!(files::read(root.path(), "cpu.cfs_quota_us").unwrap(), "-1");
    }
}
