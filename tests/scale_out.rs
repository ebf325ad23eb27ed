//! Room beyond the pool: who is told that it is too small, and what becomes of it on a real Mesos.
#![allow(clippy::unwrap_used)]

#[macro_use]
#[allow(unused_macros)]
mod support;
#[path = "support/hook.rs"]
mod hook;

use std::sync::Arc;

use hook::{Hook, Mood};
use microscaler::api::MicroscalingPool;
use microscaler::api::validated::{Key, Pool};
use microscaler::engine::clock;
use microscaler::engine::scale_out::ScaleOut;
use microscaler::policy::resources::Resources;
use microscaler::policy::shortfall::{Lack, Shortfall};
use microscaler::store::secrets::Secrets;
use serde_json::{Value, json};
use support::place::pool;
use support::{PUSHED, Scaler, cluster, microscaler, sleeper, wait_for};
use tokio::runtime::Runtime;

/// An engine's end of it, and the runtime that the rest lives in.
struct Rig {
    runtime: Runtime,
    pool: Pool,
    scale_out: ScaleOut,
}

impl Rig {
    fn start(scale_out: &Value, secrets: Secrets) -> Self {
        let pool = json!({
            "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscalingPool", "metadata": {"name": "main", "namespace": "shop"},
            "spec": {"mesos": {"masters": ["http://127.0.0.1:1"]}, "scaleOut": scale_out},
        });
        Self::of(&serde_json::from_value(pool).unwrap(), secrets)
    }

    fn on(backend: &Value) -> Self {
        let pool = json!({
            "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscalingPool", "metadata": {"name": "main", "namespace": "shop"},
            "spec": backend,
        });
        Self::of(&serde_json::from_value(pool).unwrap(), Secrets::in_files())
    }

    fn of(raw: &MicroscalingPool, secrets: Secrets) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let pool = Pool::read(raw).unwrap();
        let scale_out = runtime.block_on(async { ScaleOut::start(&pool.key, raw, Arc::new(secrets)) });
        Self { runtime, pool, scale_out }
    }

    /// The pool lacks room for so many replicas; four fit an agent.
    fn lack(&mut self, replicas: i64) {
        let lack = |replicas| Lack { app: Key::new("shop", "search"), priority: 3, replicas, size: Resources::new(1000, 64) };
        let lacks = (replicas > 0).then(|| lack(replicas)).into_iter().collect();
        let shortfall = Arc::new(Shortfall { lacks, agent: Some(Resources::new(4000, 4096)) });
        self.scale_out.note(&self.pool, &shortfall, clock::timestamp());
    }

    fn failure(&self) -> Option<String> {
        self.scale_out.outcome().and_then(Result::err)
    }
}

#[test]
fn beginning_change_and_end_are_told_once_each() {
    let hook = Hook::start();
    let files = tempfile::TempDir::new().unwrap();
    let token = files.path().join("token");
    std::fs::write(&token, "right\n").unwrap();
    let webhook = json!({"url": hook.url(), "auth": {"bearer": {"file": token}}});
    let mut rig = Rig::start(&json!({"webhook": webhook, "afterMilliseconds": 50}), Secrets::in_files());
    rig.lack(0);
    rig.lack(5);
    wait_for("the beginning", || (hook.kinds() == ["Begins"]).then_some(()));
    let document = hook.documents().remove(0);
    assert_eq!((&document["namespace"], &document["pool"]), (&json!("shop"), &json!("main")));
    assert_eq!((&document["replicas"], &document["agents"]), (&json!(5), &json!(2)));
    assert_eq!(document["resources"], json!({"cpu": "5", "memory": "320Mi", "disk": "0", "gpu": 0, "ports": 0}));
    assert_eq!(document["agentSize"]["memory"], "4096Mi");
    assert_eq!((&document["apps"][0]["name"], &document["apps"][0]["priority"]), (&json!("search"), &json!(3)));
    assert!(document["since"].is_string());
    assert_eq!(hook.authorization().as_deref(), Some("Bearer right"));
    // As many agents would do.
    rig.lack(6);
    rig.lack(9);
    wait_for("the change", || (hook.kinds() == ["Begins", "Changes"]).then_some(()));
    assert_eq!((&hook.documents()[1]["agents"], &hook.documents()[1]["since"]), (&json!(3), &document["since"]));
    rig.lack(0);
    wait_for("the end", || (hook.kinds() == ["Begins", "Changes", "Ends"]).then_some(()));
    assert_eq!((&hook.documents()[2]["agents"], &hook.documents()[2]["apps"]), (&json!(0), &json!([])));
    assert!(rig.failure().is_none() && hook.requests() == 3);
}

