//! Each task held to its own memory and CPU, by a cgroup beneath the container's.
//!
//! That is possible where the agent gives each container cgroups of its own (the linux launcher with the isolators cgroups/mem and
//! cgroups/cpu): their paths hold the container's id. Where they do not (the posix launcher), the cgroup belongs to others, and nothing is
//! touched there. Names of the sub-cgroups are no container ids, and the agent does not take them for containers when it recovers: it
//! looks only for `<root>/<container>` and `<root>/<container>/mesos/<nested>`. What is nested is removed with the container's cgroup.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::process::Pid;

use super::settings::Settings;

mod files;
mod find;
mod v1;
mod v2;

/// Memory and CPU of one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub cpus: Option<f64>,
    /// In MiB.
    pub mem: Option<f64>,
}

/// Where cgroups of tasks are made.
#[derive(Debug)]
pub struct Cgroups {
    place: Option<Place>,
    /// Why tasks are not held to their bounds, or not to all.
    pub unlimited: Option<String>,
    /// Not all could be held to what others were.
    has_failed: bool,
    count: u64,
    /// Cgroups that could not be removed yet.
    left: Vec<Cage>,
}

#[derive(Debug)]
enum Place {
    V1(v1::Place),
    V2(v2::Place),
}

/// The cgroups of one task.
#[derive(Debug)]
pub enum Cage {
    V1(v1::Cage),
    V2(v2::Cage),
}

/// Why there can be no cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "this container has no memory cgroup of its own (cgroups of the executor: {0}): it needs an agent with --launcher=linux and --isolation=cgroups/cpu,cgroups/mem"
    )]
    Shared(String),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{0} does not count what its sub-cgroups use (memory.use_hierarchy)")]
    Flat(String),
    #[error("{0} offers no memory controller")]
    Controller(String),
}

impl Cgroups {
    /// Looks where we are, and tries whether a cgroup can be made there.
    pub fn find(settings: &Settings) -> Self {
        let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
        let found = find::find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"), &settings.container_id);
        let place = found.and_then(|found| match found {
            find::Found::V1(dirs) => v1::Place::claim(dirs).map(Place::V1),
            find::Found::V2(dir) => v2::Place::claim(&dir).map(Place::V2),
        });
        let mut cgroups = Self { place: None, unlimited: None, has_failed: false, count: 0, left: Vec::new() };
        match place {
            Ok(place) => {
                cgroups.unlimited = place.shortfall();
                cgroups.place = Some(place);
                cgroups.try_once();
            }
            Err(error) => cgroups.unlimited = Some(error.to_string()),
        }
        cgroups
    }

    fn try_once(&mut self) {
        // As little CPU as there is: the container of an executor that waits for tasks has hardly more.
        match self.try_make("try", Bounds { cpus: Some(0.0), mem: Some(32.0) }) {
            Ok(cage) => self.remove(cage),
            Err(error) => {
                self.unlimited = Some(error.to_string());
                self.place = None;
            }
        }
    }

    /// The cgroups of a task, as far as they can be made: a task without bounds is better than none.
    pub fn make(&mut self, id: &str, bounds: Bounds) -> Option<Cage> {
        self.try_make(id, bounds).unwrap_or_else(|error| {
            tracing::warn!(task = id, %error, "it runs without limits of its own");
            self.note(format!("at least one task could not be limited: {error}"));
            None
        })
    }

    /// The first stands for all: each change is told.
    fn note(&mut self, failure: String) {
        if !std::mem::replace(&mut self.has_failed, true) {
            self.unlimited = Some(failure);
        }
    }

    fn try_make(&mut self, id: &str, bounds: Bounds) -> Result<Option<Cage>, CgroupError> {
        self.count += 1;
        // Unique, and not too long for a file.
        let name: String = format!("{}.", self.count).chars().chain(id.chars().take(60)).collect();
        let cage = match &self.place {
            None => return Ok(None),
            Some(Place::V1(place)) => Cage::V1(place.make(&name, bounds)?),
            Some(Place::V2(place)) => Cage::V2(place.make(&name, bounds)?),
        };
        if let Some(error) = cage.shortfall() {
            tracing::warn!(task = id, %error, "it runs without a CPU quota of its own");
            let failure = format!("at least one task has no CPU quota: {error}");
            self.note(failure);
        }
        Ok(Some(cage))
    }

    /// The task is over. What cannot be removed yet is tried again with the next.
    pub fn remove(&mut self, cage: Option<Cage>) {
        self.left.extend(cage);
        self.left.retain(|cage| !cage.remove());
    }

    /// Whether [`Self::remove`] has something to do.
    pub fn has_left(&self) -> bool {
        !self.left.is_empty()
    }
}

impl Place {
    fn shortfall(&self) -> Option<String> {
        let has_cpu = match self {
            Self::V1(place) => place.has_cpu(),
            Self::V2(place) => place.has_cpu(),
        };
        (!has_cpu).then(|| {
            "tasks are held to their memory, but not to their CPU: the container has no cpu cgroup of its own".to_owned()
        })
    }
}

impl Cage {
    /// What of its bounds it does without.
    fn shortfall(&self) -> Option<&CgroupError> {
        match self {
            Self::V1(cage) => cage.shortfall.as_ref(),
            Self::V2(_) => None,
        }
    }

    /// Opened for [`Start::joins`](super::spawn::Start::joins).
    ///
    /// # Errors
    /// When the cgroup is gone.
    pub fn joins(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        match self {
            Self::V1(cage) => cage.joins(),
            Self::V2(cage) => cage.joins(),
        }
    }

    /// Signalled when memory has run out, where the kernel does not end the whole task by itself.
    pub fn alarm(&self) -> Option<Arc<OwnedFd>> {
        match self {
            Self::V1(cage) => cage.alarm(),
            Self::V2(_) => None,
        }
    }

    /// The alarm has sounded: whether for this task, and not for the whole container.
    pub fn heed_alarm(&self) -> bool {
        match self {
            Self::V1(cage) => cage.heed_alarm(),
            Self::V2(_) => false,
        }
    }

    /// What is in it, in any session.
    pub fn processes(&self) -> Vec<Pid> {
        match self {
            Self::V1(cage) => cage.processes(),
            Self::V2(cage) => cage.processes(),
        }
    }

    /// Whether the kernel has killed in it for memory.
    pub fn is_over_memory(&self) -> bool {
        match self {
            Self::V1(cage) => cage.is_over_memory(),
            Self::V2(cage) => cage.kills() > 0,
        }
    }

    /// What it was allowed and what it has taken, in words.
    pub fn memory(&self) -> String {
        let numbers = match self {
            Self::V1(cage) => cage.memory(),
            Self::V2(cage) => cage.memory(),
        };
        let mib = |bytes: u64| format!("{} MB", bytes.div_ceil(1 << 20));
        let words = numbers.map(|(limit, used)| format!(": its limit is {}, and it used up to {}", mib(limit), mib(used)));
        format!("Memory limit exceeded{}", words.unwrap_or_default())
    }

    fn remove(&self) -> bool {
        match self {
            Self::V1(cage) => cage.remove(),
            Self::V2(cage) => cage.remove(),
        }
    }
}

/// `shares` of a task: as Mesos counts them.
fn shares(cpus: f64) -> u64 {
    files::whole(cpus * 1024.0).max(2)
}

fn bytes(mib: f64) -> u64 {
    files::whole(mib * 1_048_576.0)
}

fn is_gone(path: &Path) -> bool {
    match std::fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
