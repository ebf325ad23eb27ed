//! Groups, pods, and health checks.

mod support;

use serde_json::{Value, json};
use support::{Rig, kinds, wait};

fn app(id: &str, instances: usize) -> Value {
    json!({ "id": id, "cmd": "exec sleep 100000", "cpus": 0.05, "mem": 16, "instances": instances })
}

#[test]
fn a_group_is_scaled_as_a_whole_and_goes_as_a_whole() {
    let rig = Rig::start();
    let group =
        json!({ "id": "/grp", "apps": [app("x", 2), app("/grp/y", 1)], "groups": [{ "id": "sub", "apps": [app("z", 1)] }] });
    assert_eq!(rig.marathon.send("POST", "/v2/groups", &group).unwrap().0, 201);
    assert_eq!(rig.marathon.send("POST", "/v2/groups", &group).unwrap().0, 409);
    rig.wait_for_running("/grp/sub/z", 1);
    rig.wait_for_running("/grp/x", 2);
    assert_eq!(rig.put("/v2/groups/grp", &json!({ "scaleBy": 2 })).0, 200);
    rig.wait_for_running("/grp/x", 4);
    rig.wait_for_running("/grp/sub/z", 2);
    assert_eq!(rig.put("/v2/groups/grp", &json!({ "scaleBy": 0.1 })).0, 200);
    rig.wait_for_running("/grp/x", 1);
    let view = rig.marathon.get("/v2/groups").unwrap();
    let group = &view["groups"][0];
    assert_eq!((&group["id"], &group["groups"][0]["apps"][0]["id"]), (&json!("/grp"), &json!("/grp/sub/z")));
    let (status, steps) = rig.put("/v2/groups/grp?dryRun=true", &json!({ "apps": [app("x", 1)] }));
    assert_eq!((status, &steps["steps"][0]["actions"][0]["action"]), (200, &json!("StopApplication")), "{steps}");
    wait(|| rig.deployments().is_empty().then_some(()).ok_or_else(|| "deployments are left".to_owned()));
    assert_eq!(rig.marathon.send("DELETE", "/v2/groups/grp", &Value::Null).unwrap().0, 200);
    wait(|| {
        let tasks = rig.marathon.get("/v2/tasks").unwrap();
        (tasks == json!({ "tasks": [] })).then_some(()).ok_or_else(|| tasks.to_string())
    });
    assert_eq!(rig.marathon.send("GET", "/v2/groups/grp", &Value::Null).unwrap().0, 404);
}

#[test]
fn dependencies_order_the_steps_so_that_room_is_free_before_it_is_taken() {
    let rig = Rig::start();
    let sized = |id: &str, instances: usize, dependencies: Value| json!({ "id": id, "cmd": "exec sleep 100000", "cpus": 7, "mem": 16, "instances": instances, "dependencies": dependencies });
    let group = json!({ "id": "/swap", "apps": [sized("lo", 2, json!([])), sized("hi", 0, json!(["lo"]))] });
    assert_eq!(rig.marathon.send("POST", "/v2/groups", &group).unwrap().0, 201);
    rig.wait_for_running("/swap/lo", 2);
    wait(|| rig.deployments().is_empty().then_some(()).ok_or_else(|| "deployments are left".to_owned()));
    let mut events = rig.events("");
    let update = json!([{ "id": "/swap/hi", "instances": 1 }, { "id": "/swap/lo", "instances": 1 }]);
    let (status, _) = rig.marathon.send("PATCH", "/v2/apps", &update).unwrap();
    assert_eq!(status, 200);
    let all = events.until("deployment_success");
    let steps = &all.iter().find(|(kind, _)| kind == "deployment_info").unwrap().1["plan"]["steps"];
    let apps: Vec<&Value> = steps.as_array().unwrap().iter().map(|step| &step["actions"][0]["app"]).collect();
    assert_eq!(apps, ["/swap/lo", "/swap/hi"]);
    let names = kinds(&all);
    let place = |name: &str| names.iter().position(|kind| kind == name).expect(name);
    assert!(place("TASK_KILLED") < place("instance Scheduled"), "{names:?}");
}

