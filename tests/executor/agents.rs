//! Agents that go and come back, or do not.

use std::time::Duration;

use microscaler_testbed::Cluster;

use crate::rig::{LIMIT, Rig, agent};

#[test]
fn tasks_outlive_their_agent_and_are_its_own_again() {
    let mut rig = Rig::start();
    rig.run("stays", "exec sleep 8881");
    rig.run("ends", "while [ ! -e end ]; do sleep 0.05; done");
    let executor = rig.executor();
    rig.cluster.agent(0).kill();
    std::fs::write(rig.sandbox().join("tasks/ends/end"), "").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.processes("sleep 8881").len(), 1);
    rig.cluster.agent(0).start().unwrap();
    rig.cluster.wait_until_ready(LIMIT).unwrap();
    rig.reaches("ends", "TASK_FINISHED");
    let refused =
        rig.stderr().lines().filter(|line| line.contains("no connection") && line.contains("MESSAGE was refused")).count();
    assert_eq!(refused, 0, "once it is taken back, it stays\n{}", rig.stderr());
    rig.run("new", "exec sleep 8882");
    assert_eq!(rig.executor(), executor);
    rig.kill("stays", None);
    rig.reaches("stays", "TASK_KILLED");
    rig.kill("new", None);
    rig.reaches("new", "TASK_KILLED");
}

#[test]
fn without_its_agent_an_executor_ends_after_a_while() {
    let mut rig = Rig::with(Cluster::builder().agent(agent()).agent_flag("recovery_timeout", "3secs"));
    rig.run("a", "exec sleep 9991");
    let executor = rig.executor();
    rig.cluster.agent(0).kill();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(rig.processes("sleep 9991").len(), 1);
    rig.no_processes("sleep 9991");
    rig.until("no executor", |_| (!std::path::Path::new(&format!("/proc/{executor}")).exists()).then_some(()));
}