#[test]
fn what_does_not_last_is_not_told_and_what_lasts_is_told_again() {
    let hook = Hook::start();
    let webhook = json!({"url": hook.url()});
    let mut patient = Rig::start(&json!({"webhook": webhook, "afterMilliseconds": 3_600_000}), Secrets::in_files());
    patient.lack(5);
    let mut rig = Rig::start(&json!({"webhook": webhook, "afterMilliseconds": 0, "repeatSeconds": 1}), Secrets::in_files());
    rig.lack(7);
    wait_for("it to be told again", || {
        hook.kinds().starts_with(&["Begins".into(), "Lasts".into(), "Lasts".into()]).then_some(())
    });
    assert!(hook.documents().iter().all(|document| document["replicas"] == 7), "of the other, nothing is told yet");
}

#[test]
fn a_webhook_that_fails_is_told_when_it_can_be_and_nobody_waits_for_it() {
    let mut hook = Hook::start();
    let mut rig = Rig::start(&json!({"webhook": {"url": hook.url()}, "afterMilliseconds": 0}), Secrets::in_files());
    hook.be(Mood::Badly);
    rig.lack(1);
    wait_for("the failure to be told", || rig.failure()?.contains("status 500").then_some(()));
    hook.go();
    wait_for("the next failure", || (!rig.failure()?.contains("status 500")).then_some(()));
    hook.be(Mood::Never);
    hook.come_back();
    let before = hook.requests();
    wait_for("a request that is not answered", || (hook.requests() > before).then_some(()));
    // While it hangs, all goes on.
    rig.lack(9);
    assert_eq!(rig.scale_out.shortfall().unwrap().replicas, 9);
    assert!(hook.documents().is_empty());
    wait_for("it to be given up", || rig.failure()?.contains("no answer within").then_some(()));
    hook.be(Mood::Well);
    wait_for("it to be told", || (hook.kinds() == ["Begins"]).then_some(()));
    assert_eq!(hook.documents()[0]["replicas"], 9, "the newest");
    wait_for("no failure", || rig.scale_out.outcome()?.is_ok().then_some(()));
}

#[test]
fn an_end_is_told_by_who_was_not_there_at_the_beginning() {
    let hook = Hook::start();
    let raw = json!({
        "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscalingPool", "metadata": {"name": "main", "namespace": "shop"},
        "spec": {"mesos": {"masters": ["http://127.0.0.1:1"]}, "scaleOut": {"webhook": {"url": hook.url()}, "afterMilliseconds": 0}},
        "status": {"shortfall": {"replicas": 4, "since": "2026-01-02T03:04:05Z"}},
    });
    let raw = serde_json::from_value(raw).unwrap();
    let mut rig = Rig::of(&raw, Secrets::in_files());
    rig.lack(3);
    let since = rig.scale_out.shortfall().unwrap().since.unwrap();
    assert_eq!(since.0.to_string(), "2026-01-02T03:04:05Z", "it goes on where the last one stopped");
    wait_for("the change", || (hook.kinds() == ["Changes"]).then_some(()));
    drop(rig);
    Rig::of(&raw, Secrets::in_files()).lack_and_wait(0, &hook);
}

impl Rig {
    fn lack_and_wait(mut self, replicas: i64, hook: &Hook) {
        self.lack(replicas);
        wait_for("the end", || (hook.kinds() == ["Changes", "Ends"]).then_some(()));
        self.runtime.shutdown_background();
    }
}

