//! What becomes of tasks under the command executor: its end of the v1 executor API, against the real agent.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use microscaler_testbed::Tasks;
use microscaler_testbed::bare::{Framework, framework_info};
use serde_json::json;
use std::time::{Duration, Instant};
use support::{LIMIT, Rig};

#[test]
fn a_task_that_ends_is_finished_or_failed() {
    let mut rig = Rig::start();
    rig.launch("good", "true", |_| {});
    assert_eq!(rig.reaches("good", "TASK_FINISHED")["message"], "Command exited with status 0");
    rig.launch("bad", "exit 3", |_| {});
    assert_eq!(rig.reaches("bad", "TASK_FAILED")["message"], "Command exited with status 3");
    rig.launch("shot", "kill -SEGV $$", |_| {});
    assert_eq!(rig.reaches("shot", "TASK_FAILED")["message"], "Command terminated with signal Segmentation fault");
    rig.launch("absent", "", |task| task["command"] = json!({ "shell": false, "value": "/no/such/program" }));
    rig.reaches("absent", "TASK_FAILED");
    rig.wait_for_processes(0);
}

#[test]
fn a_task_gets_its_arguments_environment_and_sandbox() {
    let mut rig = Rig::start();
    rig.launch("env", "", |task| {
        task["command"] = json!({
            "shell": false,
            "value": "/bin/sh",
            "arguments": ["sh", "-c", "echo \"$GREETING $0 $1\"; pwd | grep -c /slaves/; ps -o sid= -p $$ | grep -cx \" *$$\" >&2", "one", "two"],
            "environment": { "variables": [{ "name": "GREETING", "value": "hello" }] },
        });
    });
    rig.reaches("env", "TASK_FINISHED");
    assert_eq!(rig.output("env"), "hello one two\n1\n");
}

#[test]
fn zero_grace_kills_at_once_and_the_whole_group() {
    let mut rig = Rig::start();
    rig.run("stubborn", "trap '' TERM; sleep 1000 & sleep 1000");
    rig.wait_for_processes(1);
    rig.kill("stubborn", Some(Duration::ZERO));
    assert_eq!(rig.reaches("stubborn", "TASK_KILLED")["message"], "Command terminated with signal Killed");
    rig.wait_for_processes(0);
    assert!(rig.cluster.tasks().unwrap().running().is_empty());
}

#[test]
fn term_is_enough_for_a_task_that_heeds_it() {
    let mut rig = Rig::start();
    rig.run("polite", "exec sleep 1000");
    rig.kill("polite", None);
    assert_eq!(rig.reaches("polite", "TASK_KILLED")["message"], "Command terminated with signal Terminated");
}

#[test]
fn a_killed_task_that_ends_with_status_0_is_finished() {
    let mut rig = Rig::start();
    rig.run_until_ready("orderly", "trap 'exit 0' TERM; touch ready; while true; do sleep 0.1; done");
    rig.kill("orderly", None);
    assert_eq!(rig.reaches("orderly", "TASK_FINISHED")["message"], "Command exited with status 0");
}

#[test]
fn a_task_that_ignores_term_has_its_grace_period_and_a_second_kill_shortens_it() {
    let mut rig = Rig::start();
    let stubborn = "trap '' TERM; touch ready; while true; do sleep 0.1; done";
    rig.run_until_ready("slow", stubborn);
    let begin = Instant::now();
    rig.kill("slow", Some(Duration::from_secs(3)));
    rig.reaches("slow", "TASK_KILLED");
    assert!(begin.elapsed() >= Duration::from_secs(3), "killed after {:?}", begin.elapsed());

    rig.run_until_ready("shortened", stubborn);
    rig.kill("shortened", Some(Duration::from_hours(1)));
    rig.kill("shortened", Some(Duration::ZERO));
    rig.reaches("shortened", "TASK_KILLED");
}

