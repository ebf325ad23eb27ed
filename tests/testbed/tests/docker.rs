//! Tasks in Docker containers.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use microscaler_testbed::{Agent, BUSYBOX, Docker, Feature, can_or_skip, docker_container, marked};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use support::local::{mark_of, start_local, wait_until_nothing_is_left};
use support::{LIMIT, Rig};

fn in_docker(task: &mut Value, data: &str) {
    task["container"] = docker_container();
    task["container"]["volumes"] = json!([{ "container_path": "/data", "host_path": data, "mode": "RW" }]);
}

fn wait_for_containers(docker: &Docker, count: usize) {
    let deadline = Instant::now() + LIMIT;
    while docker.containers().unwrap().len() != count {
        assert!(Instant::now() < deadline, "{:?}, expected {count}", docker.containers());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn tasks_run_in_docker_with_volumes_and_health() {
    if !can_or_skip(Feature::Docker, "tasks_run_in_docker_with_volumes_and_health") {
        return;
    }
    let docker = Docker::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("greeting"), "hello\n").unwrap();
    let data = directory.path().display().to_string();
    let mut rig = Rig::with_agent(Agent::default().docker(&docker));

    rig.launch(
        "inside",
        "cat /data/greeting; ls -d /usr; echo $WORD; touch /data/seen; echo in > $MESOS_SANDBOX/written; exec sleep 1000",
        |task| {
            in_docker(task, &data);
            task["command"]["environment"] = json!({ "variables": [{ "name": "WORD", "value": "passed" }] });
            task["health_check"] = json!({ "type": "COMMAND", "command": { "value": "test -f /data/seen && test ! -d /usr" },
            "delay_seconds": 0.0, "interval_seconds": 0.2 });
        },
    );
    rig.reaches("inside", "TASK_RUNNING");
    let is_healthy = |status: &Value| status["healthy"] == true;
    rig.framework
        .wait_for(LIMIT, |framework| framework.statuses.get("inside").filter(|status| is_healthy(status)).map(drop))
        .unwrap();
    assert_eq!(rig.output("inside"), "hello\npassed\n");
    let sandbox = rig.cluster.agent(0).sandbox(&rig.framework.id, "inside").unwrap();
    assert_eq!(std::fs::read_to_string(sandbox.join("written")).unwrap(), "in\n", "the sandbox is in the container");

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    rig.launch("web", &format!("exec httpd -f -p 127.0.0.1:{port} -h /data"), |task| {
        in_docker(task, &data);
        task["health_check"] = json!({ "type": "HTTP", "http": { "port": port, "path": "/greeting" },
            "delay_seconds": 0.0, "interval_seconds": 0.2 });
    });
    rig.framework
        .wait_for(LIMIT, |framework| framework.statuses.get("web").filter(|status| is_healthy(status)).map(drop))
        .unwrap();
    rig.kill("web", Some(Duration::ZERO));
    rig.reaches("web", "TASK_KILLED");

    rig.launch("bad", "exit 3", |task| in_docker(task, &data));
    assert_eq!(rig.reaches("bad", "TASK_FAILED")["message"], "Container exited with status 3");
    rig.run("plain", "exec sleep 1000");
    rig.wait_for_processes(2);

    // Containers outlive the agent, and it finds them again.
    rig.cluster.agent(0).kill();
    rig.cluster.agent(0).start().unwrap();
    rig.cluster.wait_until_ready(LIMIT).unwrap();
    rig.wait_for_processes(2);
    rig.kill("inside", Some(Duration::ZERO));
    rig.reaches("inside", "TASK_KILLED");
    rig.wait_for_processes(1);
    wait_for_containers(&docker, 0);
}

#[test]
fn nothing_is_left_of_docker() {
    if !can_or_skip(Feature::Docker, "nothing_is_left_of_docker") {
        return;
    }
    let docker = Docker::start().unwrap();
    let mut rig = Rig::with_agent(Agent::default().docker(&docker));
    rig.launch("left", "exec sleep 1000", |task| in_docker(task, "/tmp"));
    rig.reaches("left", "TASK_RUNNING");
    // The cluster's end ends its containers.
    drop(rig);
    wait_for_containers(&docker, 0);

    docker.run(&["run", "--detach", "--net", "host", BUSYBOX, "sleep", "1000"]).unwrap();
    let (id, directory) = (docker.id().to_owned(), docker.directory().to_owned());
    drop(docker);
    assert_eq!(marked::processes(&id), []);
    assert!(!directory.exists());
}

#[test]
fn an_owner_that_is_killed_leaves_no_docker() {
    if !can_or_skip(Feature::Docker, "an_owner_that_is_killed_leaves_no_docker") {
        return;
    }
    let (owner, about) = start_local(&["--agents", "1", "--docker"]);
    let socket = Path::new(about["docker"].as_str().unwrap());
    let of_docker = socket.parent().unwrap();
    let id = mark_of(of_docker);
    let host = format!("unix://{}", socket.display());
    let run = ["-H", &host, "run", "--detach", "--net", "host", BUSYBOX, "sleep", "1000"];
    assert!(std::process::Command::new("docker").args(run).status().unwrap().success());
    assert!(mounts_below(of_docker) > 0);
    drop(owner);
    wait_until_nothing_is_left(&id, of_docker);
    assert_eq!(mounts_below(of_docker), 0);
}

fn mounts_below(directory: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(directory.to_str().unwrap())).count()
}
