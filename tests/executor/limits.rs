//! Limits of each task, under the linux launcher. Needs root and cgroups.

use std::path::Path;
use std::time::Duration;

use microscaler_testbed::{Agent, Cluster};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

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
    let path = cgroup(modest, "cpu");
    assert!(cgroup(modest, "memory").ends_with(".modest") && path.ends_with(".modest"), "{path}");
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

#[test]
fn tasks_have_quotas_where_their_container_has_one() {
    let root = Root::new("c");
    let mut rig = Rig::with(Cluster::builder().agent(root.agent().flag("cgroups_enable_cfs", "true")));
    // As little as an executor is prepared with.
    rig.executor_cpus = 0.01;
    let cpus = |cpus: f64| move |task: &mut Value| task["resources"][0]["scalar"]["value"] = json!(cpus);
    rig.launch("least", &json!({"shell": "exec sleep 1414"}), cpus(0.001));
    rig.reaches("least", "TASK_RUNNING");
    let quota = |rig: &mut Rig, words: &str| {
        let pid = rig.until(words, |rig| rig.processes(words).first().copied());
        let directory = Path::new("/sys/fs/cgroup/cpu").join(cgroup(pid, "cpu").trim_start_matches('/'));
        std::fs::read_to_string(directory.join("cpu.cfs_quota_us")).unwrap()
    };
    assert_eq!(quota(&mut rig, "sleep 1414"), "1000\n");
    // Far more than the container had before: the agent raises that first.
    for round in 0..5 {
        let id = format!("more{round}");
        rig.launch(&id, &json!({"shell": "setsid sleep 1415 & exec sleep 1415"}), cpus(0.5));
        rig.reaches(&id, "TASK_RUNNING");
        assert_eq!(quota(&mut rig, "sleep 1415"), "50000\n");
        rig.kill(&id, Some(Duration::ZERO));
        rig.reaches(&id, "TASK_KILLED");
        // The agent lowers it again.
        rig.until("little", |rig| (quota(rig, "microscaler executor").trim() == "1100").then_some(()));
    }
    assert_eq!(rig.processes("sleep 1414").len(), 1);
    assert_eq!(rig.messages[0]["unlimited"], json!(null), "{:?}", rig.messages);
    assert_eq!(rig.messages.len(), 1, "{:?}", rig.messages);
}

#[test]
fn a_task_that_cannot_be_limited_is_told_of() {
    let root = Root::new("d");
    let mut rig = root.rig();
    rig.run("limited", "exec sleep 1515");
    let path = cgroup(rig.executor(), "memory");
    let container = Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/'));
    // The next is in the way.
    std::fs::create_dir(container.join("3.unlimited")).unwrap();
    rig.run("unlimited", "exec sleep 1515");
    rig.until("told", |rig| (rig.messages.len() == 2).then_some(()));
    let unlimited = rig.messages[1]["unlimited"].as_str().unwrap();
    assert!(unlimited.starts_with("at least one task could not be limited: "), "{unlimited}");
}

/// The path of a process's cgroup.
fn cgroup(pid: u32, controller: &str) -> String {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut lines = cgroups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    lines.find(|line| line[1].split(',').any(|it| it == controller)).unwrap()[2].to_owned()
}

/// The cgroups beneath which an agent has its containers; it leaves its root in each hierarchy, and a container that ends with it.
struct Root(String);

impl Root {
    fn new(name: &str) -> Self {
        Self(format!("microscaler_test_{}_{name}", std::process::id()))
    }

    fn agent(&self) -> Agent {
        let isolation = "cgroups/cpu,cgroups/mem";
        agent().flag("launcher", "linux").flag("isolation", isolation).flag("cgroups_root", &*self.0)
    }

    fn rig(&self) -> Rig {
        Rig::with(Cluster::builder().agent(self.agent()))
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
