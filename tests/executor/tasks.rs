//! What a task gets, and how its end is told.

use std::process::Command;

use serde_json::{Value, json};

use crate::rig::Rig;

#[test]
fn tasks_share_one_executor_and_have_their_own_files() {
    let mut rig = Rig::start();
    let line = "echo \"$GREETING $PORT $MICROSCALER_TASK_ID $MESOS_TASK_ID\"; pwd; echo $MESOS_SANDBOX; env | grep -c ^MESOS_; echo oops >&2";
    let work = json!({"shell": line, "env": [["GREETING", "hi"], ["PORT", "1"], ["PORT", "31001"]]});
    rig.launch_all(&[("a".to_owned(), work.clone()), ("b".to_owned(), work)], |_| {});
    for id in ["a", "b"] {
        assert_eq!(rig.reaches(id, "TASK_FINISHED")["message"], "Command exited with status 0");
        let directory = rig.sandbox().join("tasks").join(id);
        let stdout = rig.file(id, "stdout");
        let lines: Vec<&str> = stdout.lines().collect();
        let directory = directory.to_str().unwrap();
        assert_eq!(lines[..3], [&format!("hi 31001 {id} {id}"), directory, directory]);
        let theirs: u32 = lines[3].parse().unwrap();
        assert!((2..=4).contains(&theirs), "{stdout}");
        assert_eq!(rig.file(id, "stderr"), "oops\n");
    }
    assert_eq!(rig.messages.len(), 1, "{:?}", rig.messages);
    assert_eq!(rig.messages[0]["version"], env!("CARGO_PKG_VERSION"));
    assert!(rig.messages[0]["unlimited"].as_str().unwrap().contains("--launcher=linux"), "{:?}", rig.messages);
    let message = json!({"agent_id": rig.history[0]["agent_id"], "executor_id": {"value": "pool"}, "data": ""});
    rig.framework.calls.push("MESSAGE", "message", &message);
    rig.framework.calls.confirm().unwrap();
    rig.until("a second hello", |rig| (rig.messages.len() == 2).then_some(()));
    assert_eq!(rig.messages[0], rig.messages[1]);
}

#[test]
fn ends_are_told_in_the_words_of_mesos() {
    let mut rig = Rig::start();
    rig.shell("three", "exit 3");
    assert_eq!(rig.reaches("three", "TASK_FAILED")["message"], "Command exited with status 3");
    rig.shell("shot", "kill -SEGV $$");
    assert_eq!(rig.reaches("shot", "TASK_FAILED")["message"], "Command terminated with signal Segmentation fault");
    rig.launch("absent", &json!({"argv": ["/no/such/program"]}), |_| {});
    let message = "Failed to launch the task: cannot execute \"/no/such/program\": No such file or directory (os error 2)";
    assert_eq!(rig.reaches("absent", "TASK_FAILED")["message"], message);
    rig.launch("nowhere", &json!({"argv": ["true"], "workingDirectory": "/no/such"}), |_| {});
    let message = "Failed to launch the task: cannot start in /no/such: it is no directory";
    assert_eq!(rig.reaches("nowhere", "TASK_FAILED")["message"], message);
    rig.launch("argv", &json!({"argv": ["sh", "-c", "pwd; echo $0 $1", "x", "y"], "workingDirectory": "/tmp"}), |_| {});
    rig.reaches("argv", "TASK_FINISHED");
    assert_eq!(rig.file("argv", "stdout"), "/tmp\nx y\n");
    rig.launch("nothing", &json!({"nothing": true}), |_| {});
    rig.reaches("nothing", "TASK_FINISHED");
    rig.launch("unreadable", &Value::Null, |task| task["data"] = "bm90IEpTT04=".into());
    let status = rig.reaches("unreadable", "TASK_FAILED");
    assert_eq!(status["reason"], "REASON_TASK_INVALID");
    assert!(status["message"].as_str().unwrap().starts_with("TaskInfo.data cannot be read"), "{status}");
}

#[test]
fn two_hundred_tasks_in_one_executor() {
    let mut rig = Rig::start();
    let works: Vec<_> = (0..200).map(|n| (format!("t{n}"), json!({"argv": ["sleep", "12345"]}))).collect();
    rig.launch_all(&works, |_| {});
    for (id, _) in &works {
        rig.reaches(id, "TASK_RUNNING");
    }
    // A process that has just executed its program shows no arguments for an instant.
    rig.until("all to be seen", |rig| (rig.processes("sleep 12345").len() == 200).then_some(()));
    assert_eq!(std::fs::read_dir(format!("/proc/{}/task", rig.executor())).unwrap().count(), 1);
    for (id, _) in &works {
        rig.framework.calls.kill(id, None);
    }
    rig.framework.calls.confirm().unwrap();
    for (id, _) in &works {
        rig.reaches(id, "TASK_KILLED");
    }
    assert!(rig.processes("sleep 12345").is_empty());
    let tasks = rig.sandbox().join("tasks");
    rig.until("the older half of the directories to go", |_| (std::fs::read_dir(&tasks).unwrap().count() == 100).then_some(()));
}

#[test]
fn by_hand_it_says_who_starts_it() {
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("MESOS_"));
        foreign.for_each(|name| _ = command.env_remove(name));
        command.args(arguments).output().unwrap()
    };
    let (whole, alone) = (env!("CARGO_BIN_EXE_microscaler"), env!("CARGO_BIN_EXE_microscaler-executor"));
    for (program, arguments) in [(whole, &["executor"][..]), (alone, &[])] {
        let output = run(program, arguments);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(": MESOS_AGENT_ENDPOINT is not set: a Mesos agent starts this program"), "{text}");
        let help = run(program, &[arguments, &["--help"]].concat()).stdout;
        assert!(String::from_utf8(help).unwrap().contains("Mesos starts it"));
    }
}
