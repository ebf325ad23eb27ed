//! What a metric will be.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Replicas are started for what demand is expected to be, so that they serve when it comes. A forecast only ever adds to what is wanted
/// now, and it is heeded only while it has been good: the status tells its error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.horizonSeconds) != has(self.horizonMilliseconds)")
    .message("name exactly one of horizonSeconds and horizonMilliseconds"))]
pub struct Forecast {
    /// How far ahead is looked: there are replicas for the most that is expected within this time, and within the time that they need to
    /// start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub horizon_seconds: Option<i32>,
    /// The same in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 86_400_000))]
    pub horizon_milliseconds: Option<i32>,
    /// How long it takes until demand comes round: auto, which finds out, or a time such as 24h, 7d or 90s. It has to be seen twice before
    /// it is foreseen.
    #[serde(default = "auto")]
    #[schemars(length(min = 2, max = 32), regex(pattern = r"^(auto|([0-9]{1,9}(ms|s|m|h|d))+)$"))]
    pub season: String,
    /// How fine is looked: demand is what is the most in each such step. Default: a quarter of the horizon, and at least 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 3_600_000))]
    pub step_milliseconds: Option<i32>,
    /// How far back is looked. Default: 28 days, and in any case no more than 20,000 steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub history_seconds: Option<i32>,
}

fn auto() -> String {
    "auto".to_owned()
}
