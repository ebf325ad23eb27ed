//! How a value becomes replicas.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::quantity::Quantity;

/// How a value becomes replicas. The first three are those of HPA v2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.value), has(self.averageValue), has(self.utilization), has(self.rate), has(self.queue), \
                                 has(self.queueLength), has(self.simpleQueue)].filter(named, named).size() == 1")
    .message("name exactly one of value, averageValue, utilization, rate, queue, queueLength and simpleQueue"))]
pub struct Target {
    /// Keep the metric itself at this value: the replica count is scaled by value / target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::quantity::positive")]
    pub value: Option<Quantity>,
    /// One replica per this much of the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::quantity::positive")]
    pub average_value: Option<Quantity>,
    /// Keep a metric that is a percentage, averaged over the replicas that run, at this many percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub utilization: Option<i32>,
    /// The metric is an amount per second, of which each replica takes its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The metric is how many messages wait in a queue, and none is to wait for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Keep a queue at this length, as the Microscaling Engine does. Its gains are fixed, so it swings where replicas are fast: queue
    /// is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub queue_length: Option<i64>,
    /// One replica more in each half second in which a queue is longer than this, one fewer where it is much shorter, as in the
    /// Microscaling Engine. It never comes to rest: queue is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub simple_queue: Option<i64>,
}

/// The metric is an amount per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// What one replica can take per second. So that a rate near a whole number of replicas does not make the count flap, a replica is
    /// given up only when the rate could grow by scaleDown's tolerance (0.1) without needing it.
    #[schemars(schema_with = "crate::api::quantity::positive")]
    pub per_replica: Quantity,
}

/// No message is to wait for longer than this. How many arrive, and how many a replica gets done, is learnt from the metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The longest that a message may wait. It should be several times the time that a replica takes to start.
    #[schemars(range(min = 10, max = 86_400_000))]
    pub max_wait_milliseconds: i64,
    /// How long a replica is busy with one message, as far as is known: the truth is learnt from there. Default: a tenth of
    /// maxWaitMilliseconds, believed much less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub service_milliseconds: Option<i64>,
    /// How old a value is when it arrives, such as the interval at which a monitoring system looks.
    #[serde(default)]
    #[schemars(range(min = 0, max = 600_000))]
    pub lag_milliseconds: i64,
    /// The metric also counts messages that replicas are busy with.
    #[serde(default)]
    pub counts_in_flight: bool,
    /// Another metric of the app that tells how many messages arrive per second. Default: that is learnt, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub arrivals: Option<String>,
}
