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

/// One of each, with what its documentation has as an example.
const TRIGGERS: [(&str, &str); 15] = [
    ("prometheus", "{serverAddress: \"http://prometheus:9090\", query: \"sum(rate(requests[2m]))\", threshold: \"100.50\"}"),
    ("redis", "{host: redis, port: \"6379\", listName: orders}"),
    ("redis-streams", "{address: \"redis:6379\", stream: log, consumerGroup: shop, pendingEntriesCount: \"10\"}"),
    (
        "rabbitmq",
        "{host: \"amqp://guest@rabbit.eu:5672/shop\", queueName: orders, mode: QueueLength, value: \"20\", protocol: auto}",
    ),
    ("kafka", "{bootstrapServers: \"kafka:9092\", consumerGroup: shop, topic: orders, offsetResetPolicy: latest}"),
    ("nsq", "{nsqLookupdHTTPAddresses: \"nsq:4161\", topic: orders, channel: shop}"),
    ("aws-sqs-queue", "{queueURL: \"https://sqs.eu-west-1.amazonaws.com/1/orders\", awsRegion: eu-west-1}"),
    ("azure-queue", "{queueName: orders, queueLengthStrategy: all}"),
    (
        "postgresql",
        "{query: SELECT 1, targetQueryValue: \"1.1\", host: db, port: \"5432\", userName: shop, dbName: shop, sslmode: verify-full}",
    ),
    ("metrics-api", "{url: \"http://shop/stats\", valueLocation: queues.depth, targetValue: \"8\"}"),
    ("cron", "{timezone: Europe/London, start: 30 * * * *, end: 45 * * * *, desiredReplicas: \"10\"}"),
    ("external", "{scalerAddress: \"scaler:6000\", queue: orders}"),
    ("cpu", "{value: \"60\"}"),
    ("kafka", "{bootstrapServers: \"kafka:9093\", consumerGroup: shop, sasl: scram_sha512, tls: enable}"),
    ("nats-jetstream", "{natsServerMonitoringEndpoint: \"nats:8222\", account: A, stream: orders, consumer: shop}"),
];
/// Credentials that KEDA takes as parameters of an authentication.
const PARAMETERS: [&str; 6] = ["username", "password", "connection", "awsAccessKeyID", "awsSecretAccessKey", "awsSessionToken"];

#[test]
fn what_triggers_come_to_can_be_used() {
    for (kind, metadata) in TRIGGERS {
        let references = PARAMETERS.map(|name| format!("{{parameter: {name}, name: shop, key: {name}}}")).join(", ");
        let metric_type = if kind == "cpu" { "Utilization" } else { "AverageValue" };
        let text = format!(
            "{SHOP}  triggers:\n  - {{type: {kind}, metricType: {metric_type}, authenticationRef: {{name: all}}, metadata: {metadata}}}\n---\n\
             apiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: {{name: all}}\nspec: {{secretTargetRef: [{references}]}}\n"
        );
        let (apps, _, problems) = converted(&text);
        assert_eq!(apps[0]["spec"]["demand"].as_array().map(Vec::len), Some(1), "{kind}");
        // Of NATS, KEDA only knows where it is monitored.
        let expected = usize::from(kind == "nats-jetstream");
        assert_eq!(problems.len(), expected, "{kind}: {problems:#?} {:#}", apps[0]["spec"]["demand"][0]);
    }
}

#[test]
fn an_address_with_credentials_is_taken_apart() {
    let (apps, notes, _) =
        shop("triggers:\n- {type: rabbitmq, metadata: {host: \"amqp://joe:s3cret@rabbit/%2f\", queueName: q, value: \"5\"}}");
    let rabbitmq = &apps[0]["spec"]["demand"][0]["rabbitmq"];
    assert_eq!((&rabbitmq["host"], &rabbitmq["username"]), (&json!("amqp://rabbit:5672"), &json!("joe")));
    assert!(!format!("{apps:?} {notes:?}").contains("s3cret"));
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
    assert_eq!(
        spec["demand"][0],
        json!({"name": "cpu", "mesos": {"resource": "cpu", "unit": "Percent"}, "target": {"utilization": 60}})
    );
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
