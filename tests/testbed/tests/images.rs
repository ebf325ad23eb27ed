//! Tasks in container images, with the containerizer of Mesos itself.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use microscaler_testbed::{Agent, BUSYBOX, Feature, busybox_image, can_or_skip};
use serde_json::{Value, json};
use std::time::Duration;
use support::{LIMIT, Rig};

/// In the image, with a directory of this machine at `/data`.
fn in_image(task: &mut Value, data: &str) {
    task["container"] = json!({
        "type": "MESOS",
        "mesos": { "image": { "type": "DOCKER", "docker": { "name": BUSYBOX } } },
        "volumes": [{ "container_path": "/data", "host_path": data, "mode": "RW" }],
    });
}

fn mounts_with(text: &str) -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_task_runs_in_an_image_with_a_volume() {
    if !can_or_skip(Feature::Images, "a_task_runs_in_an_image_with_a_volume") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let images = directory.path().join("images");
    busybox_image(&images).unwrap();
    std::fs::write(directory.path().join("greeting"), "hello\n").unwrap();
    let data = directory.path().display().to_string();
    let mut rig = Rig::with_agent(Agent::default().images(&images));

    rig.launch("inside", "cat /data/greeting; ls -d /usr; pwd; echo $WORD $PATH; echo in > written; touch /data/seen; exec sleep 1000", |task| {
        in_image(task, &data);
        task["command"]["environment"] = json!({ "variables": [{ "name": "WORD", "value": "passed" }] });
        task["check"] = json!({ "type": "COMMAND", "command": { "command": { "value": "test -f /data/seen && test ! -d /usr" } },
            "delay_seconds": 0.0, "interval_seconds": 0.1 });
    });
    rig.reaches("inside", "TASK_RUNNING");
    let passes = |status: &Value| status["check_status"]["command"]["exit_code"] == 0;
    rig.framework
        .wait_for(LIMIT, |framework| framework.statuses.get("inside").filter(|status| passes(status)).map(drop))
        .unwrap();
    assert_eq!(rig.output("inside"), "hello\n/mnt/mesos/sandbox\npassed /bin\n");
    let sandbox = rig.cluster.agent(0).sandbox(&rig.framework.id, "inside").unwrap();
    assert_eq!(std::fs::read_to_string(sandbox.join("written")).unwrap(), "in\n", "the sandbox is in the container");

    rig.launch("own-command", "", |task| {
        in_image(task, &data);
        task["command"] = json!({ "shell": false, "value": "/bin/sh", "arguments": ["sh", "-c", "exit 3"] });
    });
    assert_eq!(rig.reaches("own-command", "TASK_FAILED")["message"], "Command exited with status 3");

    rig.cluster.agent(0).kill();
    rig.cluster.agent(0).start().unwrap();
    rig.cluster.wait_until_ready(LIMIT).unwrap();
    rig.wait_for_processes(1);
    rig.kill("inside", Some(Duration::ZERO));
    rig.reaches("inside", "TASK_KILLED");
    rig.wait_for_processes(0);

    // A task that runs at the end leaves neither mounts nor files, and the volume's files are left alone.
    rig.launch("last", "exec sleep 1000", |task| in_image(task, &data));
    rig.reaches("last", "TASK_RUNNING");
    let home = rig.cluster.directory().to_owned();
    drop(rig);
    assert_eq!(mounts_with(&home.display().to_string()), 0);
    assert!(!home.exists());
    assert!(directory.path().join("greeting").exists());
}
