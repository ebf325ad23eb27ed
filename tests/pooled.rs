//! Pooled apps, images and probes, with the whole program on a real Mesos.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeSet;

use microscaler_testbed::{BUSYBOX, Cluster, Docker, Feature, busybox_image, can_or_skip};
use support::pooled::{PROGRAM, agent, cluster_of, executor_pids, executors, kill, pooled};
use support::{PUSHED, REMAINDER, SLOT, Scaler, app, running, wait_for};

fn pool(mesos: &Cluster, more: &str) -> String {
    support::pooled::pool(mesos, PROGRAM, more)
}

fn at_once(spec: &str) -> String {
    format!("behavior: {{scaleDown: {{stabilizationWindowMilliseconds: 0}}}}\n{spec}")
}

fn condition(scaler: &Scaler, name: &str, kind: &str) -> Option<(String, String)> {
    let conditions = scaler.app(name)?.status?.conditions;
    conditions.into_iter().find(|condition| condition.type_ == kind).map(|condition| (condition.status, condition.message))
}

#[test]
fn replicas_of_pooled_apps_share_an_executor_on_each_agent() {
    let mesos = cluster_of(vec![agent(), agent()]);
    let pool = pool(&mesos, "    executorIdleSeconds: 1\n");
    let scaler = Scaler::start(
        &mesos,
        &[("pool.yaml", &pool), ("web.yaml", &pooled("web", &at_once(PUSHED))), ("jobs.yaml", &pooled("jobs", "replicas: 2"))],
    );
    scaler.push("web", "load", 0.0);
    scaler.settle(&mesos, &[("web", 0), ("jobs", 2)]);
    scaler.wait("executors on both agents, before they are needed", || executors(&mesos).len() == 2);
    scaler.push("web", "load", 120.0);
    scaler.settle(&mesos, &[("web", 12), ("jobs", 2)]);
    assert_eq!(executors(&mesos).len(), 2, "both apps use the same");
    assert_eq!(executor_pids(&mesos).len(), 2);
    scaler.push("web", "load", 0.0);
    scaler.settle(&mesos, &[("web", 0), ("jobs", 2)]);
    assert_eq!(executors(&mesos).len(), 2, "they are kept for the next rush");
    scaler.remove("web.yaml");
    scaler.remove("jobs.yaml");
    scaler.wait("executors to go with their last app", || executors(&mesos).is_empty() && executor_pids(&mesos).is_empty());
    assert_eq!(mesos.processes().len(), 0);
}

#[test]
fn a_full_pool_makes_room_for_executors_and_then_swaps() {
    let mesos = cluster_of(vec![agent().resources("cpus:4;mem:4096;ports:[31000-31999]"), agent()]);
    let rest = support::sleeper("rest", &format!("priority: 5\n{REMAINDER}"));
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool(&mesos, "")), ("rest.yaml", &rest)]);
    scaler.settle(&mesos, &[("rest", 16)]);
    scaler.write("web.yaml", &pooled("web", &at_once(&format!("priority: 1\n{PUSHED}"))));
    scaler.push("web", "load", 0.0);
    scaler.wait("executors on both agents", || executors(&mesos).len() == 2);
    // The first agent has room for eight tasks and nothing else.
    scaler.settle(&mesos, &[("web", 0), ("rest", 15)]);
    scaler.push("web", "load", 60.0);
    scaler.settle(&mesos, &[("web", 6), ("rest", 9)]);
    scaler.push("web", "load", 0.0);
    scaler.settle(&mesos, &[("web", 0), ("rest", 15)]);
}

#[test]
fn an_executor_that_dies_takes_its_replicas_along_and_all_is_made_anew() {
    let mesos = cluster_of(vec![agent()]);
    let manifests = [("pool.yaml", &*pool(&mesos, "")), ("web.yaml", &*pooled("web", "replicas: 8"))];
    let scaler = Scaler::start(&mesos, &manifests);
    scaler.settle(&mesos, &[("web", 8)]);
    let before: BTreeSet<String> = running(&mesos, "web").into_iter().collect();
    let [pid] = executor_pids(&mesos)[..] else { panic!("one executor") };
    kill(pid);
    scaler.wait("other tasks in place of those", || {
        let reason = scaler.reason("web");
        assert!(!reason.contains("no agent meets"), "the agent has lost them all at once, and is not to blame: {reason}");
        let now = running(&mesos, "web");
        now.len() == 8 && now.iter().all(|task| !before.contains(task))
    });
    scaler.settle(&mesos, &[("web", 8)]);
    assert_eq!(mesos.processes().len(), 8, "nothing is left of the old ones");
    let ended = mesos.tasks().unwrap().into_iter().find(|task| before.contains(&task.id)).unwrap();
    assert_eq!(ended.state, "TASK_FAILED");
    assert!(!scaler.reason("web").contains("crash"), "no fault of theirs: {}", scaler.reason("web"));
}

