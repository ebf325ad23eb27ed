//! Microscaler on a Marathon: the testbed's server, which is held to recordings of a real one, with real tasks on a real Mesos.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::marathon::{Bed, adopted};
use support::{PUSHED, REMAINDER, microscaler, sleeper, wait_for};

fn nothing() -> Value {
    Value::Null
}

/// An adopted app with pushed demand.
fn pushed(name: &str, id: &str, more: &str) -> String {
    adopted(name, id, &format!("{more}\n{PUSHED}\nbehavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}"))
}

/// Looks again and again for so long that nothing changes.
fn stays(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert!(holds(), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_adopted_app_follows_demand() {
    let mut bed = Bed::new(2);
    bed.make("/shop/web", 2, &json!({"labels": {"team": "shop"}}));
    bed.scale(&[("web", &pushed("web", "/shop/web", ""))]);
    bed.settle(&[("web", "/shop/web", 2)]);
    let before = bed.app("/shop/web").unwrap();
    assert_eq!(bed.sent("SCALE"), 0, "what is there is left as it is while nothing is known");
    bed.scaler().push("web", "load", 100.0);
    bed.settle(&[("web", "/shop/web", 10)]);
    bed.scaler().push("web", "load", 25.0);
    bed.settle(&[("web", "/shop/web", 3)]);
    let after = bed.app("/shop/web").unwrap();
    for field in ["cmd", "cpus", "mem", "labels", "upgradeStrategy", "killSelection", "portDefinitions", "backoffSeconds"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(before["versionInfo"]["lastConfigChangeAt"], after["versionInfo"]["lastConfigChangeAt"]);
    let pool = bed.scaler().get("/v1/pools").unwrap()["items"][0]["status"].clone();
    assert!(pool["medianLaunchMilliseconds"].as_f64().unwrap() > 0.0, "{pool}");
    assert_eq!(pool["agents"], json!(2));
}

#[test]
fn important_work_takes_its_room_from_what_fills_the_rest() {
    let mut bed = Bed::new(2);
    bed.make("/web", 1, &nothing());
    bed.make("/low", 1, &json!({"taskKillGracePeriodSeconds": 0}));
    bed.scale(&[("web", &pushed("web", "/web", "priority: 1"))]);
    bed.scaler().push("web", "load", 20.0);
    bed.settle(&[("web", "/web", 2)]);
    // Not before: an instance for which there is no room any more could not be taken back.
    bed.scaler().write("low.yaml", &adopted("low", "/low", REMAINDER));
    bed.settle(&[("web", "/web", 2), ("low", "/low", 14)]);
    let sent = bed.sent("SCALE");
    bed.scaler().push("web", "load", 100.0);
    bed.settle(&[("web", "/web", 10), ("low", "/low", 6)]);
    assert_eq!(bed.sent("SCALE") - sent, 1, "the whole swap is one request");
    bed.scaler().push("web", "load", 10.0);
    bed.settle(&[("web", "/web", 1), ("low", "/low", 15)]);
}

#[test]
fn an_app_of_ours_is_made_rolled_over_and_deleted() {
    let mut bed = Bed::new(1);
    bed.scale(&[("web", &sleeper("web", "replicas: 2"))]);
    bed.settle(&[("web", "/default/web", 2)]);
    let first = bed.running("/default/web");
    let changed = sleeper("web", "replicas: 2").replace("sleep 100000", "sleep 200000");
    bed.scaler().write("web.yaml", &changed);
    bed.scaler().wait("the new template", || {
        let running = bed.running("/default/web");
        running.len() == 2 && running.is_disjoint(&first)
    });
    bed.settle(&[("web", "/default/web", 2)]);
    assert!(bed.app("/default/web").unwrap()["cmd"].as_str().unwrap().contains("200000"));
    bed.scaler().remove("web.yaml");
    bed.scaler().wait("the end", || bed.app("/default/web").is_none() && bed.running("/default/web").is_empty());
}

#[test]
fn what_ends_is_replaced_and_what_a_person_changes_is_put_back() {
    let mut bed = Bed::new(2);
    bed.make("/web", 3, &nothing());
    bed.make("/shy", 2, &nothing());
    let shy = adopted("shy", "/shy", "replicas: 2\nmarathon: {onConflict: Yield}");
    bed.scale(&[("web", &adopted("web", "/web", "replicas: 3")), ("shy", &shy)]);
    bed.settle(&[("web", "/web", 3), ("shy", "/shy", 2)]);
    let before = bed.running("/web");
    bed.marathon.send("DELETE", &format!("/v2/apps/web/tasks/{}", before.first().unwrap()), &nothing()).unwrap();
    bed.scaler().wait("another", || bed.running("/web").len() == 3 && bed.running("/web") != before);
    bed.settle(&[("web", "/web", 3)]);
    bed.set("/web", 1);
    bed.settle(&[("web", "/web", 3)]);
    bed.set("/web", 5);
    bed.settle(&[("web", "/web", 3)]);
    bed.set("/shy", 4);
    bed.settle(&[("shy", "/shy", 2)]);
    bed.set("/shy", 3);
    bed.scaler().wait("it to yield", || bed.scaler().reason("shy").contains("left alone"));
    bed.wait_running("/shy", 3);
    stays("a person's number", || bed.instances("/shy") == Some(3));
}

#[test]
fn an_app_whose_spec_is_gone_is_left_as_it_is_and_one_that_is_not_there_is_told() {
    let mut bed = Bed::new(1);
    bed.make("/web", 2, &nothing());
    bed.scale(&[("web", &adopted("web", "/web", "replicas: 2")), ("none", &adopted("none", "/none", ""))]);
    bed.settle(&[("web", "/web", 2)]);
    bed.scaler().wait("the word", || bed.scaler().reason("none").contains("there is no app /none in Marathon"));
    bed.scaler().remove("web.yaml");
    bed.scaler().wait("to forget it", || bed.scaler().app("web").is_none());
    stays("its instances", || bed.instances("/web") == Some(2) && bed.running("/web").len() == 2);
    bed.make("/none", 1, &nothing());
    bed.settle(&[("none", "/none", 1)]);
}

#[test]
fn a_restart_of_ours_changes_nothing() {
    let mut bed = Bed::new(2);
    bed.make("/web", 1, &nothing());
    let apps = [("web", pushed("web", "/web", "")), ("own", sleeper("own", "replicas: 3"))];
    bed.scale(&apps.each_ref().map(|(name, text)| (*name, text.as_str())));
    bed.scaler().push("web", "load", 40.0);
    bed.settle(&[("web", "/web", 4), ("own", "/default/own", 3)]);
    let seen = |bed: &Bed| ["/web", "/default/own"].map(|id| (bed.running(id), bed.app(id).unwrap()["version"].clone()));
    let before = seen(&bed);
    let scaler = bed.scaler.as_mut().unwrap();
    scaler.kill();
    scaler.run();
    bed.settle(&[("web", "/web", 4), ("own", "/default/own", 3)]);
    stays("all of it", || seen(&bed) == before);
    assert_eq!(["SCALE", "SHRINK", "CREATE", "UPDATE", "DELETE"].map(|kind| bed.sent(kind)), [0; 5]);
    bed.scaler().push("web", "load", 50.0);
    bed.settle(&[("web", "/web", 5)]);
}

#[test]
fn a_marathon_that_goes_and_comes_back_is_read_anew() {
    let mut bed = Bed::new(2);
    bed.make("/web", 2, &nothing());
    bed.scale(&[("web", &pushed("web", "/web", ""))]);
    bed.scaler().push("web", "load", 30.0);
    bed.settle(&[("web", "/web", 3)]);
    bed.marathon.fault(&json!({"drop_events": true})).unwrap();
    bed.scaler().push("web", "load", 40.0);
    bed.settle(&[("web", "/web", 4)]);
    bed.marathon.kill();
    bed.scaler().wait("to notice", || bed.scaler().reason("web").contains("no orders can be given"));
    bed.scaler().push("web", "load", 60.0);
    stays("all that ran", || bed.running("/web").len() == 4 && bed.scaler().counts("web").is_some_and(|counts| counts.1 == 4));
    bed.marathon.start().unwrap();
    bed.settle(&[("web", "/web", 6)]);
}

#[test]
fn another_leader_is_followed() {
    let mut bed = Bed::with(2, |builder| builder.processes(2));
    bed.make("/web", 2, &nothing());
    bed.scale(&[("web", &pushed("web", "/web", ""))]);
    bed.scaler().push("web", "load", 30.0);
    bed.settle(&[("web", "/web", 3)]);
    bed.marathon.process(0).kill();
    bed.scaler().push("web", "load", 50.0);
    wait_for("the standby to lead", || {
        let answer = bed.marathon.ask(1, "GET", "/v2/apps/web", None).ok()?;
        let app: Value = serde_json::from_slice(&answer.body).ok()?;
        (app["app"]["instances"] == json!(5)).then_some(())
    });
    bed.wait_running("/web", 5);
}

#[test]
fn answers_that_are_lost_or_late_lead_to_nothing_done_twice() {
    let mut bed = Bed::new(2);
    bed.make("/web", 1, &nothing());
    bed.scale(&[("web", &pushed("web", "/web", ""))]);
    bed.settle(&[("web", "/web", 1)]);
    bed.marathon.fault(&json!({"fail_after_apply": 1})).unwrap();
    bed.scaler().push("web", "load", 40.0);
    bed.settle(&[("web", "/web", 4)]);
    assert_eq!(bed.sent("SCALE"), 1, "it was carried out, though the answer was 503");
    bed.marathon.fault(&json!({"delay": 400})).unwrap();
    bed.scaler().push("web", "load", 60.0);
    bed.scaler().push("web", "load", 70.0);
    bed.settle(&[("web", "/web", 7)]);
    bed.marathon.fault(&json!({"delay": 0, "refuse": 1500})).unwrap();
    bed.scaler().push("web", "load", 50.0);
    bed.settle(&[("web", "/web", 5)]);
}

#[test]
fn replicas_without_a_place_cost_no_running_ones() {
    let mut bed = Bed::new(1);
    bed.make("/web", 2, &nothing());
    let pool = "  limits: {cpu: 100}\n";
    let capacity = "    capacity: {instances: 20}\n";
    // Told of more room than there is, so that some cannot be placed.
    let urls = bed.marathon.urls();
    let text = format!(
        "apiVersion: microscaling.dev/v1alpha1\nkind: MicroscalingPool\nmetadata: {{name: default}}\nspec:\n  marathon:\n    urls: \
         {urls:?}\n{capacity}{pool}"
    );
    let web = pushed("web", "/web", "");
    bed.scaler = Some(support::Scaler::start(&bed.cluster, &[("pool.yaml", &text), ("web.yaml", &web)]));
    bed.scaler().push("web", "load", 110.0);
    bed.wait_running("/web", 8);
    bed.scaler().wait("a word of it", || bed.scaler().reason("web").contains("finds no place for them (InsufficientCpus)"));
    let eight = bed.running("/web");
    bed.scaler().push("web", "load", 80.0);
    bed.scaler().wait("three fewer", || bed.scaler().counts("web") == Some((8, 8, 0)));
    stays("the eight that run", || bed.running("/web") == eight);
    bed.scaler().push("web", "load", 50.0);
    bed.scaler().wait("five", || bed.running("/web").len() == 5);
    // Those that waited find their places now, and end again. The five go on.
    let five = bed.running("/web");
    bed.settle(&[("web", "/web", 5)]);
    assert_eq!(five.intersection(&bed.running("/web")).count(), 5);
}

#[test]
fn an_app_chooses_the_least_lost_work() {
    let mut bed = Bed::new(1);
    bed.make("/web", 2, &json!({"killSelection": "OLDEST_FIRST"}));
    let web = pushed("web", "/web", "marathon: {victims: LeastLostWork}");
    bed.scale(&[("web", &web)]);
    bed.scaler().push("web", "load", 20.0);
    bed.settle(&[("web", "/web", 2)]);
    let old = bed.running("/web");
    bed.scaler().push("web", "load", 40.0);
    bed.settle(&[("web", "/web", 4)]);
    bed.scaler().push("web", "load", 20.0);
    bed.settle(&[("web", "/web", 2)]);
    assert_eq!(bed.running("/web"), old, "those that had run longest went on, whatever killSelection says");
}

#[test]
fn a_lock_of_others_does_not_keep_us_out() {
    let mut bed = Bed::new(1);
    bed.make("/web", 1, &nothing());
    bed.scale(&[("web", &pushed("web", "/web", ""))]);
    bed.settle(&[("web", "/web", 1)]);
    // A deployment that never ends: there is no room for so much.
    bed.set("/web", 30);
    bed.scaler().push("web", "load", 30.0);
    bed.scaler()
        .wait("three", || bed.scaler().counts("web").is_some_and(|counts| counts.0 == 3) && bed.running("/web").len() == 3);
    stays("three", || (3..=4).contains(&bed.running("/web").len()));
}

#[test]
fn flags_that_cost_time_are_named() {
    let mut bed = Bed::with(1, |builder| builder.flag("min_revive_offers_interval", "5000"));
    bed.scale(&[("own", &sleeper("own", "replicas: 1"))]);
    bed.settle(&[("own", "/default/own", 1)]);
    let (said, status) = bed.pool_condition("Tuned").unwrap();
    assert!(status == "False" && said.contains("--min_revive_offers_interval is 5000"), "{status} {said}");
}

#[test]
fn credentials_are_sent() {
    let mut bed = Bed::with(1, |builder| builder.auth("scaler", "secret"));
    bed.scale(&[]);
    bed.scaler().wait("to be refused", || bed.pool_condition("Connected").is_some_and(|(said, _)| said.contains("401")));
    bed.scaler = None;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "secret\n").unwrap();
    let auth = format!("    auth: {{basic: {{username: scaler, password: {{file: {:?}}}}}}}\n", password.path());
    bed.scale_with(&auth, &[("own", &sleeper("own", "replicas: 1"))]);
    bed.settle(&[("own", "/default/own", 1)]);
}

#[test]
fn a_plan_is_rehearsed_and_a_pool_drained() {
    let mut bed = Bed::new(1);
    bed.make("/web", 2, &nothing());
    bed.scale(&[("web", &pushed("web", "/web", ""))]);
    bed.settle(&[("web", "/web", 2)]);
    let manifests = bed.scaler().manifests();
    let (code, said, errors) = microscaler(&["plan", "-f", manifests.to_str().unwrap(), "--demand", "default/web.load=40"]);
    assert!(code == 0 && said.contains("2 x start default/web"), "{said}{errors}");
    assert_eq!(bed.instances("/web"), Some(2));
    let (code, said, errors) = microscaler(&["drain", "default/default", "--server", bed.scaler().url()]);
    assert_eq!(code, 0, "{said}{errors}");
    assert_eq!((bed.instances("/web"), bed.running("/web").len()), (Some(0), 0));
}

#[test]
fn an_adopted_app_is_drained_by_its_manifest_where_no_microscaler_runs() {
    let mut bed = Bed::new(1);
    bed.make("/web", 2, &nothing());
    bed.make("/other", 1, &nothing());
    bed.scale(&[("web", &pushed("web", "/web", ""))]);
    bed.settle(&[("web", "/web", 2)]);
    let scaler = bed.scaler();
    let paths = [scaler.manifests(), scaler.state_dir()].map(|path| path.display().to_string());
    assert!(bed.scaler.as_mut().unwrap().stop().success());
    let (code, said, errors) = microscaler(&["drain", "--manifests", &paths[0], "--state-dir", &paths[1]]);
    assert_eq!(code, 0, "{said}{errors}");
    assert_eq!((bed.instances("/web"), bed.instances("/other")), (Some(0), Some(1)), "what is not ours goes on");
}

#[test]
fn a_marathon_that_does_not_answer_is_waited_for() {
    let mut bed = Bed::new(2);
    bed.make("/web", 1, &nothing());
    bed.scale(&[("web", &pushed("web", "/web", ""))]);
    bed.settle(&[("web", "/web", 1)]);
    bed.marathon.stop().unwrap();
    bed.scaler().push("web", "load", 40.0);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(bed.running("/web").len(), 1);
    bed.marathon.resume().unwrap();
    bed.settle(&[("web", "/web", 4)]);
}

#[test]
fn a_deployment_that_force_has_cancelled_for_its_neighbour_is_seen_to() {
    let mut bed = Bed::new(1);
    bed.make("/web", 1, &nothing());
    bed.make("/low", 1, &json!({"cpus": 3.0}));
    bed.scale(&[("web", &pushed("web", "/web", "")), ("low", &pushed("low", "/low", ""))]);
    bed.settle(&[("web", "/web", 1), ("low", "/low", 1)]);
    // Both in one deployment of a person's, of which one part never ends.
    let both = json!([{"id": "/web", "instances": 2}, {"id": "/low", "instances": 3}]);
    assert_eq!(bed.marathon.send("PATCH", "/v2/apps?force=true", &both).unwrap().0, 200);
    bed.scaler().push("web", "load", 20.0);
    bed.scaler().push("low", "load", 0.0);
    bed.settle(&[("web", "/web", 2), ("low", "/low", 0)]);
    bed.scaler().push("web", "load", 60.0);
    bed.settle(&[("web", "/web", 6), ("low", "/low", 0)]);
}

#[test]
fn a_crash_loop_is_told_and_a_new_wish_ends_its_delay() {
    let mut bed = Bed::new(1);
    let file = tempfile::NamedTempFile::new().unwrap();
    let shell = format!("test -s {} && exec sleep 100000; exit 3", file.path().display());
    let app = support::app("web", &format!("{PUSHED}\nminReplicas: 1"), support::SLOT, &format!("shell: {shell}"));
    bed.scale(&[("web", &app)]);
    bed.scaler().push("web", "load", 10.0);
    bed.scaler().wait("failures", || bed.scaler().reason("web").contains(" failed "));
    std::fs::write(file.path(), "good").unwrap();
    bed.scaler().push("web", "load", 30.0);
    bed.settle(&[("web", "/default/web", 3)]);
}

#[test]
fn health_checks_tell_who_is_ready() {
    let mut bed = Bed::new(1);
    let file = tempfile::NamedTempFile::new().unwrap();
    let probe = format!("shell: exec sleep 100000\nreadiness: {{exec: {{command: [test, -s, {}]}}}}", file.path().display());
    bed.scale(&[("web", &support::app("web", "replicas: 2", support::SLOT, &probe))]);
    bed.wait_running("/default/web", 2);
    let ready = || bed.scaler().app("web").and_then(|app| app.status).map(|status| (status.running, status.ready));
    bed.scaler().wait("two that run", || ready() == Some((2, 0)));
    std::fs::write(file.path(), "ready").unwrap();
    bed.scaler().wait("two that are ready", || ready() == Some((2, 2)));
}