#[test]
fn where_room_is_only_counted_nothing_is_said_of_agents() {
    let lacked = |capacity: Value| {
        let mut rig = Rig::on(&json!({"marathon": {"urls": ["http://127.0.0.1:1"], "capacity": capacity}}));
        rig.lack(5);
        let lacked = rig.scale_out.shortfall().unwrap();
        (lacked.summary, lacked.agents, lacked.room.cpu.unwrap().0)
    };
    assert_eq!(lacked(json!({"instances": 9})), ("5 replicas".to_owned(), None, "0".to_owned()));
    assert_eq!(lacked(json!({"fixed": {"cpu": 4, "memory": "4Gi"}})), ("5 replicas".to_owned(), None, "5".to_owned()));
    assert_eq!(lacked(json!({"mesos": ["http://127.0.0.1:1"]})), ("5 replicas, 2 agents".to_owned(), Some(2), "5".to_owned()));
}

#[test]
fn a_command_gets_the_document_but_not_on_kubernetes() {
    let files = tempfile::TempDir::new().unwrap();
    let told = files.path().join("told");
    let script = format!("cat >> {}", told.display());
    let spec = json!({"command": ["/bin/sh", "-c", script], "afterMilliseconds": 0});
    let mut rig = Rig::start(&spec, Secrets::in_files());
    rig.lack(2);
    wait_for("the outcome", || rig.scale_out.outcome()).unwrap();
    let document: Value = serde_json::from_str(&std::fs::read_to_string(&told).unwrap()).unwrap();
    assert_eq!((&document["kind"], &document["replicas"]), (&json!("Begins"), &json!(2)));

    let mut failing = Rig::start(
        &json!({"command": ["/bin/sh", "-c", "echo no cloud >&2; exit 3"], "afterMilliseconds": 0}),
        Secrets::in_files(),
    );
    failing.lack(2);
    let failure = wait_for("the failure", || failing.failure());
    assert!(failure.contains("no cloud") && failure.contains('3'), "{failure}");

    std::fs::remove_file(&told).unwrap();
    let mut refused = Rig::start(&spec, Secrets::in_kubernetes());
    refused.lack(2);
    let failure = wait_for("the refusal", || refused.failure());
    assert!(failure.contains("not run on Kubernetes") && !told.exists(), "{failure}");
}

#[test]
fn a_pool_that_is_too_small_tells_until_an_agent_joins() {
    let mesos = cluster(2);
    mesos.agent(1).kill();
    let hook = Hook::start();
    let scale_out = format!("  scaleOut: {{afterMilliseconds: 100, idleSeconds: 1, webhook: {{url: {:?}}}}}\n", hook.url());
    let pool = pool("small", "default", &mesos, &scale_out);
    let web = sleeper("web", &format!("pool: small\npriority: 1\n{PUSHED}"));
    let scaler = Scaler::start(&mesos, &[("pool.yaml", &pool), ("web.yaml", &web)]);
    scaler.push("web", "load", 100.0);
    scaler.settle(&mesos, &[("web", 8)]);
    let status = || scaler.get("/v1/pools").map(|pools| pools["items"][0]["status"].clone()).unwrap_or_default();
    let condition = || {
        let conditions = status()["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "CapacityLimited").unwrap_or_default()
    };
    scaler.wait("the pool to tell what it lacks", || status()["shortfall"]["replicas"] == 2);
    assert_eq!((&status()["shortfall"]["agents"], &status()["shortfall"]["cpu"]), (&json!(1), &json!("1")));
    assert_eq!(condition()["status"], "True");
    scaler.wait("the webhook to be told", || hook.kinds() == ["Begins"]);
    let metrics = scaler.text("/metrics").unwrap();
    assert!(metrics.contains("microscaler_pool_shortfall_agents{namespace=\"default\",pool=\"small\"} 1"), "{metrics}");
    let (_, shown, _) = microscaler(&["get", "pools", "--server", scaler.url()]);
    assert!(shown.contains("2 replicas, 1 agent"), "{shown}");

    mesos.agent(1).start().unwrap();
    scaler.settle(&mesos, &[("web", 10)]);
    scaler.wait("the webhook to be told of the end", || hook.kinds() == ["Begins", "Ends"]);
    assert!(status()["shortfall"].is_null() && condition()["status"] == "False", "{}", status());
    scaler.push("web", "load", 0.0);
    scaler.wait("both agents to be idle", || status()["idleAgents"] == 2);
}
