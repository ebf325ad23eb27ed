//! `microscaler operator` between a real API server and a real Mesos, with the rights of the chart: what users of kubectl count on.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[macro_use]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use microscaler::api::MicroscaledApp;
use microscaler::api::status::Phase;
use microscaler_testbed::{Agent, Cluster};
use serde_json::Value;
use support::adapter::{Adapter, EXTERNAL};
use support::operator::{Kubernetes, Operator, pool};
use support::place::{self, Ground, Kind};
use support::web::Guarded;
use support::{PUSHED, REMAINDER, alive, microscaler, running, sleeper};

scenarios! {
    on_both: [
        what_is_applied_runs_and_is_told_of,
        anything_that_writes_replicas_scales,
        an_object_goes_when_its_tasks_have_gone,
        an_app_that_moves_to_another_pool_takes_nothing_along,
        a_bad_object_harms_only_itself,
        secrets_are_followed,
        shards_and_namespaces_keep_apart,
        what_is_in_other_namespaces_is_left_alone,
        a_slip_of_the_pen_in_the_name_of_a_pool_ends_nothing,
        a_slip_of_the_pen_ends_nothing_in_a_shard_either,
        an_app_that_is_renamed_takes_over_the_room_of_the_old_one,
        what_people_have_to_know_of_is_an_event,
        whoever_writes_all_the_time_keeps_nothing_from_getting_through,
    ],
    on_mesos_alone: {
        a_credential_that_changes_at_the_masters_is_taken_up: "a Marathon's credentials change only with its start",
    },
}

fn what_is_applied_runs_and_is_told_of(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    let operator = Operator::start(&kubernetes);
    // Apps first: their order does not matter.
    kubernetes.apply(&sleeper("search", &format!("priority: 1\nminReplicas: 2\nmaxReplicas: 12\n{PUSHED}")));
    kubernetes.apply(&sleeper("fulfilment", &format!("priority: 5\nminReplicas: 2\n{REMAINDER}")));
    kubernetes
        .wait("the missing pool to be told of", || kubernetes.status("search").reason.contains("no MicroscalingPool default"));
    assert_eq!(kubernetes.condition("msa", "search", "Stalled"), Some(("True".to_owned(), "PoolNotFound".to_owned())));
    kubernetes.apply_pool("default", &mesos);
    operator.push("search", "load", 0.0);
    kubernetes.settle(&mesos, &[("search", 2), ("fulfilment", 14)]);
    assert_eq!(alive(&mesos).len(), 16, "nothing else runs");
    kubernetes.kubectl(&["wait", "--for=condition=Ready", "msa/search", "msa/fulfilment", "mpool/default", "--timeout=60s"]);

    let table = kubernetes.kubectl(&["get", "microscaledapps"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "PRIORITY", "WANTED", "GRANTED", "RUNNING", "READY", "STATUS", "AGE"]);
    assert_eq!(rows[1][..7], ["fulfilment", "5", "14", "14", "14", "14", "Converged"]);
    assert_eq!(rows[2][..7], ["search", "1", "2", "2", "2", "2", "Converged"]);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let wide = kubernetes.kubectl(&["get", "msa", "-o", "wide"]);
    assert!(wide.lines().next().unwrap().trim_end().ends_with("DEMAND   POOL      REASON"), "{wide}");
    assert!(kubernetes.kubectl(&["get", "all"]).contains("microscaledapp.microscaling.dev/search"));
    assert!(kubernetes.kubectl(&["explain", "msa.spec.priority"]).contains("1 is served first"));

    // A rush.
    operator.push("search", "load", 100.0);
    kubernetes.settle(&mesos, &[("search", 10), ("fulfilment", 6)]);
    let wide = kubernetes.kubectl(&["get", "msa", "search", "-o", "wide"]);
    assert!(wide.contains("load 100"), "{wide}");
    kubernetes.wait("the events", || {
        let events = kubernetes.kubectl(&["get", "events", "-o", "custom-columns=O:.involvedObject.name,R:.reason"]);
        let events: Vec<Vec<&str>> = events.lines().map(|line| line.split_whitespace().collect()).collect();
        events.iter().any(|event| event[..] == ["search", "ScaledUp"])
            && events.iter().any(|event| event[..] == ["fulfilment", "GaveWay"])
    });
    assert!(kubernetes.kubectl(&["describe", "msa", "search"]).contains("ScaledUp"));
    operator.push("search", "load", 0.0);
    kubernetes.settle(&mesos, &[("search", 2), ("fulfilment", 14)]);
}

