//! Apps on a real Mesos: created, scaled, locked, forced and deleted.

mod support;

use microscaler_testbed::Tasks;
use serde_json::{Value, json};
use support::{Rig, kinds, wait};

#[test]
fn an_app_is_real_tasks_and_its_events_come_in_marathons_order() {
    let rig = Rig::start();
    let mut events = rig.events("");
    assert!(events.head.contains(&"Connection: close".to_owned()), "{:?}", events.head);
    assert!(!events.head.iter().any(|line| line.to_lowercase().starts_with("transfer-encoding")), "{:?}", events.head);
    assert_eq!(events.next().unwrap().0, "event_stream_attached");

    rig.create("/s1", 1, |_| {});
    let first = events.until("deployment_success");
    let expected = [
        "deployment_info",
        "deployment_step_success",
        "deployment_info",
        "group_change_success",
        "api_post_event",
        "instance Scheduled",
        "instance Provisioned",
        "TASK_STARTING",
        "instance Starting",
        "TASK_RUNNING",
        "instance Running",
        "deployment_step_success",
        "deployment_success",
    ];
    assert_eq!(kinds(&first), expected);
    assert_eq!(rig.cluster.tasks().unwrap().running().len(), 1);

    rig.scale("/s1", 3);
    events.until("deployment_success");
    assert_eq!(rig.cluster.tasks().unwrap().running().len(), 3);
    rig.scale("/s1", 2);
    let down = events.until("deployment_success");
    let expected = [
        "deployment_info",
        "group_change_success",
        "api_post_event",
        "instance Running",
        "TASK_KILLED",
        "instance Killed",
        "deployment_step_success",
        "deployment_success",
    ];
    assert_eq!(kinds(&down), expected);

    assert_eq!(rig.marathon.send("DELETE", "/v2/apps/s1", &Value::Null).unwrap().0, 200);
    let gone = events.until("deployment_success");
    assert!(kinds(&gone).contains(&"app_terminated_event".to_owned()), "{:?}", kinds(&gone));
    assert_eq!(rig.cluster.tasks().unwrap().running(), []);
    assert_eq!(rig.marathon.send("GET", "/v2/apps/s1", &Value::Null).unwrap().0, 404);
}

#[test]
fn a_deployment_locks_its_apps_until_it_is_done_or_forced() {
    let rig = Rig::start();
    rig.create("/big", 2, |app| app["cpus"] = json!(7));
    rig.wait_for_running("/big", 2);
    let mut events = rig.events("");
    events.next();
    // Only two fit.
    let (status, first) = rig.scale("/big", 5);
    assert_eq!(status, 200);
    events.until("group_change_success");
    let (status, locked) = rig.scale("/big", 4);
    assert_eq!(status, 409);
    assert_eq!(locked["deployments"], json!([{ "id": first["deploymentId"] }]));
    let refused = events.until("group_change_failed");
    let failed = refused.iter().find(|(kind, _)| kind == "deployment_failed").expect("a failed deployment");
    assert_ne!(failed.1["id"], first["deploymentId"]);
    // The same number is no change, and so nothing is in its way.
    let (status, same) = rig.scale("/big", 5);
    assert_eq!(status, 200);
    let (_, success) = events.until("deployment_success").pop().unwrap();
    assert_eq!((&success["id"], &success["plan"]["steps"]), (&same["deploymentId"], &json!([])));
    assert_eq!(rig.deployments().len(), 1);

    let queue = rig.marathon.get("/v2/queue").unwrap();
    assert_eq!((&queue["queue"][0]["count"], &queue["queue"][0]["delay"]["overdue"]), (&json!(3), &json!(true)));

    // Those that wait are the last to go: both tasks are killed, and two others take their place when all is told to be done.
    let before = rig.tasks("/big");
    let (status, forced) = rig.put("/v2/apps/big?force=true", &json!({ "instances": 2 }));
    assert_eq!(status, 200);
    let all = events.until_so(|kind, data| kind == "deployment_success" && data["id"] == forced["deploymentId"]);
    let cancelled = all.iter().find(|(kind, _)| kind == "deployment_failed").unwrap();
    assert_eq!((&cancelled.1["id"], &cancelled.1["reason"]), (&first["deploymentId"], &json!("The upgrade has been cancelled")));
    assert_eq!(kinds(&all).iter().filter(|kind| *kind == "TASK_KILLED").count(), 2);
    rig.wait_for_running("/big", 2);
    assert!(rig.tasks("/big").iter().all(|task| !before.contains(task)));
    assert_eq!(rig.marathon.get("/v2/queue").unwrap(), json!({ "queue": [] }));
}

