//! How tasks are ended, and that nothing of them is left.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::Rig;

/// A process that has left its session and its parent, which has left in turn.
fn stray(sleep: u32) -> String {
    format!("setsid sh -c 'setsid sleep {sleep} & setsid sleep {sleep} & exit' & ")
}

#[test]
fn a_task_is_asked_before_it_is_killed() {
    let mut rig = Rig::start();
    rig.run_until_ready("polite", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    rig.kill("polite", None);
    assert_eq!(rig.reaches("polite", "TASK_KILLED")["message"], "Command exited with status 7");
    assert_eq!(rig.file("polite", "stdout"), "ready\nbye\n");
    rig.run_until_ready("stubborn", "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    // Both have longer than the 3 s that a task has where nothing is said.
    let begin = Instant::now();
    rig.kill("stubborn", Some(Duration::from_millis(3500)));
    assert_eq!(rig.reaches("stubborn", "TASK_KILLED")["message"], "Command terminated with signal Killed");
    assert!(begin.elapsed() >= Duration::from_millis(3500), "{:?}", begin.elapsed());
    rig.launch("own", &serde_json::json!({"shell": "trap '' TERM; while :; do sleep 0.05; done"}), |task| {
        task["kill_policy"] = serde_json::json!({"grace_period": {"nanoseconds": 3_500_000_000_u64}});
    });
    rig.reaches("own", "TASK_RUNNING");
    let begin = Instant::now();
    rig.kill("own", None);
    rig.reaches("own", "TASK_KILLED");
    assert!(begin.elapsed() >= Duration::from_millis(3500), "{:?}", begin.elapsed());
}

#[test]
fn nothing_survives_a_task_that_is_killed_nor_touches_the_others() {
    let mut rig = Rig::start();
    rig.run("other", &format!("{} exec sleep 2221", stray(2222)));
    rig.run("strays", &format!("{} sleep 3331 & exec sleep 3331", stray(3332)));
    rig.until("all strays", |rig| (rig.processes("sleep 3332").len() == 2).then_some(()));
    rig.until("all strays", |rig| (rig.processes("sleep 2222").len() == 2).then_some(()));
    rig.kill("strays", Some(Duration::ZERO));
    rig.reaches("strays", "TASK_KILLED");
    assert!(rig.processes("sleep 333").is_empty());
    assert_eq!(rig.processes("sleep 2222").len(), 2);
    assert_eq!(rig.processes("sleep 2221").len(), 1);
}

#[test]
fn nothing_survives_a_task_that_ends_by_itself() {
    let mut rig = Rig::start();
    rig.run("strays", &format!("{} sleep 4441 & sleep 0.5", stray(4442)));
    rig.until("all strays", |rig| (rig.processes("sleep 4442").len() == 2).then_some(()));
    rig.reaches("strays", "TASK_FINISHED");
    assert!(rig.processes("sleep 444").is_empty());
}

#[test]
fn orphans_are_reaped() {
    let mut rig = Rig::start();
    rig.run("parent", "for i in 1 2 3 4 5 6 7 8; do sh -c 'sleep 0.1 & exit'; done; sleep 5551");
    rig.until("no zombies", |rig| {
        let children = format!("/proc/{pid}/task/{pid}/children", pid = rig.executor());
        let children = std::fs::read_to_string(children).unwrap();
        (children.split_whitespace().count() == 1).then_some(())
    });
}

#[test]
fn tasks_end_with_their_executor() {
    let mut rig = Rig::start();
    rig.run("a", "exec sleep 6661");
    rig.run("b", "exec sleep 6661");
    kill_process(Pid::from_raw(rig.executor().try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    for id in ["a", "b"] {
        rig.reaches(id, "TASK_FAILED");
    }
    rig.no_processes("sleep 6661");
    rig.no_processes("microscaler executor");
}

#[test]
fn an_executor_that_is_told_to_end_says_so_of_its_tasks() {
    let mut rig = Rig::start();
    rig.run("a", "exec sleep 6671");
    kill_process(Pid::from_raw(rig.executor().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
    let end = rig.reaches("a", "TASK_KILLED");
    let (reason, message) = (&end["reason"], &end["message"]);
    assert_eq!((reason, message), (&"REASON_EXECUTOR_UNREGISTERED".into(), &"its executor was told to end".into()), "{end}");
    rig.no_processes("microscaler executor");
}

#[test]
fn a_kill_right_after_the_launch_is_not_lost() {
    let mut rig = Rig::start();
    // Else the agent ends the executor together with the only task that it was to be started for.
    rig.run("other", "exec sleep 7772");
    for round in 0..5 {
        let id = format!("t{round}");
        rig.shell(&id, "exec sleep 7771");
        std::thread::sleep(Duration::from_millis(2 * round));
        rig.kill(&id, Some(Duration::ZERO));
        rig.until(&id, |rig| {
            rig.history.iter().any(|it| it["task_id"]["value"] == *id && it["state"] == "TASK_KILLED").then_some(())
        });
    }
    rig.no_processes("sleep 7771");
}

#[test]
fn a_framework_that_leaves_takes_all_with_it() {
    let mut rig = Rig::start();
    rig.run_until_ready("polite", "trap 'sleep 0.3; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
    rig.run_until_ready("stubborn", "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let stdout = rig.sandbox().join("tasks/polite/stdout");
    rig.framework.calls.teardown();
    rig.framework.calls.flush().unwrap();
    let deadline = Instant::now() + crate::rig::LIMIT;
    while !rig.processes("microscaler executor").is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(std::fs::read_to_string(stdout).unwrap(), "ready\nbye\n");
    assert!(rig.processes("sleep 0.05").is_empty());
}
