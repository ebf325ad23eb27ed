use std::path::Path;

use super::*;
use crate::api::check::Checker;

/// What a text comes to, and the problems that a check has with it.
fn converted(text: &str) -> (Vec<Value>, Vec<String>, Vec<String>) {
    let Converted { apps, notes } = convert(text).expect("convertible");
    let text = apps.iter().map(|app| format!("---\n{}\n", serde_json::to_string(app).expect("JSON"))).collect::<String>();
    let problems = Checker::new().check(Path::new("app.yaml"), &text).problems;
    (apps, notes, problems.iter().map(ToString::to_string).collect())
}

const SHOP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: shop
        image: shop:1
        command: [/shop]
        args: [--serve]
        resources: {requests: {cpu: 250m, memory: 64Mi}, limits: {memory: 128Mi}}
        env: [{name: COLOUR, value: red}, {name: KEY, valueFrom: {secretKeyRef: {name: shop, key: key}}}]
        ports: [{name: http, containerPort: 8080}]
        livenessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: shop}
spec:
  secretTargetRef:
  - {parameter: password, name: shop, key: redis-password}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: shop, namespace: store, labels: {team: store}}
spec:
  scaleTargetRef: {name: shop}
";

/// The ScaledObject of this spec beside its Deployment and credentials.
fn shop(spec: &str) -> (Vec<Value>, Vec<String>, Vec<String>) {
    converted(&format!("{SHOP}{}", spec.lines().map(|line| format!("  {line}\n")).collect::<String>()))
}

#[test]
fn a_workload_becomes_the_template() {
    let (apps, notes, _) = shop("minReplicaCount: 1\ntriggers: []");
    assert_eq!(apps[0]["metadata"], json!({"name": "shop", "namespace": "store", "labels": {"team": "store"}}));
    let template = &apps[0]["spec"]["template"];
    assert_eq!(template["command"], json!(["/shop", "--serve"]));
    assert_eq!(template["resources"], json!({"cpu": "250m", "memory": "64Mi"}));
    assert_eq!(template["ports"], json!([{"name": "http"}]));
    assert_eq!(template["gracePeriodMilliseconds"], 10_000);
    assert_eq!((&apps[0]["spec"]["minReplicas"], &apps[0]["spec"]["maxReplicas"]), (&json!(1), &json!(100)));
    for note in ["where its variable KEY comes from is not carried over", "livenessProbe of its container is not carried over"] {
        assert!(notes.iter().any(|said| said == &format!("scaledobject/shop: Deployment shop: {note}")), "{note}: {notes:#?}");
    }
}

#[test]
fn what_a_trigger_says_is_carried_over_or_noted() {
    let (apps, notes, _) = shop(
        "pollingInterval: 10
cooldownPeriod: 60
triggers:
- type: redis
  authenticationRef: {name: shop}
  metadata: {address: \"redis:6379\", listName: orders, listLength: \"20\", activationListLength: \"3\", databaseIndex: \"2\", colour: red}
- type: gone-with-the-wind
  metadata: {}",
    );
    let demand = apps[0]["spec"]["demand"].as_array().expect("a list");
    assert_eq!(demand.len(), 1);
    assert_eq!((&demand[0]["name"], &demand[0]["target"]), (&json!("redis"), &json!({"averageValue": 20})));
    let redis = &demand[0]["redis"];
    assert_eq!((&redis["addresses"], &redis["listName"]), (&json!(["redis:6379"]), &json!("orders")));
    assert_eq!(redis["password"], json!({"secretRef": {"name": "shop", "key": "redis-password"}}));
    assert_eq!((&redis["databaseIndex"], &redis["pollMilliseconds"]), (&json!(2), &json!(10_000)));
    for part in ["activationListLength", "colour: not carried over", "cooldownPeriod 60", "gone-with-the-wind", "behavior"] {
        assert!(notes.iter().any(|note| note.contains(part)), "{part}: {notes:#?}");
    }
}

#[test]
fn an_hpa_keeps_its_metrics_and_its_behavior() {
    let (apps, notes, _) = converted(
        "
apiVersion: v1
kind: List
items:
- apiVersion: autoscaling/v2
  kind: HorizontalPodAutoscaler
  metadata: {name: web}
  spec:
    scaleTargetRef: {kind: Deployment, name: web}
    maxReplicas: 9
    behavior: {scaleDown: {stabilizationWindowSeconds: 60}}
    metrics:
    - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}
    - type: External
      external:
        metric: {name: queue_depth, selector: {matchLabels: {queue: orders}}}
        target: {type: AverageValue, averageValue: \"30\"}
    - type: Object
      object:
        metric: {name: rps}
        describedObject: {apiVersion: networking.k8s.io/v1, kind: Ingress, name: web}
        target: {type: Value, value: 2k}
",
    );
    let spec = &apps[0]["spec"];
    assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&json!(1), &json!(9)));
    assert_eq!(spec["behavior"], json!({"scaleDown": {"stabilizationWindowSeconds": 60}}));
    assert_eq!(spec["demand"][0], json!({"name": "cpu", "mesos": {"resource": "cpu"}, "target": {"utilization": 60}}));
    assert_eq!(spec["demand"][1]["kubernetes"]["external"], json!({"metricName": "queue_depth", "selector": "queue=orders"}));
    assert_eq!(
        (&spec["demand"][1]["name"], &spec["demand"][1]["target"]),
        (&json!("queue-depth"), &json!({"averageValue": "30"}))
    );
    assert_eq!(spec["demand"][2]["target"], json!({"value": "2k"}));
    assert_eq!(notes, ["horizontalpodautoscaler/web: Deployment web is not in the file: fill in spec.template"]);
}

#[test]
fn what_holds_nothing_is_said_to() {
    assert_eq!(convert("kind: Deployment\napiVersion: apps/v1\n"), Err(ConvertError::Nothing));
    assert!(matches!(convert("a: ["), Err(ConvertError::Yaml(_))));
}