#[test]
fn several_apps_are_one_deployment_all_or_nothing() {
    let rig = Rig::start();
    rig.create("/b1", 1, |_| {});
    rig.create("/b2", 1, |_| {});
    rig.wait_for_running("/b1", 1);
    rig.wait_for_running("/b2", 1);
    let patch = |body: Value| rig.marathon.send("PATCH", "/v2/apps", &body).unwrap();
    let (status, answer) = patch(json!([{ "id": "/b1", "instances": 2 }, { "id": "/nope", "instances": 3 }]));
    assert_eq!((status, answer), (404, json!({ "message": "App '/nope' does not exist" })));
    assert_eq!(rig.app("/b1")["instances"], 1);
    let (status, _) = patch(json!([{ "id": "/b1", "instances": 2 }, { "id": "/b2", "instances": 3 }]));
    assert_eq!(status, 200);
    rig.wait_for_running("/b1", 2);
    rig.wait_for_running("/b2", 3);
}

#[test]
fn chosen_tasks_are_killed_and_not_replaced() {
    let rig = Rig::start();
    rig.create("/a", 3, |_| {});
    rig.wait_for_running("/a", 3);
    let tasks = rig.tasks("/a");
    let (status, answer) = rig.marathon.send("POST", "/v2/tasks/delete?scale=true", &json!({ "ids": [tasks[1]] })).unwrap();
    assert_eq!((status, answer["deploymentId"].is_string()), (200, true));
    rig.wait_for_running("/a", 2);
    assert_eq!(rig.tasks("/a"), [tasks[0].clone(), tasks[2].clone()]);
    assert_eq!(rig.app("/a")["instances"], 2);

    // Without scale, another task of the same instance follows.
    let (status, answer) = rig.marathon.send("POST", "/v2/tasks/delete", &json!({ "ids": [tasks[0]] })).unwrap();
    assert_eq!((status, &answer["tasks"][0]["id"]), (200, &json!(tasks[0])));
    let next = tasks[0].replace("_app.1", "_app.2");
    wait(|| {
        let tasks = rig.tasks("/a");
        tasks.contains(&next).then_some(()).ok_or_else(|| format!("{tasks:?}"))
    });
}

#[test]
fn kill_selection_chooses_by_age() {
    let rig = Rig::start();
    for (id, selection, survivor) in [("/ky", "YOUNGEST_FIRST", 0), ("/ko", "OLDEST_FIRST", 2)] {
        rig.create(id, 1, |app| app["killSelection"] = json!(selection));
        rig.wait_for_running(id, 1);
        rig.scale(id, 2);
        rig.wait_for_running(id, 2);
        rig.scale(id, 3);
        rig.wait_for_running(id, 3);
        let before = rig.tasks(id);
        rig.scale(id, 1);
        rig.wait_for_running(id, 1);
        assert_eq!(rig.tasks(id), [before[survivor].clone()], "{selection}");
    }
}

#[test]
fn a_failing_app_waits_longer_each_time() {
    let rig = Rig::start();
    rig.create("/fail", 1, |app| {
        app["cmd"] = json!("exit 3");
        app["backoffSeconds"] = json!(60);
    });
    let delay = wait(|| {
        let queue = rig.marathon.get("/v2/queue").unwrap();
        let delay = queue["queue"][0]["delay"].clone();
        if delay["overdue"] == false { Ok(delay) } else { Err(queue.to_string()) }
    });
    assert!(delay["timeLeftSeconds"].as_i64().unwrap() > 30, "{delay}");
    let failure = rig.app("/fail")["lastTaskFailure"].clone();
    assert_eq!((&failure["state"], &failure["appId"]), (&json!("TASK_FAILED"), &json!("/fail")));
    assert_eq!(rig.marathon.send("DELETE", "/v2/queue/fail/delay", &Value::Null).unwrap().0, 204);
    let failed = failure["taskId"].as_str().unwrap().to_owned();
    wait(|| {
        let failure = rig.app("/fail")["lastTaskFailure"].clone();
        (failure["taskId"] != failed.as_str()).then_some(()).ok_or_else(|| failure.to_string())
    });
}
