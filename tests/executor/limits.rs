//! Limits of each task, under the linux launcher. Needs root and cgroups.

use microscaler_testbed::Cluster;
use serde_json::json;

use crate::rig::{Rig, agent};

#[test]
fn too_much_memory_ends_the_task_alone() {
    let root = format!("microscaler_test_{}", std::process::id());
    let linux = agent().flag("launcher", "linux").flag("isolation", "cgroups/cpu,cgroups/mem").flag("cgroups_root", &*root);
    let mut rig = Rig::with(Cluster::builder().agent(linux));
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
    let container = std::path::Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/'));
    let left = std::fs::read_dir(container.parent().unwrap()).unwrap().flatten().filter(|it| it.path().is_dir()).count();
    assert_eq!(left, 0, "cgroups of tasks that have ended are gone");
    rig.framework.calls.teardown();
    rig.framework.calls.flush().unwrap();
    let deadline = std::time::Instant::now() + crate::rig::LIMIT;
    while !rig.processes("microscaler executor").is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(rig);
    remove_cgroups(&root);
}

/// The agent leaves its own root in each hierarchy.
fn remove_cgroups(root: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(root));
    }
}