#[test]
fn a_restart_of_microscaler_or_of_the_agent_ends_nothing() {
    let mesos = cluster_of(vec![agent()]);
    let manifests = [("pool.yaml", &*pool(&mesos, "")), ("web.yaml", &*pooled("web", &at_once(PUSHED)))];
    let mut scaler = Scaler::start(&mesos, &manifests);
    scaler.push("web", "load", 40.0);
    scaler.settle(&mesos, &[("web", 4)]);
    let before = running(&mesos, "web");
    scaler.kill();
    scaler.run();
    scaler.push("web", "load", 40.0);
    scaler.settle(&mesos, &[("web", 4)]);
    assert_eq!(running(&mesos, "web"), before);
    mesos.agent(0).kill();
    mesos.agent(0).start().unwrap();
    mesos.wait_until_ready(support::PATIENCE).unwrap();
    scaler.push("web", "load", 60.0);
    scaler.settle(&mesos, &[("web", 6)]);
    let now = running(&mesos, "web");
    assert!(before.iter().all(|task| now.contains(task)), "{before:?} {now:?}");
    assert_eq!(executors(&mesos).len(), 1, "the new ones run in the executor that was there");
}

#[test]
fn an_executor_that_cannot_start_is_told() {
    let mesos = cluster_of(vec![agent()]);
    let pool = support::pooled::pool(&mesos, "/no/such/microscaler", "");
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("web.yaml", &pooled("web", "replicas: 1"))]);
    scaler.wait("the reason", || scaler.reason("web").contains("executor"));
    assert_eq!(running(&mesos, "web").len(), 0);
    scaler.write("pool.yaml", &self::pool(&mesos, ""));
    scaler.settle(&mesos, &[("web", 1)]);
}

#[test]
fn memory_is_held_where_agents_allow_it_and_else_it_is_said() {
    if !can_or_skip(Feature::Limits, "memory_is_held_where_agents_allow_it_and_else_it_is_said") {
        return;
    }
    let mesos = cluster_of(vec![agent().linux()]);
    let hog = app(
        "hog",
        "replicas: 1",
        SLOT,
        "launch: pooled\nshell: 'exec /usr/bin/python3 -c \"import time; x = bytearray(200 << 20); time.sleep(1000)\"'",
    );
    let manifests = [("pool.yaml", &*pool(&mesos, "")), ("web.yaml", &*pooled("web", "replicas: 2")), ("hog.yaml", &*hog)];
    let scaler = Scaler::start(&mesos, &manifests);
    scaler.wait("the hog to be told of", || scaler.reason("hog").contains("emory"));
    let web = running(&mesos, "web");
    assert_eq!(web.len(), 2, "its neighbours live");
    scaler.wait("the condition", || condition(&scaler, "web", "LimitsEnforced").is_some_and(|(status, _)| status == "True"));
    assert_eq!(running(&mesos, "web"), web);
    drop(scaler);

    let mesos = cluster_of(vec![agent()]);
    let manifests = [("pool.yaml", &*pool(&mesos, "")), ("web.yaml", &*pooled("web", "replicas: 1"))];
    let scaler = Scaler::start(&mesos, &manifests);
    scaler.wait("the condition", || condition(&scaler, "web", "LimitsEnforced").is_some_and(|(status, _)| status == "False"));
    let (_, message) = condition(&scaler, "web", "LimitsEnforced").unwrap();
    assert!(message.contains("1 of 1 agents"), "{message}");
}

/// The image is a busybox; the program under test is not static, and finds its libraries in volumes.
const LIBRARIES: &str = "volumes:\n- {hostPath: /lib, mountPath: /lib, readOnly: true}\n- {hostPath: /lib64, mountPath: /lib64, readOnly: true}\n\
                         - {hostPath: /usr/lib, mountPath: /usr/lib, readOnly: true}";

#[test]
fn pooled_replicas_run_in_their_image() {
    if !can_or_skip(Feature::Images, "pooled_replicas_run_in_their_image") {
        return;
    }
    let images = tempfile::tempdir().unwrap();
    busybox_image(images.path()).unwrap();
    let mesos = cluster_of(vec![agent().images(images.path())]);
    let template = |launch: &str, volumes: &str| {
        // Only the image has no /usr/share.
        let line = "shell: test ! -e /usr/share && exec /bin/sleep 100000";
        format!("launch: {launch}\nimage: {BUSYBOX}\n{volumes}\n{line}")
    };
    let web = app("web", &at_once(PUSHED), SLOT, &template("pooled", LIBRARIES));
    let batch = app("batch", "replicas: 1", SLOT, &template("isolated", "prefetch: true"));
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &*pool(&mesos, "")), ("web.yaml", &*web), ("batch.yaml", &*batch)]);
    scaler.push("web", "load", 30.0);
    scaler.settle(&mesos, &[("web", 3), ("batch", 1)]);
    assert_eq!(executor_pids(&mesos).len(), 1);
    scaler.push("web", "load", 0.0);
    scaler.settle(&mesos, &[("web", 0), ("batch", 1)]);
}

