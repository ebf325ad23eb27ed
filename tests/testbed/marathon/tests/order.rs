//! The order of events is that of the recording: for each deployment, and for each instance; how those of different ones mingle is
//! chance there as well.
#![allow(clippy::disallowed_methods, reason = "a real server takes real time")]

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use support::{Events, Rig, wait};

/// `recordings/11-events-scale.json`, with the numbers of other events.
fn recording() -> Value {
    let path = format!("{}/recordings/11-events-scale.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Does what was done for the recording, and gives all events.
fn play(rig: &Rig) -> Vec<(String, Value)> {
    let mut events = rig.events("");
    let mut all = Vec::new();
    let mut finish = |events: &mut Events, answer: (u16, Value)| {
        let id = answer.1["deploymentId"].clone();
        let is_it = |kind: &str, data: &Value| kind == "deployment_success" && (id.is_null() || data["id"] == id);
        all.extend(events.until_so(is_it));
    };
    let first = |rig: &Rig| json!({ "ids": [rig.tasks("/s1")[0]] });
    rig.create("/s1", 1, |_| {});
    finish(&mut events, (201, Value::Null));
    for count in [3, 1, 1] {
        finish(&mut events, rig.scale("/s1", count));
    }
    // Halted, so that the deployments are in each other's way.
    rig.cluster.master(0).stop().unwrap();
    assert_eq!(rig.scale("/s1", 2).0, 200);
    assert_eq!(rig.scale("/s1", 2).0, 200);
    assert_eq!(rig.scale("/s1", 4).0, 409);
    let forced = rig.put("/v2/apps/s1?force=true", &json!({ "instances": 4 }));
    rig.cluster.master(0).resume().unwrap();
    finish(&mut events, forced);
    // The one before waits for its instance no longer, which may come last.
    rig.wait_for_running("/s1", 4);
    finish(&mut events, rig.scale("/s1", 0));
    finish(&mut events, rig.marathon.send("PATCH", "/v2/apps", &json!([{ "id": "/s1", "instances": 1 }])).unwrap());
    finish(&mut events, rig.marathon.send("POST", "/v2/tasks/delete?scale=true", &first(rig)).unwrap());
    finish(&mut events, rig.scale("/s1", 1));
    rig.marathon.send("POST", "/v2/tasks/delete", &first(rig)).unwrap();
    wait(|| {
        let tasks = rig.tasks("/s1");
        let is_next = tasks.iter().any(|task| task.ends_with("._app.2")) && rig.app("/s1")["tasksRunning"] == 1;
        is_next.then_some(()).ok_or_else(|| format!("{tasks:?}"))
    });
    finish(&mut events, rig.marathon.send("DELETE", "/v2/apps/s1", &Value::Null).unwrap());
    all
}

/// What happened to each thing, in the order in which it was first heard of.
fn by(all: &[(String, Value)], name: impl Fn(&str, &Value) -> Option<(String, String)>) -> Vec<Vec<String>> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (id, what) in all.iter().filter_map(|(kind, data)| name(kind, data)) {
        match found.iter_mut().find(|(known, _)| *known == id) {
            Some((_, events)) => events.push(what),
            None => found.push((id, vec![what])),
        }
    }
    found.into_iter().map(|(_, events)| events).collect()
}

#[test]
fn events_come_in_the_recorded_order() {
    let rig = Rig::start();
    let all = play(&rig);
    let recorded = recording();
    let deployments =
        by(&all, |kind, data| kind.starts_with("deployment").then(|| (data["plan"]["id"].to_string(), kind.to_owned())));
    assert_eq!(json!(deployments), recorded["deployments"]);

    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut instances = by(&all, |kind, data| match kind {
        "instance_changed_event" => Some((text(&data["instanceId"]), text(&data["condition"]))),
        "status_update_event" => Some((text(&data["taskId"]).split("._app.").next()?.to_owned(), text(&data["taskStatus"]))),
        _ => None,
    });
    instances.sort();
    assert_eq!(json!(instances), recorded["instances"]);

    for (kind, count) in recorded["others"].as_object().unwrap() {
        assert_eq!(
            all.iter().filter(|(own, _)| own == kind).count(),
            usize::try_from(count.as_u64().unwrap()).unwrap(),
            "{kind}"
        );
    }
}

#[test]
fn streams_have_what_they_ask_for() {
    let rig = Rig::start();
    let mut one = rig.events("?event_type=deployment_success");
    let mut two = rig.events("?event_type=deployment_success&event_type=status_update_event&plan-format=light");
    rig.create("/s1", 1, |_| {});
    assert_eq!(one.next().unwrap().0, "deployment_success");
    let kinds: Vec<String> = two.until("deployment_success").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["status_update_event", "status_update_event", "deployment_success"]);
}

#[test]
fn updates_at_once_are_taken_one_after_the_other() {
    let rig = Arc::new(Rig::start());
    for index in 0..10 {
        rig.create(&format!("/c{index}"), 1, |_| {});
    }
    for index in 0..10 {
        rig.wait_for_running(&format!("/c{index}"), 1);
    }
    let at_once = |updates: Vec<(String, usize)>| -> Vec<u16> {
        let started = updates.into_iter().map(|(app, count)| {
            let rig = Arc::clone(&rig);
            std::thread::spawn(move || rig.scale(&app, count).0)
        });
        let started: Vec<_> = started.collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    };
    assert_eq!(at_once((0..10).map(|index| (format!("/c{index}"), 2)).collect()), [200; 10]);
    rig.wait_for_running("/c0", 2);
    // While nothing can be done, only the first of several gets through.
    rig.cluster.master(0).stop().unwrap();
    let mut answers = at_once((3..8).map(|count| ("/c0".to_owned(), count)).collect());
    rig.cluster.master(0).resume().unwrap();
    answers.sort_unstable();
    assert_eq!(answers, [200, 409, 409, 409, 409]);
}

#[test]
fn a_rollback_is_a_deployment_with_an_old_version() {
    let rig = Rig::start();
    rig.create("/big", 1, |app| app["cpus"] = json!(7));
    rig.wait_for_running("/big", 1);
    let before = rig.marathon.get("/v2/groups").unwrap()["version"].clone();
    let (_, hanging) = rig.scale("/big", 5);
    let path = format!("/v2/deployments/{}", hanging["deploymentId"].as_str().unwrap());
    let (status, rolled_back) = rig.marathon.send("DELETE", &path, &Value::Null).unwrap();
    assert_eq!((status, &rolled_back["version"]), (200, &before));
    rig.wait_for_running("/big", 1);
    assert_eq!(rig.app("/big")["instances"], 1);

    // With force, only the deployment goes: what was wanted still is.
    let (_, hanging) = rig.scale("/big", 5);
    let path = format!("/v2/deployments/{}?force=true", hanging["deploymentId"].as_str().unwrap());
    assert_eq!(rig.marathon.send("DELETE", &path, &Value::Null).unwrap(), (202, Value::Null));
    assert!(rig.deployments().is_empty());
    wait(|| {
        let app = rig.app("/big");
        (app["tasksRunning"] == 2 && app["instances"] == 5).then_some(()).ok_or_else(|| app.to_string())
    });
    assert_eq!(rig.marathon.get("/v2/queue").unwrap()["queue"][0]["count"], 3);
}
