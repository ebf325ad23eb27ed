//! The metrics APIs of a real API server, which passes on what a small server in this process measures.

use std::sync::Arc;

use microscaler::demand::{Board, PushDesk, Sources};
use microscaler::kubernetes::connect::connect;
use microscaler::store::secrets::Secrets;
use microscaler_testbed::ControlPlane;
use serde_json::{Value, json};

use crate::adapter::{Adapter, CUSTOM, EXTERNAL};
use crate::fixture::{Fixture, app, is, metric, with};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/microscaler");

fn served(spec: Value) -> Value {
    let polling = json!({"pollMilliseconds": 20, "timeoutMilliseconds": 5000});
    metric("m", "kubernetes", &with(polling, &spec))
}

/// As the operator's ServiceAccount, with the roles of the chart.
async fn fixture(kubernetes: &ControlPlane, spec: Value) -> Fixture {
    let kubeconfig = kubernetes.kubeconfig_for("microscaler-system", "microscaler").unwrap();
    let (client, _) = connect(Some(&kubeconfig), None).await.unwrap();
    let (board, desk) = (Arc::new(Board::new()), Arc::new(PushDesk::new()));
    let sources = Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_kubernetes())).on_kubernetes(Some(client));
    let mut fixture = Fixture { board, desk, sources };
    fixture.sources.sync(&[app("search", json!([served(spec)]))]);
    fixture
}

/// A control plane with the roles of the chart, by which metrics may be read or not.
fn control_plane(metrics: bool) -> ControlPlane {
    let kubernetes = ControlPlane::start().unwrap();
    kubernetes.kubectl(&["create", "namespace", "microscaler-system"]).unwrap();
    allow(&kubernetes, metrics);
    kubernetes
}

fn allow(kubernetes: &ControlPlane, metrics: bool) {
    let value = format!("crds.install=false,rbac.metrics={metrics}");
    let arguments = ["template", "microscaler", CHART, "--namespace", "microscaler-system", "--set", &value];
    kubernetes.apply(&kubernetes.helm(&arguments).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn external_metrics_are_followed_and_what_is_wrong_is_said() {
    let kubernetes = control_plane(false);
    let labelled = json!({"external": {
        "metricName": "s0-rabbitmq-orders", "selector": "scaledobject.keda.sh/name=orders",
    }});
    let fixture = fixture(&kubernetes, labelled).await;
    fixture.until_failure("Microscaler may not read external.metrics.k8s.io: let its ServiceAccount get and list it").await;
    allow(&kubernetes, true);
    fixture.until_failure("nobody serves external.metrics.k8s.io here: install what measures the metric").await;
    let adapter = Adapter::serve().await;
    adapter.register(&kubernetes, EXTERNAL);
    fixture.until_failure("external.metrics.k8s.io has no metric s0-rabbitmq-orders in namespace shop").await;

    let path = "shop/s0-rabbitmq-orders?labelSelector=scaledobject.keda.sh%2Fname%3Dorders";
    adapter.set(path, json!(["12", "1500m"]));
    fixture.until_value(is(13.5)).await;
    adapter.set(path, json!(["2k"]));
    fixture.until_value(is(2000.0)).await;
    for (answer, expected) in [
        (json!([]), "metric s0-rabbitmq-orders has no values now"),
        (json!(["many"]), "metric s0-rabbitmq-orders: its value is no quantity"),
        (json!({"items": 7}), "external.metrics.k8s.io answers no list of values: line 1 column 10"),
        (json!(500), "external.metrics.k8s.io answers with status 500"),
    ] {
        adapter.set(path, answer);
        let failure = fixture.until_failure(expected).await;
        assert!(!failure.contains("s3cret"), "{failure}");
    }
    adapter.set(path, json!(["7"]));
    fixture.until_value(is(7.0)).await;

    kubernetes.api_server().kill();
    let reading = fixture.until(|reading| reading.failure.is_some()).await;
    assert!(reading.failure.is_some_and(|failure| failure.starts_with("the API server does not answer: ")));
    assert!(reading.value.is_some_and(|(value, _)| is(7.0)(value)), "the value was lost");
    kubernetes.api_server().start().unwrap();
    kubernetes.wait_until_ready().unwrap();
    adapter.set(path, json!(["8"]));
    fixture.until_value(is(8.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_metrics_of_objects_and_pods_are_read() {
    let kubernetes = control_plane(true);
    let adapter = Adapter::serve().await;
    adapter.register(&kubernetes, CUSTOM);
    adapter.set("shop/services/front/requests", json!(["250"]));
    adapter.set("shop/ingresses.networking.k8s.io/front/requests?metricLabelSelector=verb%3DGET", json!(["90"]));
    adapter.set("shop/pods/*/busy?labelSelector=app%3Dfront", json!(["1", "500m"]));
    adapter.set("shop/services/front/two", json!(["1", "2"]));

    let object = |kind: &str, more: Value| {
        let spec = json!({"metricName": "requests", "describedObject": {"kind": kind, "name": "front"}});
        json!({"object": with(spec, &more)})
    };
    fixture(&kubernetes, object("Service", json!({}))).await.until_value(is(250.0)).await;
    let ingress = json!({
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"},
        "selector": "verb=GET",
    });
    fixture(&kubernetes, object("", ingress)).await.until_value(is(90.0)).await;
    let pods = json!({"pods": {"metricName": "busy", "podSelector": "app=front"}});
    fixture(&kubernetes, pods).await.until_value(is(1.5)).await;

    for (spec, expected) in [
        (object("Service", json!({"metricName": "two"})), "metric two of services front: 2 values, where one is meant"),
        (object("Servise", json!({})), "describedObject: there is no kind Servise in v1"),
        (object("Node", json!({})), "describedObject: a Node is in no namespace, and only objects of the app's own are read"),
        (object("Service", json!({"metricName": "gone"})), "custom.metrics.k8s.io has no metric gone in namespace shop"),
    ] {
        fixture(&kubernetes, spec).await.until_failure(expected).await;
    }
}

#[tokio::test]
async fn without_kubernetes_there_are_none() {
    let failure = Fixture::of(served(json!({"external": {"metricName": "m"}}))).failure().await;
    assert_eq!(failure, "there are no metrics of Kubernetes without Kubernetes: run `microscaler operator`");
}