#[test]
fn a_changed_definition_replaces_all_instances_and_a_restart_as_well() {
    let rig = Rig::start();
    rig.create("/r", 3, |_| {});
    rig.wait_for_running("/r", 3);
    let before = rig.tasks("/r");
    rig.cluster.master(0).stop().unwrap();
    assert_eq!(rig.put("/v2/apps/r", &json!({ "env": { "A": "b" } })).0, 200);
    assert_eq!(rig.deployments()[0]["steps"][0]["actions"][0]["action"], "RestartApplication");
    rig.cluster.master(0).resume().unwrap();
    rig.wait_for_running("/r", 3);
    let between = rig.tasks("/r");
    assert!(between.iter().all(|task| !before.contains(task)), "{between:?}");
    assert_eq!(rig.marathon.send("POST", "/v2/apps/r/restart", &json!({})).unwrap().0, 200);
    rig.wait_for_running("/r", 3);
    assert!(rig.tasks("/r").iter().all(|task| !between.contains(task)));
    // Back to the first definition, by its version.
    let versions = rig.marathon.get("/v2/apps/r/versions").unwrap();
    let first = versions["versions"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(rig.put("/v2/apps/r", &json!({ "version": first })).0, 200);
    rig.wait_for_running("/r", 3);
    assert_eq!(rig.app("/r")["env"], Value::Null);
}

#[test]
fn pods_are_scaled_as_a_whole_definition() {
    let rig = Rig::start();
    let container = json!({
        "name": "one", "exec": { "command": { "shell": "exec sleep 100000" } }, "resources": { "cpus": 0.05, "mem": 16 },
    });
    let mut pod = json!({ "id": "/pod", "containers": [container], "scaling": { "kind": "fixed", "instances": 1 } });
    let (status, answer) = rig.marathon.send("POST", "/v2/pods", &pod).unwrap();
    assert_eq!((status, &answer["scaling"]["instances"]), (201, &json!(1)), "{answer}");
    let wait_for = |count: usize| {
        wait(|| {
            let status = rig.marathon.get("/v2/pods/pod::status").unwrap();
            let is_so = status["status"] == "STABLE" && status["instances"].as_array().unwrap().len() == count;
            is_so.then_some(()).ok_or_else(|| status.to_string())
        });
        wait(|| rig.deployments().is_empty().then_some(()).ok_or_else(|| "deployments are left".to_owned()));
    };
    wait_for(1);
    pod["scaling"]["instances"] = json!(3);
    let mut events = rig.events("");
    assert_eq!(rig.put("/v2/pods/pod", &pod).0, 200);
    let info = events.until("deployment_info").pop().unwrap().1;
    assert_eq!(info["plan"]["steps"], json!([{ "actions": [{ "action": "ScalePod", "pod": "/pod" }] }]));
    wait_for(3);
    assert_eq!(rig.marathon.get("/v2/pods").unwrap()[0]["id"], "/pod");
    assert_eq!(rig.marathon.get("/v2/apps").unwrap(), json!({ "apps": [] }));
    assert_eq!(rig.marathon.send("DELETE", "/v2/pods/pod", &Value::Null).unwrap().0, 202);
    events.until("deployment_success");
}

#[test]
fn a_deployment_waits_for_health_whoever_checks_it() {
    let rig = Rig::start();
    let server = "exec python3 -m http.server $PORT0 --bind 127.0.0.1";
    let command = json!({ "protocol": "COMMAND", "command": { "value": "test -e healthy" } });
    let checks = [
        ("/own", server, json!({ "protocol": "HTTP", "path": "/" })),
        ("/tcp", server, json!({ "protocol": "TCP" })),
        ("/mesos", server, json!({ "protocol": "MESOS_HTTP", "path": "/" })),
        ("/command", "sleep 1; touch healthy; exec sleep 100000", command),
    ];
    for (id, line, check) in &checks {
        let mut check = check.clone();
        for (name, value) in [("gracePeriodSeconds", 60), ("intervalSeconds", 1), ("timeoutSeconds", 5), ("portIndex", 0)] {
            check[name] = json!(value);
        }
        rig.create(id, 1, |app| {
            app["cmd"] = json!(line);
            app["healthChecks"] = json!([check]);
        });
    }
    for (id, _, _) in &checks {
        rig.wait_for_running(id, 1);
        let app = rig.app(id);
        assert_eq!((&app["tasksHealthy"], &app["tasks"][0]["healthCheckResults"][0]["alive"]), (&json!(1), &json!(true)), "{id}");
    }
}

#[test]
fn constraints_and_attributes_place() {
    use microscaler_testbed::{Agent, Cluster};
    use microscaler_testbed_marathon::Marathon;
    let agent = |rack: &str| Agent::default().attribute("rack", rack);
    let builder = Cluster::builder().agent(agent("r1")).agent(agent("r2")).master_flag("allocation_interval", "50ms");
    let cluster = builder.start().unwrap();
    let marathon = Marathon::builder(&cluster).program(env!("CARGO_BIN_EXE_marathon-local"));
    let marathon = marathon.flag("min_revive_offers_interval", "50").start().unwrap();
    let rig = Rig { marathon, cluster };
    rig.create("/like", 3, |app| app["constraints"] = json!([["rack", "LIKE", "r[2-9]"]]));
    rig.wait_for_running("/like", 3);
    let wanted = rig.cluster.agent(1).id().unwrap();
    assert!(rig.app("/like")["tasks"].as_array().unwrap().iter().all(|task| task["slaveId"] == wanted.as_str()));
    // All agents have one name here, so one is all that fits.
    rig.create("/unique", 2, |app| app["constraints"] = json!([["hostname", "UNIQUE"]]));
    wait(|| {
        let app = rig.app("/unique");
        (app["tasksRunning"] == 1).then_some(()).ok_or_else(|| app.to_string())
    });
    let queue = wait(|| {
        let queue = rig.marathon.get("/v2/queue").unwrap()["queue"][0].clone();
        let reasons = queue["processedOffersSummary"]["rejectSummaryLaunchAttempt"].as_array().cloned().unwrap_or_default();
        let is_so =
            reasons.iter().any(|reason| reason["reason"] == "UnfulfilledConstraint" && reason["declined"].as_u64() > Some(0));
        if is_so { Ok(queue) } else { Err(queue.to_string()) }
    });
    assert_eq!(queue["count"], 1);
}

#[test]
fn while_mesos_hangs_updates_are_taken_and_wait() {
    let rig = Rig::start();
    rig.create("/s1", 2, |_| {});
    rig.wait_for_running("/s1", 2);
    rig.cluster.master(0).stop().unwrap();
    assert_eq!(rig.scale("/s1", 3).0, 200);
    assert_eq!(rig.app("/s1")["tasksRunning"], 2);
    assert_eq!(rig.deployments().len(), 1);
    rig.cluster.master(0).resume().unwrap();
    rig.wait_for_running("/s1", 3);
}

#[test]
fn tasks_that_are_to_go_count_until_they_are_gone() {
    let rig = Rig::start();
    rig.create("/slow", 3, |app| {
        app["cmd"] = json!("trap '' TERM; touch ready; while true; do sleep 0.1; done");
        app["taskKillGracePeriodSeconds"] = json!(2);
    });
    rig.wait_for_running("/slow", 3);
    // What is not ready yet would heed the signal.
    let framework = rig.marathon.get("/v2/info").unwrap()["frameworkId"].as_str().unwrap().to_owned();
    for task in rig.tasks("/slow") {
        wait(|| {
            let mut sandboxes = rig.cluster.agents().filter_map(|agent| agent.sandbox(&framework, &task).ok());
            sandboxes.any(|sandbox| sandbox.join("ready").exists()).then_some(()).ok_or_else(|| format!("{task} is not ready"))
        });
    }
    let before = rig.tasks("/slow");
    assert_eq!(rig.scale("/slow", 1).0, 200);
    assert_eq!(rig.app("/slow")["tasksRunning"], 3);
    // All three are counted, so there is nothing to be done; the missing ones come when the others have gone.
    let mut events = rig.events("");
    let (status, forced) = rig.put("/v2/apps/slow?force=true", &json!({ "instances": 3 }));
    assert_eq!(status, 200);
    let all = events.until_so(|kind, data| kind == "deployment_success" && data["id"] == forced["deploymentId"]);
    assert!(!kinds(&all).contains(&"TASK_KILLED".to_owned()), "{:?}", kinds(&all));
    wait(|| {
        let tasks = rig.tasks("/slow");
        let new = tasks.iter().filter(|task| !before.contains(task)).count();
        (tasks.len() == 3 && new == 2).then_some(()).ok_or_else(|| format!("{tasks:?}"))
    });
}
