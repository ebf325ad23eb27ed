//! The Linux launcher and control groups: tasks are held to what they asked for.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use microscaler_testbed::{Agent, Feature, can_or_skip};
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use support::Rig;

/// Directories of control groups whose path holds the text.
fn groups_with(text: &str) -> Vec<PathBuf> {
    let output =
        Command::new("find").args(["/sys/fs/cgroup", "-mindepth", "2", "-maxdepth", "2", "-type", "d"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(text)).map(PathBuf::from).collect()
}

#[test]
fn a_task_that_takes_too_much_memory_is_killed() {
    if !can_or_skip(Feature::Limits, "a_task_that_takes_too_much_memory_is_killed") {
        return;
    }
    let mut rig = Rig::with_agent(Agent::default().linux().flag("cgroups_enable_cfs", "true"));
    rig.run("modest", "exec sleep 1000");
    // A task has 32 MB more, for its executor.
    rig.launch("hog", "exec head -c 200m /dev/zero | tail -n 1", |_| {});
    let status = rig.reaches("hog", "TASK_FAILED");
    assert_eq!(status["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{status}");
    assert!(!groups_with(rig.cluster.id()).is_empty());

    // Control groups do not hinder what else an agent does.
    rig.cluster.agent(0).kill();
    rig.cluster.agent(0).start().unwrap();
    rig.cluster.wait_until_ready(support::LIMIT).unwrap();
    rig.kill("modest", None);
    rig.reaches("modest", "TASK_KILLED");
    rig.wait_for_processes(0);

    rig.run("last", "exec sleep 1000");
    let id = rig.cluster.id().to_owned();
    drop(rig);
    assert_eq!(groups_with(&id), [] as [PathBuf; 0]);
}

#[test]
fn two_agents_do_not_share_groups() {
    if !can_or_skip(Feature::Limits, "two_agents_do_not_share_groups") {
        return;
    }
    let mut one = Rig::with_agent(Agent::default().linux());
    let mut other = Rig::with_agent(Agent::default().linux());
    one.run("task", "exec sleep 1000");
    other.run("task", "exec sleep 1000");
    drop(one);
    other.wait_for_processes(1);
    other.launch("more", "true", |task| task["labels"] = json!({ "labels": [{ "key": "a", "value": "b" }] }));
    other.reaches("more", "TASK_FINISHED");
}
