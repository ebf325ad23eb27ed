//! Demand that is what an app's own tasks use, as the agents of a real Mesos measure it.
#![allow(clippy::unwrap_used)]

mod support;

use microscaler::api::status::DemandStatus;
use microscaler_testbed::{Agent, Cluster, Feature, can_or_skip};
use support::pooled::{PROGRAM, pool};
use support::{SLOT, Scaler, app, cluster, running, sleeper};

/// Uses a part of a core.
const BURNS: &str = "shell: 'while :; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.05; done'";

fn measured(resource: &str, unit: &str, target: &str) -> String {
    format!(
        "minReplicas: 1\nmaxReplicas: 3\ndemand:\n- {{name: use, target: {{{target}}}, mesos: {{resource: {resource}, unit: {unit}, \
         pollMilliseconds: 50, timeoutMilliseconds: 5000}}}}"
    )
}

fn demand(scaler: &Scaler, app: &str) -> Option<DemandStatus> {
    scaler.app(app)?.status?.demand.into_iter().next()
}

fn value(scaler: &Scaler, app: &str) -> Option<f64> {
    demand(scaler, app)?.value
}

fn failure(scaler: &Scaler, app: &str) -> String {
    demand(scaler, app).and_then(|demand| demand.message).unwrap_or_default()
}

#[test]
fn what_tasks_use_drives_their_number() {
    let mesos = cluster(2);
    let burner = app("burner", &measured("cpu", "Amount", "averageValue: 10m"), SLOT, BURNS);
    let busy = app("busy", &measured("cpu", "Percent", "value: 10000"), SLOT, BURNS);
    let idle = sleeper("idle", &measured("cpu", "Amount", "averageValue: 1"));
    let fat = sleeper("fat", &measured("memory", "Amount", "averageValue: 1Gi"));
    let manifests = [("burner.yaml", &*burner), ("busy.yaml", &busy), ("idle.yaml", &idle), ("fat.yaml", &fat)];
    let scaler = Scaler::start(&mesos, &manifests);
    // Each has more than one replica's worth, whatever it comes to on a machine that is busy.
    scaler.settle(&mesos, &[("burner", 3), ("busy", 1), ("idle", 1), ("fat", 1)]);
    scaler.wait("the usage of each", || ["burner", "busy", "idle", "fat"].iter().all(|app| value(&scaler, app).is_some()));
    scaler.wait("percent of half a core", || value(&scaler, "busy").is_some_and(|percent| percent > 2.0));
    scaler.wait("one that sleeps to be idle", || value(&scaler, "idle").is_some_and(|cores| cores < 0.01));
    let bytes = value(&scaler, "fat").unwrap();
    assert!((100_000.0..1e9).contains(&bytes), "a shell has {bytes} bytes");
}

#[test]
fn an_agent_that_is_silent_is_no_sign_of_idleness() {
    let mesos = cluster(1);
    let scaler =
        Scaler::start(&mesos, &[("burner.yaml", &app("burner", &measured("cpu", "Amount", "averageValue: 10m"), SLOT, BURNS))]);
    scaler.settle(&mesos, &[("burner", 3)]);
    let before = running(&mesos, "burner");
    mesos.agent(0).kill();
    scaler.wait("the failure to be told", || failure(&scaler, "burner").contains("/containers"));
    assert!(value(&scaler, "burner").is_some_and(|cores| cores > 0.0), "the value was lost");
    mesos.agent(0).start().unwrap();
    scaler.wait("the agent to be read again", || failure(&scaler, "burner").is_empty());
    assert_eq!(running(&mesos, "burner"), before, "its tasks have outlived it");
}

#[test]
fn an_agent_that_wants_credentials_gets_those_of_the_pool() {
    let dir = tempfile::tempdir().unwrap();
    let (known, secret) = (dir.path().join("known"), dir.path().join("secret"));
    std::fs::write(&known, r#"{"credentials": [{"principal": "shop", "secret": "right"}]}"#).unwrap();
    std::fs::write(&secret, "wrong").unwrap();
    let agent = Agent::default().resources("cpus:4;mem:4096;disk:4096;ports:[31000-31999]");
    let agent = agent.flag("authenticate_http_readonly", "true").flag("http_credentials", format!("file://{}", known.display()));
    let mesos = Cluster::builder().agent(agent).start().unwrap();
    let credentials = format!(", principal: shop, secretFile: {}", secret.display());
    let pool = support::place::pool_with("default", "default", &mesos, &credentials, "");
    let burner = app("burner", &measured("cpu", "Amount", "averageValue: 10m"), SLOT, BURNS);
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("burner.yaml", &burner)]);
    scaler.wait("the refusal to be told", || failure(&scaler, "burner").contains("401"));
    assert_eq!(running(&mesos, "burner").len(), 1, "the minimum runs all the same");
    std::fs::write(&secret, "right").unwrap();
    scaler.settle(&mesos, &[("burner", 3)]);
    std::fs::write(&secret, "wrong").unwrap();
    scaler.wait("the new secret to be read", || failure(&scaler, "burner").contains("401"));
}

#[test]
fn what_is_not_measured_is_said() {
    let mesos = cluster(1);
    let throttled = sleeper("throttled", &measured("throttling", "Percent", "value: 10"));
    let pooled = app("pooled", &measured("cpu", "Amount", "averageValue: 1"), SLOT, "launch: pooled\nshell: exec sleep 100000");
    let scaler = Scaler::start(
        &mesos,
        &[("pool.yaml", &pool(&mesos, PROGRAM, "")), ("throttled.yaml", &throttled), ("pooled.yaml", &pooled)],
    );
    scaler.wait("what the isolation does not measure", || {
        failure(&scaler, "throttled")
            == "the agents do not measure throttling of containers: they need --isolation=cgroups/cpu and --cgroups_enable_cfs"
    });
    scaler.wait("what pooled tasks have in common", || {
        failure(&scaler, "pooled") == "what pooled tasks use is not known, as they share a container: use launch: isolated"
    });
}

#[test]
fn throttled_tasks_are_seen() {
    if !can_or_skip(Feature::Limits, "throttled_tasks_are_seen") {
        return;
    }
    let agent = Agent::default().linux().flag("cgroups_enable_cfs", "true");
    let mesos = Cluster::builder().agent(agent).start().unwrap();
    let burns = "shell: 'while :; do :; done'";
    let throttled = app("throttled", &measured("throttling", "Percent", "value: 10000"), "{cpu: 100m, memory: 32Mi}", burns);
    let scaler = Scaler::start(&mesos, &[("throttled.yaml", &throttled)]);
    scaler.wait("throttling", || value(&scaler, "throttled").is_some_and(|percent| percent > 10.0));
}
