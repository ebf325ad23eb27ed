//! Demand: the metrics that say how many replicas an app wants.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::secret::SecretRef;

mod http;
mod nats;
mod polling;
mod rabbitmq;
mod redis;
mod simulated;
mod target;
mod tls;

pub use http::Http;
pub use nats::Nats;
pub use polling::Polling;
pub use rabbitmq::{QueueMode, RabbitMq};
pub use redis::{GroupEntries, Redis, RedisHash, RedisMeasure, RedisServer, RedisSortedSet, RedisStream, Sentinel};
pub use simulated::{FlashCrowd, Pattern, RandomWalk, Simulated, Step, Trace, Wave};
pub use target::Target;
pub use tls::Tls;

/// One metric of demand. Exactly one source is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.remainder) != has(self.target)")
    .message("a target is needed, and only remainder has none"))]
pub struct Demand {
    /// Name of the metric, unique within the app. It is part of the push address.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    #[serde(flatten)]
    pub source: Source,

    /// How a value becomes replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// A value older than this is not believed any more: the app's fallback takes over. Default: 60000 for what is pushed or published, 5000 for what is
    /// polled (and never less than five polls), not used by simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub stale_after_milliseconds: Option<i64>,
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
    pub const KINDS: [&'static str; 6] = ["push", "simulated", "http", "nats", "rabbitmq", "redis"];

    /// As the field is called in a spec.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Push(_) => "push",
            Self::Simulated(_) => "simulated",
            Self::Http(_) => "http",
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
            Self::Nats(nats) => Some(&nats.polling),
            Self::RabbitMq(rabbitmq) => Some(&rabbitmq.polling),
            Self::Redis(redis) => redis.polling(),
            Self::Push(_) | Self::Simulated(_) | Self::Remainder(_) => None,
        }
    }

    /// The Secrets that it names, whatever for.
    #[must_use]
    pub fn secret_refs(&self) -> Vec<SecretRef> {
        let mut found = Vec::new();
        // Wherever credentials may be given, they look the same.
        collect_refs(&serde_json::to_value(self).unwrap_or_default(), &mut found);
        found
    }
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
