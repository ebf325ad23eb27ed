//! Demand: the metrics that say how many replicas an app wants.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fallback::Rung;
use super::secret::SecretRef;

mod azure_queue;
mod forecast;
mod http;
mod kafka;
mod keda;
mod kubernetes;
mod mesos;
mod nats;
mod nsq;
mod open_telemetry;
mod polling;
mod postgres;
mod prometheus;
mod rabbitmq;
mod redis;
mod role;
mod schedule;
mod simulated;
mod sqs;
mod target;
mod tls;

pub use azure_queue::{AzureQueue, QueueLengthStrategy};
pub use forecast::Forecast;
pub use http::Http;
pub use kafka::{Kafka, OffsetResetPolicy, Sasl, SaslMechanism};
pub use keda::Keda;
pub use kubernetes::{DescribedObject, ExternalMetric, Kubernetes, KubernetesMetric, ObjectMetric, PodsMetric};
pub use mesos::{Mesos, MesosResource, Unit};
pub use nats::Nats;
pub use nsq::Nsq;
pub use open_telemetry::{Aggregate, OpenTelemetry};
pub use polling::Polling;
pub use postgres::{Postgres, SslMode};
pub use prometheus::{NamedText, Prometheus};
pub use rabbitmq::{QueueMode, RabbitMq};
pub use redis::{GroupEntries, Redis, RedisHash, RedisMeasure, RedisServer, RedisSortedSet, RedisStream, Sentinel};
pub use role::Role;
pub use schedule::{Effect, Schedule};
pub use simulated::{FlashCrowd, Pattern, RandomWalk, Simulated, Step, Trace, Wave};
pub use sqs::Sqs;
pub use target::{Queue, Rate, Target};
pub use tls::Tls;

/// One metric of demand. Exactly one source is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.target) || has(self.remainder) || has(self.schedule) || self.role == 'Veto' || self.role == 'Input'")
        .message("a target is needed: only remainder, schedule and the roles Veto and Input have none"),
    validation = Rule::new("!has(self.target) || (!has(self.remainder) && !has(self.schedule) && self.role != 'Veto')")
        .message("remainder, schedule and the role Veto have no target"),
    validation = Rule::new("!has(self.remainder) || self.role == 'Demand'").message("remainder has no other role").field_path(".role"),
    validation = Rule::new("!has(self.forecast) || (has(self.target) && has(self.target.averageValue))")
        .message("only what has a target of averageValue can be foreseen: it does not depend on how many replicas there are")
        .field_path(".forecast"),
    validation = Rule::new("!has(self.fallbacks) || (!has(self.remainder) && !has(self.schedule) && self.role != 'Veto')")
        .message("nothing stands in for remainder, schedule and the role Veto")
        .field_path(".fallbacks"),
)]
pub struct Demand {
    /// Name of the metric, unique within the app. It is part of the push address.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    #[serde(flatten)]
    pub source: Source,

    /// How a value becomes replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// What it counts for beside the app's other metrics. Default: Demand.
    #[serde(default)]
    pub role: Role,

    /// Start replicas for what the metric is expected to be. Default: not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,

    /// What stands in while the metric is stale, in this order. Default: the app's fallback or fallbacks; for Cap and Input, hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub fallbacks: Vec<Rung>,

    /// A value older than this is not believed any more: what stands in for it takes over. Default: 60000 for what is pushed or published,
    /// 150000 for openTelemetry, 5000 for what is polled (and never less than five polls), not used by simulated and schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub stale_after_milliseconds: Option<i64>,
}

impl Demand {
    /// It is a metric: all but `remainder` are.
    #[must_use]
    pub fn has_values(&self) -> bool {
        !matches!(self.source, Source::Remainder(_))
    }
}

