//! Limits of each task, under the linux launcher. Needs root and cgroups.

use std::path::Path;
use std::time::Duration;

use microscaler_testbed::Cluster;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::rig::{Rig, agent};

#[test]
fn too_much_memory_ends_the_task_alone() {
    // Dropped after the cluster.
    let root = Root::new("a");
    let mut rig = root.rig();
    rig.run("modest", "exec sleep 1212");
    rig.shell("greedy", "python3 -c 'import time; x = bytearray(100 << 20); time.sleep(60)'");
    let end = rig.reaches("greedy", "TASK_FAILED");
    assert_eq!(end["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{end}");
    assert_eq!(end["message"], "Memory limit exceeded: its limit is 32 MB, and it used up to 32 MB");
    // The shell survives what the kernel kills, and goes with it.
    rig.shell("parent", "python3 -c 'x = bytearray(100 << 20)'; sleep 1213");
    assert_eq!(rig.reaches("parent", "TASK_FAILED")["reason"], "REASON_CONTAINER_LIMITATION_MEMORY");
    assert_eq!(rig.processes("sleep 1212").len(), 1);
    assert!(rig.processes("sleep 1213").is_empty());
    let modest = rig.processes("sleep 1212")[0];
    let cgroups = std::fs::read_to_string(format!("/proc/{modest}/cgroup")).unwrap();
    let of = |name: &str| cgroups.lines().find(|line| line.split(':').nth(1).unwrap().split(',').any(|it| it == name)).unwrap();
    assert!(of("memory").ends_with(".modest") && of("cpu").ends_with(".modest"), "{cgroups}");
    let path = of("cpu").split(':').nth(2).unwrap().to_owned();
    let shares = std::fs::read_to_string(format!("/sys/fs/cgroup/cpu{path}/cpu.shares")).unwrap();
    assert_eq!(shares.trim(), "20");
    rig.launch("env", &json!({"shell": "setsid env -i sleep 1214 & sleep 0.3"}), |_| {});
    rig.reaches("env", "TASK_FINISHED");
    assert!(rig.processes("sleep 1214").is_empty(), "a cgroup holds whoever drops the mark");
    rig.kill("modest", None);
    rig.reaches("modest", "TASK_KILLED");
    assert_eq!(rig.messages[0]["unlimited"], json!(null), "{:?}", rig.messages);
    let container = Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/'));
    let left = std::fs::read_dir(container.parent().unwrap()).unwrap().flatten().filter(|it| it.path().is_dir()).count();
    assert_eq!(left, 0, "cgroups of tasks that have ended are gone");
}

#[test]
fn whatever_ends_the_executor_the_agent_ends_all_of_it() {
    let root = Root::new("b");
    let mut rig = root.rig();
    rig.run("a", "setsid env -i sleep 1313 & exec sleep 1313");
    rig.until("both", |rig| (rig.processes("sleep 1313").len() == 2).then_some(()));
    let executor = Pid::from_raw(rig.executor().try_into().unwrap()).unwrap();
    kill_process(executor, Signal::KILL).unwrap();
    rig.reaches("a", "TASK_FAILED");
    rig.no_processes("sleep 1313");
    let containers = Path::new("/sys/fs/cgroup/memory").join(&root.0);
    rig.until("its cgroups are gone", |_| {
        let inner = std::fs::read_dir(&containers).unwrap().flatten().filter(|entry| entry.path().is_dir());
        (inner.count() == 0).then_some(())
    });
}

/// The cgroups beneath which an agent has its containers; it leaves its root in each hierarchy, and a container that ends with it.
struct Root(String);

impl Root {
    fn new(name: &str) -> Self {
        Self(format!("microscaler_test_{}_{name}", std::process::id()))
    }

    fn rig(&self) -> Rig {
        let isolation = "cgroups/cpu,cgroups/mem";
        let linux = agent().flag("launcher", "linux").flag("isolation", isolation).flag("cgroups_root", &*self.0);
        Rig::with(Cluster::builder().agent(linux))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            remove(&hierarchy.path().join(&self.0));
        }
    }
}

fn remove(cgroup: &Path) {
    let inner = std::fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path());
    inner.filter(|path| path.is_dir()).for_each(|path| remove(&path));
    // Whoever was killed in it may take a moment to leave.
    for _ in 0..100 {
        match std::fs::remove_dir(cgroup) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => std::thread::sleep(Duration::from_millis(20)),
            _ => return,
        }
    }
}
