//! Checks and health checks.

use serde_json::{Value, json};

use crate::rig::Rig;

fn often(mut check: Value) -> Value {
    for (name, value) in
        [("delay_seconds", 0.0), ("interval_seconds", 0.1), ("timeout_seconds", 1.0), ("grace_period_seconds", 0.0)]
    {
        if check[name].is_null() {
            check[name] = value.into();
        }
    }
    check
}

#[test]
fn changes_of_a_check_are_told() {
    let mut rig = Rig::start();
    let check = json!({"type": "COMMAND", "command": {"command": {"value": "echo looked at $NAME; exit $(cat code)"}}});
    let mut check = often(check);
    check.as_object_mut().unwrap().remove("grace_period_seconds");
    rig.launch("a", &json!({"shell": "echo 0 > code; exec sleep 1111", "env": [["NAME", "me"]]}), |task| {
        task["check"] = check.clone();
    });
    let first = rig.reaches("a", "TASK_RUNNING");
    assert_eq!(first["check_status"], json!({"type": "COMMAND", "command": {}}));
    let code = |code: u32| move |status: &Value| status["check_status"]["command"]["exit_code"] == code;
    assert_eq!(rig.sees("a", "is 0", code(0))["reason"], "REASON_TASK_CHECK_STATUS_UPDATED");
    assert_eq!(rig.file("a", "check"), "looked at me\n");
    std::fs::write(rig.sandbox().join("tasks/a/code"), "5").unwrap();
    rig.sees("a", "is 5", code(5));
    rig.kill("a", None);
    assert_eq!(rig.reaches("a", "TASK_KILLED")["check_status"]["command"]["exit_code"], 5);
    assert!(rig.history.len() <= 6, "only changes: {:?}", rig.history);
}

#[test]
fn an_unhealthy_task_is_ended() {
    let mut rig = Rig::start();
    let health = often(json!({"type": "COMMAND", "command": {"value": "test ! -e sick"}, "consecutive_failures": 2}));
    rig.launch("a", &json!({"shell": "exec sleep 1112"}), |task| task["health_check"] = health.clone());
    assert!(rig.reaches("a", "TASK_RUNNING")["healthy"].is_null());
    let healthy = |healthy: bool| move |status: &Value| status["healthy"] == healthy;
    assert_eq!(rig.sees("a", "is healthy", healthy(true))["reason"], "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED");
    std::fs::write(rig.sandbox().join("tasks/a/sick"), "").unwrap();
    assert_eq!(rig.sees("a", "is unhealthy", healthy(false))["state"], "TASK_RUNNING");
    let end = rig.reaches("a", "TASK_FAILED");
    assert_eq!(end["healthy"], false);
    let message = "COMMAND health check failed 2 times in a row: the command exited with status 1; \
                   killed: Command terminated with signal Terminated";
    assert_eq!(end["message"], message);
}

#[test]
fn ports_are_looked_at() {
    let mut rig = Rig::start();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let serve = format!("exec python3 -m http.server --bind 127.0.0.1 {port}");
    let health = often(json!({"type": "HTTP", "http": {"port": port, "path": "/"}, "grace_period_seconds": 20.0}));
    let mut check = often(json!({"type": "TCP", "tcp": {"port": port}}));
    check.as_object_mut().unwrap().remove("grace_period_seconds");
    rig.launch("web", &json!({"shell": format!("sleep 0.5; {serve}")}), |task| {
        task["health_check"] = health.clone();
        task["check"] = check.clone();
    });
    let connected = |yes: bool| move |status: &Value| status["check_status"]["tcp"]["succeeded"] == yes;
    rig.sees("web", "is closed", connected(false));
    rig.sees("web", "is open", connected(true));
    rig.sees("web", "is healthy", |status| status["healthy"] == true);
}

#[test]
fn a_check_that_hangs_is_ended() {
    let mut rig = Rig::start();
    let health = often(
        json!({"type": "COMMAND", "command": {"value": "sleep 1113 & sleep 1113"}, "timeout_seconds": 0.3, "consecutive_failures": 2}),
    );
    rig.launch("a", &json!({"shell": "exec sleep 1114"}), |task| task["health_check"] = health.clone());
    let end = rig.reaches("a", "TASK_RUNNING");
    assert!(end["healthy"].is_null());
    let end = rig.sees("a", "has failed", |status| status["state"] == "TASK_FAILED");
    assert!(end["message"].as_str().unwrap().contains("no result after 0.3 s"), "{end}");
    rig.no_processes("sleep 1113");
}