#[test]
fn a_kill_right_after_the_launch_is_not_lost() {
    let mut rig = Rig::start();
    for round in 0..5 {
        let id = format!("task-{round}");
        rig.launch(&id, "exec sleep 1000", |_| {});
        // From before the executor has subscribed until after the task runs.
        std::thread::sleep(Duration::from_millis(10 * round));
        rig.kill(&id, Some(Duration::ZERO));
        rig.reaches(&id, "TASK_KILLED");
    }
    rig.wait_for_processes(0);
}

#[test]
fn killing_is_announced_to_a_framework_that_wants_it() {
    let mut info = framework_info("testbed");
    info["capabilities"].as_array_mut().unwrap().push(json!({ "type": "TASK_KILLING_STATE" }));
    let mut rig = Rig::with_framework(&info);
    rig.run_until_ready("slow", "trap '' TERM; touch ready; while true; do sleep 0.1; done");
    rig.kill("slow", Some(Duration::from_secs(1)));
    rig.framework.wait_for_state("slow", &["TASK_KILLING"], LIMIT).unwrap();
    rig.reaches("slow", "TASK_KILLED");
}

#[test]
fn tasks_survive_the_agents_death() {
    let mut rig = Rig::start();
    rig.run("survivor", "exec sleep 1000");
    rig.run("ends-meanwhile", "sleep 2");
    let id = rig.cluster.agent(0).id().unwrap();
    rig.cluster.agent(0).kill();
    std::thread::sleep(Duration::from_secs(3));
    rig.wait_for_processes(1);
    rig.cluster.agent(0).start().unwrap();
    rig.reaches("ends-meanwhile", "TASK_FINISHED");
    rig.cluster.wait_until_ready(LIMIT).unwrap();
    assert_eq!(rig.cluster.agent(0).id().unwrap(), id);
    assert_eq!(rig.cluster.tasks().unwrap().running().len(), 1);
    rig.kill("survivor", None);
    rig.reaches("survivor", "TASK_KILLED");
    rig.wait_for_processes(0);
}

#[test]
fn without_checkpoints_tasks_end_with_the_agent() {
    let mut info = framework_info("testbed");
    info["checkpoint"] = json!(false);
    let mut rig = Rig::with_framework(&info);
    rig.run("mortal", "exec sleep 1000");
    rig.cluster.agent(0).kill();
    rig.wait_for_processes(0);
}

#[test]
fn tasks_survive_the_masters_death() {
    let mut rig = Rig::start();
    rig.run("survivor", "exec sleep 1000");
    rig.cluster.master(0).kill();
    assert!(rig.cluster.get("/master/state").is_err());
    rig.cluster.master(0).start().unwrap();
    rig.cluster.wait_until_ready(LIMIT).unwrap();

    let mut info = framework_info("testbed");
    info["id"] = json!({ "value": rig.framework.id });
    rig.framework = Framework::subscribe(&rig.cluster.master_url(), &info).unwrap();
    rig.framework.calls.reconcile(&[]);
    rig.framework.calls.confirm().unwrap();
    // If the acknowledgement died with the master, the agent tells RUNNING once more, without a reason.
    let answered = |framework: &mut Framework| {
        let status = framework.statuses.get("survivor")?;
        (status["state"] == "TASK_RUNNING" && status["reason"] == "REASON_RECONCILIATION").then_some(())
    };
    rig.framework.wait_for(LIMIT, answered).unwrap();
    assert_eq!(rig.cluster.processes().len(), 1);
}

#[test]
fn a_teardown_ends_all_tasks_and_executors() {
    let mut rig = Rig::start();
    rig.run("one", "exec sleep 1000");
    rig.run("two", "trap '' TERM; while true; do sleep 0.1; done");
    rig.wait_for_processes(2);
    rig.framework.calls.teardown();
    rig.framework.calls.confirm().unwrap();
    rig.wait_for_processes(0);
}

#[test]
fn an_agent_can_be_drained() {
    let mut rig = Rig::start();
    rig.run("drained", "exec sleep 1000");
    rig.cluster.agent(0).drain(Duration::from_secs(1)).unwrap();
    assert_eq!(rig.reaches("drained", "TASK_KILLED")["reason"], "REASON_AGENT_DRAINING");
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = rig.cluster.agent(0).reactivate() {
        assert!(Instant::now() < deadline, "{error:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