/// Where the values come from.
#[allow(clippy::large_enum_variant, reason = "there is one for each metric, and none is moved about")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// Values are pushed to Microscaler over HTTP: POST /v1/demand/NAMESPACE/APP/NAME.
    Push(Push),
    /// A generated load, to try policies and for demonstrations.
    Simulated(Simulated),
    /// A number inside a JSON document that is polled over HTTP.
    Http(Http),
    /// How many messages wait in a channel of NSQ.
    Nsq(Nsq),
    /// A metric that Kubernetes serves, such as those of KEDA.
    Kubernetes(Kubernetes),
    /// What the app's own tasks use.
    Mesos(Mesos),
    /// The value of a query to a Prometheus.
    Prometheus(Prometheus),
    /// How many messages wait in a queue of Amazon SQS.
    Sqs(Sqs),
    /// The lag of a consumer group of Apache Kafka.
    Kafka(Kafka),
    /// A number that a query of PostgreSQL yields.
    Postgres(Postgres),
    /// A metric of a KEDA external scaler.
    Keda(Keda),
    /// A metric that is pushed to Microscaler in OpenTelemetry's protocol.
    OpenTelemetry(OpenTelemetry),
    /// A number of replicas, or a factor for the other metrics, in a window of time.
    Schedule(Schedule),
    /// How many messages are in a queue of Azure Storage.
    AzureQueue(AzureQueue),
    /// What a consumer of a NATS JetStream has yet to do.
    Nats(Nats),
    /// A queue of a RabbitMQ.
    #[serde(rename = "rabbitmq")]
    RabbitMq(RabbitMq),
    /// Something that is kept in a Redis, or published there.
    Redis(Redis),
    /// No metric: the app fills the room that no other app wants, and gives way to all of them.
    Remainder(Remainder),
}

/// Values are pushed to Microscaler over HTTP: POST /v1/demand/NAMESPACE/APP/NAME.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Push {}

/// The app fills the room that no other app wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Remainder {
    /// Share of the spare room beside other remainder apps.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: i32,
}

fn one() -> i32 {
    1
}

impl Source {
    /// All kinds that yield values, as the fields are called in a spec.
    pub const KINDS: [&'static str; 17] = [
        "push",
        "simulated",
        "http",
        "nsq",
        "kubernetes",
        "mesos",
        "prometheus",
        "sqs",
        "kafka",
        "postgres",
        "keda",
        "openTelemetry",
        "schedule",
        "azureQueue",
        "nats",
        "rabbitmq",
        "redis",
    ];

    /// As the field is called in a spec.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Push(_) => "push",
            Self::Simulated(_) => "simulated",
            Self::Http(_) => "http",
            Self::Nsq(_) => "nsq",
            Self::Kubernetes(_) => "kubernetes",
            Self::Mesos(_) => "mesos",
            Self::Prometheus(_) => "prometheus",
            Self::Sqs(_) => "sqs",
            Self::Kafka(_) => "kafka",
            Self::Postgres(_) => "postgres",
            Self::Keda(_) => "keda",
            Self::OpenTelemetry(_) => "openTelemetry",
            Self::Schedule(_) => "schedule",
            Self::AzureQueue(_) => "azureQueue",
            Self::Nats(_) => "nats",
            Self::RabbitMq(_) => "rabbitmq",
            Self::Redis(_) => "redis",
            Self::Remainder(_) => "remainder",
        }
    }

    /// How often it is asked, if it has to be asked.
    #[must_use]
    pub fn polling(&self) -> Option<&Polling> {
        match self {
            Self::Http(http) => Some(&http.polling),
            Self::Nsq(nsq) => Some(&nsq.polling),
            Self::Kubernetes(kubernetes) => Some(&kubernetes.polling),
            Self::Mesos(mesos) => Some(&mesos.polling),
            Self::Prometheus(prometheus) => Some(&prometheus.polling),
            Self::Sqs(sqs) => Some(&sqs.polling),
            Self::Kafka(kafka) => Some(&kafka.polling),
            Self::Postgres(postgres) => Some(&postgres.polling),
            Self::Keda(keda) => Some(&keda.polling),
            Self::AzureQueue(queue) => Some(&queue.polling),
            Self::Nats(nats) => Some(&nats.polling),
            Self::RabbitMq(rabbitmq) => Some(&rabbitmq.polling),
            Self::Redis(redis) => redis.polling(),
            Self::Push(_) | Self::Simulated(_) | Self::OpenTelemetry(_) | Self::Schedule(_) | Self::Remainder(_) => None,
        }
    }

    /// The Secrets that it names, whatever for.
    #[must_use]
    pub fn secret_refs(&self) -> Vec<SecretRef> {
        secret_refs(self)
    }
}

/// The Secrets that a part of a spec names.
#[must_use]
pub fn secret_refs(spec: &impl Serialize) -> Vec<SecretRef> {
    let mut found = Vec::new();
    // Wherever credentials may be given, they look the same.
    collect_refs(&serde_json::to_value(spec).unwrap_or_default(), &mut found);
    found
}

fn collect_refs(value: &Value, found: &mut Vec<SecretRef>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match serde_json::from_value(value.clone()) {
                    Ok(reference) if name == "secretRef" => found.push(reference),
                    _ => collect_refs(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_refs(item, found)),
        _ => {}
    }
}
