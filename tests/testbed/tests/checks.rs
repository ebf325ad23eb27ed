//! Checks and health checks of the command executor.
#![allow(clippy::disallowed_methods, reason = "a real cluster takes real time")]

mod support;

use microscaler_testbed::bare::Framework;
use serde_json::{Value, json};
use std::net::TcpListener;
use support::{LIMIT, Rig};

/// Waits for a status of the task that `is_wanted`.
fn status_with(framework: &mut Framework, id: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    framework.wait_for(LIMIT, |framework| framework.statuses.get(id).filter(|status| is_wanted(status)).cloned()).unwrap()
}

fn check(kind: &str, what: Value) -> Value {
    json!({ "type": kind, kind.to_lowercase(): what, "delay_seconds": 0.0, "interval_seconds": 0.1, "timeout_seconds": 5.0 })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_check_tells_each_change_of_its_result() {
    let mut rig = Rig::start();
    rig.launch("checked", "touch up; exec sleep 1000", |task| {
        task["check"] = check("COMMAND", json!({ "command": { "value": "sleep 0.3; test -f up || exit 7" } }));
    });
    let first = rig.reaches("checked", "TASK_RUNNING");
    assert_eq!(first["check_status"], json!({ "type": "COMMAND", "command": {} }));
    let changed = |code: i32| move |status: &Value| status["check_status"]["command"]["exit_code"] == code;
    let status = status_with(&mut rig.framework, "checked", changed(0));
    assert_eq!((&status["state"], &status["reason"]), (&json!("TASK_RUNNING"), &json!("REASON_TASK_CHECK_STATUS_UPDATED")));
    let sandbox = rig.cluster.agent(0).sandbox(&rig.framework.id, "checked").unwrap();
    std::fs::remove_file(sandbox.join("up")).unwrap();
    status_with(&mut rig.framework, "checked", changed(7));
}

#[test]
fn a_check_asks_over_http_and_connects() {
    let mut rig = Rig::start();
    let port = free_port();
    rig.launch("web", &format!("sleep 0.5; exec python3 -m http.server --bind 127.0.0.1 {port}"), |task| {
        task["check"] = check("HTTP", json!({ "port": port, "path": "/none" }));
    });
    rig.launch("tcp", "exec sleep 1000", |task| task["check"] = check("TCP", json!({ "port": port })));
    let status = status_with(&mut rig.framework, "web", |status| status["check_status"]["http"]["status_code"].is_number());
    assert_eq!(status["check_status"], json!({ "type": "HTTP", "http": { "status_code": 404 } }));
    status_with(&mut rig.framework, "tcp", |status| status["check_status"]["tcp"]["succeeded"] == true);
    rig.kill("web", None);
    status_with(&mut rig.framework, "tcp", |status| status["check_status"]["tcp"]["succeeded"] == false);
}

#[test]
fn a_task_that_stays_unhealthy_is_killed() {
    let mut rig = Rig::start();
    rig.launch("sick", "touch well; exec sleep 1000", |task| {
        let mut health_check = check("COMMAND", json!({ "value": "test -f well && rm well && sleep 0.3" }));
        health_check["consecutive_failures"] = json!(2);
        health_check["delay_seconds"] = json!(0.3);
        task["health_check"] = health_check;
    });
    assert_eq!(rig.reaches("sick", "TASK_RUNNING")["healthy"], Value::Null);
    let status = status_with(&mut rig.framework, "sick", |status| status["healthy"] == true);
    assert_eq!(status["reason"], "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED");
    // As Mesos' own command executor does it: killed, and for its health.
    let status = rig.reaches("sick", "TASK_KILLED");
    assert_eq!((&status["healthy"], &status["message"]), (&json!(false), &json!("Command terminated with signal Terminated")));
}

#[test]
fn a_check_that_hangs_is_cut_off() {
    let mut rig = Rig::start();
    rig.launch("slow", "exec sleep 1000", |task| {
        let mut health_check = check("COMMAND", json!({ "value": "sleep 1000" }));
        health_check["timeout_seconds"] = json!(0.2);
        health_check["grace_period_seconds"] = json!(0);
        health_check["consecutive_failures"] = json!(1);
        task["health_check"] = health_check;
    });
    assert_eq!(rig.reaches("slow", "TASK_KILLED")["healthy"], false);
    rig.wait_for_processes(0);
}