#[test]
fn replicas_run_in_docker() {
    if !can_or_skip(Feature::Docker, "replicas_run_in_docker") {
        return;
    }
    let docker = Docker::start().unwrap();
    let mesos = cluster_of(vec![agent().docker(&docker)]);
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("alive"), "").unwrap();
    let template = format!(
        "image: {BUSYBOX}\ncontainerizer: docker\nprefetch: true\nworkingDirectory: /data\n\
         volumes: [{{hostPath: {}, mountPath: /data, readOnly: true}}]\n\
         shell: test ! -e /usr/lib && test -e alive && exec sleep 100000\n\
         liveness: {{exec: {{command: [test, -e, /data/alive]}}, periodMilliseconds: 200, failureThreshold: 2}}",
        data.path().display()
    );
    let web = app("web", "replicas: 2", SLOT, &template);
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &*pool(&mesos, "")), ("web.yaml", &*web)]);
    scaler.settle(&mesos, &[("web", 2)]);
    scaler.wait("two containers", || docker.containers().unwrap().len() == 2);
    std::fs::remove_file(data.path().join("alive")).unwrap();
    scaler.wait("the end of what is not alive to be told", || {
        scaler.reason("web").contains("crash") || scaler.reason("web").contains("failed")
    });
}

/// Both ways of launching: ready is what its readiness says, at once and only then.
#[test]
fn replicas_are_ready_when_their_readiness_says_so() {
    let mesos = cluster_of(vec![agent()]);
    let flags = tempfile::tempdir().unwrap();
    let template = |launch: &str| {
        format!(
            "launch: {launch}\nshell: exec sleep 100000\n\
             readiness: {{exec: {{command: [test, -e, {}/{launch}]}}, periodMilliseconds: 50}}",
            flags.path().display()
        )
    };
    let apps = ["pooled", "isolated"].map(|launch| (launch, app(launch, "replicas: 2", SLOT, &template(launch))));
    let manifests = [("pool.yaml", &*pool(&mesos, "")), ("a.yaml", &*apps[0].1), ("b.yaml", &*apps[1].1)];
    let scaler = Scaler::start(&mesos, &manifests);
    scaler.settle(&mesos, &[("pooled", 2), ("isolated", 2)]);
    let ready = |name: &str| scaler.app(name).and_then(|app| app.status).map(|status| status.ready);
    for (launch, _) in &apps {
        assert_eq!(ready(launch), Some(0), "{launch}");
        let flag = flags.path().join(launch);
        std::fs::write(&flag, "").unwrap();
        scaler.wait("readiness", || ready(launch) == Some(2));
        std::fs::remove_file(&flag).unwrap();
        scaler.wait("the loss of readiness", || ready(launch) == Some(0));
    }
    assert_eq!(running(&mesos, "pooled").len() + running(&mesos, "isolated").len(), 4, "readiness ends nothing");
}

#[test]
fn what_does_not_live_is_replaced() {
    let mesos = cluster_of(vec![agent()]);
    let flags = tempfile::tempdir().unwrap();
    let template = |launch: &str| {
        format!(
            "launch: {launch}\nshell: exec sleep 100000\n\
             liveness: {{exec: {{command: [test, '!', -e, {}/{launch}]}}, periodMilliseconds: 50, failureThreshold: 2}}",
            flags.path().display()
        )
    };
    let apps = ["pooled", "isolated"].map(|launch| (launch, app(launch, "replicas: 1", SLOT, &template(launch))));
    let manifests = [("pool.yaml", &*pool(&mesos, "")), ("a.yaml", &*apps[0].1), ("b.yaml", &*apps[1].1)];
    let scaler = Scaler::start(&mesos, &manifests);
    scaler.settle(&mesos, &[("pooled", 1), ("isolated", 1)]);
    for (launch, _) in &apps {
        let before = running(&mesos, launch);
        let flag = flags.path().join(launch);
        std::fs::write(&flag, "").unwrap();
        wait_for("the end of what does not live", || {
            running(&mesos, launch).iter().all(|task| !before.contains(task)).then_some(())
        });
        std::fs::remove_file(&flag).unwrap();
        scaler.wait("another in its place", || {
            let now = running(&mesos, launch);
            now.len() == 1 && now != before
        });
    }
}
