//! `bare-executor`: many tasks in one executor.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use microscaler_testbed::bare::{executor_info, framework_info, pooled_task_info};
use serde_json::{Value, json};
use std::time::Duration;
use support::{LIMIT, Rig};

/// Launches tasks in one executor, all with one call.
fn launch(rig: &mut Rig, mode: &str, tasks: &[(&str, &str)]) {
    let offer = rig.framework.take_offer(2.0, 512.0, LIMIT).unwrap();
    let program = rig.cluster.program("bare-executor").unwrap();
    let executor = executor_info("pool", &offer, &program, mode, 0.1, 32.0);
    let tasks: Vec<Value> =
        tasks.iter().map(|(id, command)| pooled_task_info(id, &offer, &executor, command, 0.01, 2.0)).collect();
    rig.framework.launch(&offer, &tasks).unwrap();
}

#[test]
fn tasks_share_an_executor_and_end_as_their_processes_do() {
    let mut rig = Rig::start();
    launch(&mut rig, "--run", &[("a", "exec sleep 1000"), ("b", "echo done; exit 0"), ("c", "exit 3"), ("d", "kill -SEGV $$")]);
    rig.reaches("a", "TASK_RUNNING");
    rig.reaches("b", "TASK_FINISHED");
    assert_eq!(rig.reaches("c", "TASK_FAILED")["message"], "Command exited with status 3");
    assert_eq!(rig.reaches("d", "TASK_FAILED")["message"], "Command terminated with signal 11");
    rig.wait_for_processes(1);
    assert_eq!(rig.output("pool"), "done\n");

    // The same executor takes more, of any kind.
    launch(&mut rig, "--run", &[("stubborn", "trap '' TERM; sleep 1000 & while true; do sleep 0.1; done"), ("none", "")]);
    rig.reaches("stubborn", "TASK_RUNNING");
    rig.wait_for_processes(2);
    rig.kill("stubborn", Some(Duration::from_millis(300)));
    rig.reaches("stubborn", "TASK_KILLED");
    rig.kill("a", Some(Duration::ZERO));
    rig.reaches("a", "TASK_KILLED");
    rig.wait_for_processes(0);
}

#[test]
fn a_task_that_cannot_run_fails_with_the_reason() {
    let mut rig = Rig::start();
    let offer = rig.framework.take_offer(2.0, 512.0, LIMIT).unwrap();
    let executor = executor_info("pool", &offer, &rig.cluster.program("bare-executor").unwrap(), "--run", 0.1, 32.0);
    let mut task = pooled_task_info("empty", &offer, &executor, "", 0.1, 32.0);
    task["data"] = json!("e30="); // {}
    rig.framework.launch(&offer, &[task]).unwrap();
    let message = rig.reaches("empty", "TASK_FAILED")["message"].to_string();
    assert!(message.contains("neither"), "{message}");

    let offer = rig.framework.take_offer(2.0, 256.0, LIMIT).unwrap();
    let mut task = pooled_task_info("absent", &offer, &executor, "", 0.1, 32.0);
    task["data"] = json!("eyJhcmd2IjpbIi9uby9zdWNoIl19"); // {"argv":["/no/such"]}
    rig.framework.launch(&offer, &[task]).unwrap();
    let message = rig.reaches("absent", "TASK_FAILED")["message"].to_string();
    assert!(message.contains("/no/such"), "{message}");
}

#[test]
fn pretended_tasks_have_no_process() {
    let mut rig = Rig::start();
    let names: Vec<String> = (0..100).map(|number| format!("task-{number}")).collect();
    let tasks: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    launch(&mut rig, "--pretend", &tasks);
    for name in &names {
        rig.reaches(name, "TASK_RUNNING");
    }
    rig.wait_for_processes(0);
    for name in &names {
        rig.kill(name, Some(Duration::ZERO));
        rig.reaches(name, "TASK_KILLED");
    }
}

#[test]
fn pooled_tasks_survive_the_agents_death() {
    let mut rig = Rig::start();
    launch(&mut rig, "--run", &[("survivor", "exec sleep 1000"), ("ends-meanwhile", "sleep 1")]);
    rig.reaches("survivor", "TASK_RUNNING");
    rig.reaches("ends-meanwhile", "TASK_RUNNING");
    rig.cluster.agent(0).kill();
    std::thread::sleep(Duration::from_millis(1500));
    rig.cluster.agent(0).start().unwrap();
    rig.reaches("ends-meanwhile", "TASK_FINISHED");
    rig.kill("survivor", None);
    rig.reaches("survivor", "TASK_KILLED");
    rig.framework.calls.teardown();
    rig.framework.calls.confirm().unwrap();
}

#[test]
fn without_checkpoints_pooled_tasks_end_with_the_agent() {
    let mut info = framework_info("testbed");
    info["checkpoint"] = json!(false);
    let mut rig = Rig::with_framework(&info);
    launch(&mut rig, "--run", &[("mortal", "exec sleep 1000")]);
    rig.reaches("mortal", "TASK_RUNNING");
    rig.cluster.agent(0).kill();
    rig.wait_for_processes(0);
}