fn anything_that_writes_replicas_scales(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let _operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    kubernetes.apply(&sleeper("web", "replicas: 1"));
    kubernetes.settle(&mesos, &[("web", 1)]);
    kubernetes.kubectl(&["scale", "msa/web", "--replicas=4"]);
    kubernetes.settle(&mesos, &[("web", 4)]);
    let scale = kubernetes.kubectl(&["get", "msa", "web", "--subresource=scale", "-o", "json"]);
    let scale: Value = serde_json::from_str(&scale).unwrap();
    assert_eq!((scale["spec"]["replicas"].as_i64(), scale["status"]["replicas"].as_i64()), (Some(4), Some(4)));
    assert_eq!(scale["status"]["selector"], "microscaling.dev/app=web");

    // Suspended, it stays as it is; then it goes on from there.
    kubernetes.kubectl(&["patch", "msa", "web", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    kubernetes.wait("the suspension", || kubernetes.status("web").phase == Some(Phase::Suspended));
    kubernetes.kubectl(&["scale", "msa/web", "--replicas=2"]);
    kubernetes.wait("the change to be seen", || kubernetes.status("web").observed_generation == 4);
    assert_eq!(running(&mesos, "web").len(), 4);
    kubernetes.kubectl(&["patch", "msa", "web", "--type=merge", "-p", r#"{"spec":{"suspend":false,"mode":"Observe"}}"#]);
    kubernetes
        .wait("what would be", || kubernetes.status("web").wanted == 2 && kubernetes.status("web").observed_generation == 5);
    assert_eq!(running(&mesos, "web").len(), 4, "an observed app is only reported on");
    kubernetes.kubectl(&["patch", "msa", "web", "--type=merge", "-p", r#"{"spec":{"mode":"Enforce"}}"#]);
    kubernetes.settle(&mesos, &[("web", 2)]);
}

/// As KEDA scales, too: it makes such an autoscaler for each of its objects.
#[test]
fn a_horizontal_pod_autoscaler_scales() {
    let (mesos, kubernetes) = (support::cluster(1), Kubernetes::start());
    let _operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    kubernetes.apply(&sleeper("web", "replicas: 1"));
    kubernetes.settle(&mesos, &[("web", 1)]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let adapter = runtime.block_on(Adapter::serve());
    adapter.register(&kubernetes.control, EXTERNAL);
    adapter.set("default/orders", serde_json::json!(["40"]));
    let _controllers = kubernetes.control.controllers("horizontal-pod-autoscaler-controller").unwrap();
    kubernetes.apply(
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web, namespace: default}, spec: {
            scaleTargetRef: {apiVersion: microscaling.dev/v1alpha1, kind: MicroscaledApp, name: web}, minReplicas: 1, maxReplicas: 6,
            metrics: [{type: External, external: {metric: {name: orders}, target: {type: AverageValue, averageValue: 10}}}],
            behavior: {scaleDown: {stabilizationWindowSeconds: 0}}}}",
    );
    kubernetes.settle(&mesos, &[("web", 4)]);
    adapter.set("default/orders", serde_json::json!(["90"]));
    kubernetes.settle(&mesos, &[("web", 6)]);
    adapter.set("default/orders", serde_json::json!(["15"]));
    kubernetes.settle(&mesos, &[("web", 2)]);
    assert_eq!(kubernetes.condition("hpa", "web", "AbleToScale").unwrap().0, "True");
    assert_eq!(kubernetes.condition("hpa", "web", "ScalingActive"), Some(("True".to_owned(), "ValidMetricFound".to_owned())));
}

fn an_object_goes_when_its_tasks_have_gone(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let mut operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    // It takes its time to end.
    let slow = sleeper("slow", "replicas: 2").replace("gracePeriodMilliseconds: 0", "gracePeriodMilliseconds: 4000");
    let slow = slow.replace("shell: exec sleep 100000", "shell: trap '' TERM; while true; do sleep 1; done");
    kubernetes.apply(&slow);
    kubernetes.apply(&sleeper("web", "replicas: 1"));
    kubernetes.settle(&mesos, &[("slow", 2), ("web", 1)]);
    let finalizers = |kind: &str, name: &str| kubernetes.object(kind, "default", name).unwrap()["metadata"]["finalizers"].clone();
    kubernetes.wait("the finalizers", || finalizers("msa", "slow")[0] == "microscaling.dev/tasks");
    kubernetes.wait("the finalizers", || finalizers("mpool", "default")[0] == "microscaling.dev/apps");

    // The operator's own end touches nothing.
    assert!(operator.stop().success());
    assert_eq!(alive(&mesos).len(), 3);
    operator.run();

    kubernetes.kubectl(&["delete", "mpool", "default", "--wait=false"]);
    kubernetes.wait("the pool to say what it waits for", || {
        let pool = kubernetes.object("mpool", "default", "default").unwrap();
        pool["status"]["message"].as_str().is_some_and(|message| message.contains("slow") && message.contains("web"))
    });
    assert_eq!(alive(&mesos).len(), 3, "its apps go on");
    kubernetes.kubectl(&["delete", "msa", "slow", "--wait=false"]);
    kubernetes.wait("the app to say that it ends", || kubernetes.status("slow").reason.contains("being deleted"));
    assert!(!running(&mesos, "slow").is_empty(), "the object waits for its tasks");
    kubernetes.wait("the object to go", || kubernetes.object("msa", "default", "slow").is_none());
    assert_eq!(alive(&mesos), running(&mesos, "web"), "its tasks have gone before it");

    kubernetes.kubectl(&["delete", "msa", "web", "--timeout=60s"]);
    kubernetes.wait("the pool to go", || kubernetes.object("mpool", "default", "default").is_none());
    assert!(alive(&mesos).is_empty());

    // Made anew, all of it works as if it had never been.
    kubernetes.apply_pool("default", &mesos);
    kubernetes.apply(&sleeper("web", "replicas: 2"));
    kubernetes.settle(&mesos, &[("web", 2)]);
}

fn an_app_that_moves_to_another_pool_takes_nothing_along(kind: Kind) {
    let (here, there, kubernetes) = (kind.cluster(1), kind.cluster(1), Kubernetes::start());
    let _operator = Operator::start(&kubernetes);
    kubernetes.apply(&place::pool("here", "default", &here, ""));
    kubernetes.apply(&place::pool("there", "default", &there, ""));
    kubernetes.apply(&sleeper("web", "pool: here\nreplicas: 2"));
    kubernetes.settle(&here, &[("web", 2)]);
    kubernetes.apply(&sleeper("web", "pool: there\nreplicas: 3"));
    kubernetes.settle(&there, &[("web", 3)]);
    kubernetes.wait("the old tasks to end", || alive(&here).is_empty());
    // Deleted and made anew under the same name at once.
    kubernetes.kubectl(&["delete", "msa", "web", "--wait=false"]);
    kubernetes.wait("the object to go", || kubernetes.object("msa", "default", "web").is_none());
    kubernetes.apply(&sleeper("web", "pool: here\nreplicas: 1"));
    kubernetes.settle(&here, &[("web", 1)]);
    assert!(alive(&there).is_empty());
}

/// The definition without its rules, without a type of `priority` and with nothing required, as an older or a hand-made one may be.
fn loosen(kubernetes: &Kubernetes) {
    fn strip(schema: &mut Value) {
        match schema {
            Value::Object(map) => {
                for rule in ["x-kubernetes-validations", "minimum", "pattern"] {
                    map.remove(rule);
                }
                map.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let name = "microscaledapps.microscaling.dev";
    let mut definition: Value = serde_json::from_str(&kubernetes.kubectl(&["get", "crd", name, "-o", "json"])).unwrap();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    strip(spec);
    spec.as_object_mut().unwrap().remove("required");
    spec["properties"]["priority"] = serde_json::json!({"x-kubernetes-preserve-unknown-fields": true});
    let metadata = definition["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    kubernetes.control.kubectl_with(&["replace", "-f", "-"], &definition.to_string()).unwrap();
}

fn a_bad_object_harms_only_itself(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let mut operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    kubernetes.apply(&sleeper("web", "replicas: 1"));
    kubernetes.apply(&sleeper("bad", "replicas: 2"));
    kubernetes.settle(&mesos, &[("web", 1), ("bad", 2)]);
    loosen(&kubernetes);
    // A bad value, one that cannot even be decoded, and nothing to run.
    let broken = [
        ("minReplicas", r#"{"spec":{"replicas":5,"minReplicas":-3}}"#),
        ("priority", r#"{"spec":{"priority":"five","minReplicas":0}}"#),
        ("template", r#"{"spec":{"priority":1,"template":null}}"#),
    ];
    let tasks = running(&mesos, "bad");
    for (generation, (field, broken)) in (2..).zip(broken) {
        let patch = || kubernetes.control.kubectl(&["patch", "msa", "bad", "--type=merge", "-p", broken]);
        // The API server takes a moment to heed the looser definition.
        let start = Instant::now();
        while let Err(error) = patch() {
            assert!(start.elapsed() < Duration::from_secs(15), "{error:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let told = || {
            let status = kubernetes.status("bad");
            status.reason.contains(&format!("spec.{field}")) && status.observed_generation == generation
        };
        kubernetes.wait("the fault to be told", told);
        assert_eq!(kubernetes.condition("msa", "bad", "Stalled"), Some(("True".to_owned(), "BadSpec".to_owned())));
        kubernetes.kubectl(&["scale", "msa/web", "--replicas=3"]);
        kubernetes.settle(&mesos, &[("web", 3)]);
        assert_eq!(running(&mesos, "bad"), tasks, "the last good spec stays in force");

        // After a restart nobody knows the last good one; what runs is left alone.
        operator.kill();
        operator.run();
        kubernetes.kubectl(&["scale", "msa/web", "--replicas=2"]);
        kubernetes.settle(&mesos, &[("web", 2)]);
        kubernetes.wait("the fault to be told again", || told() && kubernetes.status("bad").phase == Some(Phase::Failed));
        assert_eq!(running(&mesos, "bad"), tasks);
    }
    kubernetes.wait("an event", || kubernetes.kubectl(&["get", "events"]).contains("BadSpec"));

    kubernetes.apply(&sleeper("bad", "replicas: 2"));
    kubernetes.settle(&mesos, &[("bad", 2)]);
    assert_eq!(running(&mesos, "bad"), tasks, "put right, it goes on with the same ones");
    kubernetes.kubectl(&["scale", "msa/bad", "--replicas=1"]);
    kubernetes.settle(&mesos, &[("bad", 1)]);
}

fn secrets_are_followed(kind: Kind) {
    let kubernetes = Kubernetes::with_values(&["--set", "rbac.secrets.names={mesos,queue}"]);
    let credentials = tempfile::NamedTempFile::new().unwrap();
    let mesos = kind.guarded("s3cret", credentials.path());
    let queue = Guarded::serve("30", "first");
    let _operator = Operator::start(&kubernetes);
    let secret = |name: &str, key: &str, value: &str| {
        kubernetes.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: default}}\nstringData: {{{key}: {value}}}\n"
        ));
    };
    kubernetes.apply(&place::pool_with("default", "default", &mesos, &kind.credentials("mesos", "secret"), ""));
    let demand = format!(
        "demand:\n- name: depth\n  http: {{url: \"{}\", pollMilliseconds: 100, auth: {{bearer: {{secretRef: {{name: queue, key: token}}}}}}}}\n  \
         target: {{averageValue: 10}}\nmaxReplicas: 4",
        queue.url()
    );
    kubernetes.apply(&sleeper("web", &demand));
    let message = || kubernetes.object("mpool", "default", "default").unwrap()["status"]["message"].to_string();
    kubernetes.wait("the missing secret to be told of", || message().contains("default/mesos: it does not exist"));
    secret("mesos", "secret", "wrong");
    kubernetes.wait("the refusal to be told of", || message().contains("401"));
    secret("mesos", "secret", "s3cret");
    kubernetes.kubectl(&["wait", "--for=condition=Ready", "mpool/default", "--timeout=60s"]);
    kubernetes.wait("the metric's missing secret to be told of", || {
        kubernetes
            .status("web")
            .demand
            .iter()
            .any(|metric| metric.message.as_deref().unwrap_or_default().contains("does not exist"))
    });
    secret("queue", "token", "first");
    kubernetes.settle(&mesos, &[("web", 3)]);
    // Rotated at the server first, as it happens.
    queue.set_token("second");
    kubernetes.wait("the refusal", || kubernetes.condition("msa", "web", "DemandAvailable").unwrap().0 == "False");
    assert_eq!(running(&mesos, "web").len(), 3, "unknown is not zero");
    secret("queue", "token", "second");
    kubernetes.wait("the new token to be used", || kubernetes.condition("msa", "web", "DemandAvailable").unwrap().0 == "True");
    // A secret that may not be read is a condition, too.
    kubernetes.apply(&sleeper("web", &demand.replace("name: queue", "name: other")));
    kubernetes.wait("what is not allowed to be told", || {
        kubernetes
            .status("web")
            .demand
            .iter()
            .any(|metric| metric.message.as_deref().unwrap_or_default().contains("may not read it"))
    });
}

fn shards_and_namespaces_keep_apart(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    for namespace in ["shop", "depot"] {
        kubernetes.kubectl(&["create", "namespace", namespace]);
    }
    let labelled = |namespace: &str, shard: &str| {
        place::pool("default", namespace, &mesos, "").replace("metadata: {", &format!("metadata: {{labels: {{shard: {shard}}}, "))
    };
    let inside = |namespace: &str, app: String| app.replace("metadata:\n", &format!("metadata:\n  namespace: {namespace}\n"));
    kubernetes.apply(&labelled("shop", "a"));
    kubernetes.apply(&labelled("depot", "b"));
    kubernetes.apply(&inside("shop", sleeper("web", "replicas: 1")));
    kubernetes.apply(&inside("depot", sleeper("batch", "replicas: 2")));
    // Each with a release of its own, as the chart says.
    kubernetes.install("other", &["--set", "crds.install=false,rbac.aggregateRoles=false,selector=shard=b"]);
    let mut a = Operator::named(&kubernetes, "a", &["--selector", "shard=a"]);
    kubernetes.wait("the first shard", || running(&mesos, "web").len() == 1);
    kubernetes.kubectl(&["wait", "-n", "shop", "--for=condition=Ready", "msa/web", "--timeout=60s"]);
    assert!(running(&mesos, "batch").is_empty(), "the other shard's pool is not touched");
    let status = kubernetes.object("msa", "depot", "batch").unwrap()["status"].clone();
    assert_eq!(status["observedGeneration"], -1, "nor told of");
    let b = Operator::of_release(&kubernetes, "other", "b", &["--selector", "shard=b"]);
    kubernetes.wait("the second shard", || running(&mesos, "batch").len() == 2);
    kubernetes.kubectl(&["wait", "-n", "depot", "--for=condition=Ready", "msa/batch", "--timeout=60s"]);
    assert!(a.leads() && b.leads(), "both at the same time");
    let shown = |operator: &Operator| microscaler(&["get", "apps", "-A", "--server", operator.url()]).1;
    assert!(shown(&a).contains("web") && !shown(&a).contains("batch"), "{}", shown(&a));
    assert!(shown(&b).contains("batch") && !shown(&b).contains("web"), "{}", shown(&b));
    let objects = || kubernetes.kubectl(&["get", "msa", "-A", "-o", "jsonpath={..resourceVersion}"]);
    kubernetes.wait("the status to come to rest", || {
        let before = objects();
        std::thread::sleep(Duration::from_secs(3));
        objects() == before
    });
    // One of them ends: what is its stays as it is, and the other goes on.
    a.stop();
    kubernetes.kubectl(&["scale", "-n", "shop", "msa/web", "--replicas=4"]);
    kubernetes.kubectl(&["scale", "-n", "depot", "msa/batch", "--replicas=3"]);
    kubernetes.wait("the other shard to go on", || running(&mesos, "batch").len() == 3);
    assert_eq!(running(&mesos, "web").len(), 1);
    a.run();
    kubernetes.wait("the first shard to go on", || running(&mesos, "web").len() == 4);
    assert_eq!(running(&mesos, "batch").len(), 3);
}

fn what_is_in_other_namespaces_is_left_alone(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(2), Kubernetes::start());
    for namespace in ["shop", "depot"] {
        kubernetes.kubectl(&["create", "namespace", namespace]);
    }
    for (namespace, app) in [("shop", "web"), ("depot", "batch"), ("default", "foreign")] {
        kubernetes.apply_pool(namespace, &mesos);
        let app = sleeper(app, "replicas: 2");
        kubernetes.apply(&app.replace("metadata:\n", &format!("metadata:\n  namespace: {namespace}\n")));
    }
    // It may look nowhere else, not even at a list of all.
    kubernetes.install("some", &["--set", "crds.install=false,rbac.aggregateRoles=false,watchNamespaces={shop,depot}"]);
    let both = Operator::of_release(&kubernetes, "some", "both", &["--namespace", "shop,depot"]);
    kubernetes.wait("both namespaces", || running(&mesos, "web").len() == 2 && running(&mesos, "batch").len() == 2);
    for (namespace, app) in [("shop", "web"), ("depot", "batch")] {
        let app = format!("msa/{app}");
        kubernetes.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", &app, "--timeout=60s"]);
        kubernetes.wait("the events of each namespace", || {
            kubernetes.kubectl(&["get", "events", "-n", namespace]).contains("Subscribed")
        });
    }
    assert_eq!(alive(&mesos).len(), 4, "nothing else runs");
    assert_eq!(kubernetes.status("foreign").observed_generation, -1, "nor is it told of");
    kubernetes.kubectl(&["delete", "-n", "shop", "msa/web", "--timeout=60s"]);
    let (code, shown, _) = microscaler(&["get", "apps", "-A", "--server", both.url()]);
    assert!(code == 0 && shown.contains("batch") && !shown.contains("web") && !shown.contains("foreign"), "{shown}");
    drop(both);
    let depot = Operator::of_release(&kubernetes, "some", "depot", &["--namespace", "depot"]);
    kubernetes.kubectl(&["scale", "-n", "depot", "msa/batch", "--replicas=3"]);
    kubernetes.wait("one of the two", || running(&mesos, "batch").len() == 3);
    assert!(depot.leads());
    assert_eq!(alive(&mesos), running(&mesos, "batch"));
}

/// A slip of the pen in `spec.pool`, in front of an operator with these arguments.
fn a_slip_of_the_pen(kind: Kind, arguments: &[&str]) -> (Ground, Kubernetes, Operator, Vec<String>) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let mut operator = Operator::named(&kubernetes, "microscaler-0", arguments);
    kubernetes.apply(&place::pool("default", "default", &mesos, "").replace("metadata: {", "metadata: {labels: {shard: a}, "));
    kubernetes.apply(&sleeper("web", "replicas: 2"));
    kubernetes.apply(&sleeper("other", "replicas: 1"));
    kubernetes.settle(&mesos, &[("web", 2), ("other", 1)]);
    let tasks = running(&mesos, "web");
    kubernetes.kubectl(&["patch", "msa", "web", "--type=merge", "-p", r#"{"spec":{"pool":"defualt"}}"#]);
    let told = || {
        let stalled = kubernetes.condition("msa", "web", "Stalled") == Some(("True".to_owned(), "PoolNotFound".to_owned()));
        stalled && kubernetes.status("web").observed_generation == 2
    };
    kubernetes.wait("the missing pool to be told of", told);
    assert_eq!(running(&mesos, "web"), tasks, "what runs goes on");
    // One that has just begun has never known the app in another pool.
    operator.kill();
    operator.run();
    kubernetes.kubectl(&["scale", "msa/other", "--replicas=3"]);
    kubernetes.settle(&mesos, &[("other", 3)]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(running(&mesos, "web"), tasks, "also after a restart");
    assert!(told());
    (mesos, kubernetes, operator, tasks)
}

fn a_slip_of_the_pen_in_the_name_of_a_pool_ends_nothing(kind: Kind) {
    let (mesos, kubernetes, _operator, tasks) = a_slip_of_the_pen(kind, &[]);
    kubernetes.kubectl(&["patch", "msa", "web", "--type=merge", "-p", r#"{"spec":{"pool":"default"}}"#]);
    kubernetes.settle(&mesos, &[("web", 2)]);
    assert_eq!(running(&mesos, "web"), tasks, "put right, it goes on with the same ones");
    kubernetes.kubectl(&["wait", "--for=condition=Ready", "msa/web", "--timeout=60s"]);
}

fn a_slip_of_the_pen_ends_nothing_in_a_shard_either(kind: Kind) {
    let (mesos, kubernetes, _operator, _) = a_slip_of_the_pen(kind, &["--selector", "shard=a"]);
    kubernetes.kubectl(&["delete", "msa", "web", "--timeout=60s"]);
    assert_eq!(alive(&mesos), running(&mesos, "other"), "its tasks have gone before it");
}

fn an_app_that_is_renamed_takes_over_the_room_of_the_old_one(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let _operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    // All there is.
    kubernetes.apply(&sleeper("web", "replicas: 8"));
    kubernetes.settle(&mesos, &[("web", 8)]);
    kubernetes.kubectl(&["delete", "msa", "web", "--wait=false"]);
    kubernetes.apply(&sleeper("shop", "replicas: 8"));
    kubernetes.wait("the old object to go", || kubernetes.object("msa", "default", "web").is_none());
    kubernetes.settle(&mesos, &[("shop", 8)]);
    assert_eq!(alive(&mesos), running(&mesos, "shop"));
    // And back, with the old one not gone yet.
    kubernetes.apply(&sleeper("web", "replicas: 8\npriority: 1"));
    kubernetes.kubectl(&["delete", "msa", "shop", "--wait=false"]);
    kubernetes.settle(&mesos, &[("web", 8)]);
    kubernetes.wait("the other object to go", || kubernetes.object("msa", "default", "shop").is_none());
    assert_eq!(alive(&mesos), running(&mesos, "web"));
}

fn what_people_have_to_know_of_is_an_event(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    let quick = "demand:\n- {name: load, push: {}, target: {averageValue: 10}, staleAfterMilliseconds: 500}";
    kubernetes.apply(&sleeper("search", &format!("priority: 1\n{quick}")));
    operator.push("search", "load", 20.0);
    kubernetes.apply(&sleeper("large", "priority: 2\nreplicas: 20"));
    let told = |wanted: [&str; 3]| {
        let columns = "custom-columns=T:.type,O:.involvedObject.name,R:.reason";
        let events = kubernetes.kubectl(&["get", "events", "-o", columns]);
        events.lines().any(|line| line.split_whitespace().eq(wanted))
    };
    kubernetes.wait("the full pool to be told of", || told(["Warning", "large", "CapacityLimited"]));
    kubernetes.wait("the silence to be told of", || told(["Warning", "search", "DemandStale"]));
}

/// Labels apps every 10 ms until it is told to stop; gives how often that was taken.
fn label(kubernetes: &Kubernetes, apps: &[&str], stop: &AtomicBool) -> u32 {
    drop(rustls::crypto::ring::default_provider().install_default());
    let kubeconfig = Kubeconfig::read_from(kubernetes.control.kubeconfig()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let api: Api<MicroscaledApp> = Api::namespaced(Client::try_from(config).unwrap(), "default");
        let mut taken = 0;
        for round in 0.. {
            for app in apps {
                let patch = serde_json::json!({"metadata": {"labels": {"round": format!("r{round}")}}});
                taken += u32::from(api.patch_metadata(app, &PatchParams::default(), &Patch::Merge(patch)).await.is_ok());
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        taken
    })
}

fn whoever_writes_all_the_time_keeps_nothing_from_getting_through(kind: Kind) {
    let (mesos, kubernetes) = (kind.cluster(1), Kubernetes::start());
    let operator = Operator::start(&kubernetes);
    kubernetes.apply_pool("default", &mesos);
    kubernetes.apply(&sleeper("web", "replicas: 1"));
    kubernetes.settle(&mesos, &[("web", 1)]);
    let stop = AtomicBool::new(false);
    let taken = std::thread::scope(|scope| {
        let labels = scope.spawn(|| label(&kubernetes, &["web", "late"], &stop));
        let start = Instant::now();
        kubernetes.apply(&sleeper("late", "replicas: 1"));
        let finalizers = |name: &str| kubernetes.object("msa", "default", name).unwrap()["metadata"]["finalizers"].clone();
        kubernetes.wait("the finalizer", || finalizers("late")[0] == "microscaling.dev/tasks");
        while start.elapsed() < Duration::from_secs(4) {
            for replicas in [3, 2, 5] {
                kubernetes.kubectl(&["scale", "msa/web", &format!("--replicas={replicas}")]);
                kubernetes.settle(&mesos, &[("web", replicas)]);
            }
        }
        kubernetes.kubectl(&["delete", "msa", "web", "--wait=false"]);
        kubernetes.wait("the object to go", || kubernetes.object("msa", "default", "web").is_none());
        assert!(!labels.is_finished(), "all of it amid the writing");
        println!("all that took {:?}", start.elapsed());
        stop.store(true, Ordering::Relaxed);
        labels.join().unwrap()
    });
    println!("{taken} labels, {:?} conflicts", operator.metric(r#"microscaler_status_writes_total{result="conflict"}"#));
    assert!(taken > 100, "{taken}");
    kubernetes.settle(&mesos, &[("late", 1)]);
    assert_eq!(alive(&mesos), running(&mesos, "late"));
}

fn a_credential_that_changes_at_the_masters_is_taken_up() {
    let kubernetes = Kubernetes::with_values(&["--set", "rbac.secrets.names={mesos}"]);
    let credentials = tempfile::NamedTempFile::new().unwrap();
    let known = |secret: &str| {
        let text = format!(r#"{{"credentials": [{{"principal": "shop", "secret": "{secret}"}}]}}"#);
        std::fs::write(credentials.path(), text).unwrap();
    };
    known("first");
    let mesos = Cluster::builder()
        .fast_failure_detection()
        .agent(Agent::default().resources("cpus:4;mem:4096;disk:4096;ports:[31000-31999]"))
        .master_flag("authenticate_http_frameworks", "true")
        .master_flag("http_framework_authenticators", "basic")
        .master_flag("credentials", format!("file://{}", credentials.path().display()))
        .start()
        .unwrap();
    let _operator = Operator::start(&kubernetes);
    let secret = |value: &str| {
        kubernetes.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: mesos, namespace: default}}\nstringData: {{secret: {value}}}\n"
        ));
    };
    secret("first");
    let with = ", principal: shop, secretRef: {name: mesos, key: secret}";
    kubernetes.apply(&pool("default", "default", &mesos.master_urls(), with));
    kubernetes.apply(&sleeper("web", "replicas: 2"));
    kubernetes.settle(&mesos, &[("web", 2)]);
    let tasks = running(&mesos, "web");
    // A secret that changes under a session that is served does not disturb it.
    secret("second");
    kubernetes.kubectl(&["scale", "msa/web", "--replicas=3"]);
    kubernetes.settle(&mesos, &[("web", 3)]);
    secret("first");

    mesos.master(0).kill();
    known("third");
    mesos.master(0).start().unwrap();
    mesos.wait_until_ready(support::PATIENCE).unwrap();
    let message = || kubernetes.object("mpool", "default", "default").unwrap()["status"]["message"].to_string();
    kubernetes.wait("the refusal to be told of", || message().contains("401"));
    assert_eq!(alive(&mesos).len(), 3, "what runs goes on");
    secret("third");
    let start = Instant::now();
    kubernetes.kubectl(&["wait", "--for=condition=Ready", "mpool/default", "--timeout=60s"]);
    println!("connected {:?} after the new secret", start.elapsed());
    kubernetes.kubectl(&["scale", "msa/web", "--replicas=4"]);
    kubernetes.settle(&mesos, &[("web", 4)]);
    assert!(tasks.iter().all(|task| running(&mesos, "web").contains(task)), "the same tasks");
}
