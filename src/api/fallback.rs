//! What stands in for a metric that has been stale for too long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands in for a metric that is stale. Exactly one is named; the default is hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Fallback {
    /// Keep what was wanted last.
    Hold(Hold),
    /// Want the most that the metric asked for of late, if it ever did.
    LastMax(LastMax),
    /// Want what another metric of the app asks for, if that is known. One that is there for this alone has the role Input.
    Metric(#[schemars(length(min = 1, max = 63))] String),
    /// Want this many replicas.
    Replicas(#[schemars(range(min = 0, max = 100_000))] i32),
}

/// Keep what was wanted last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {}

/// The most that the metric asked for of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastMax {
    /// How long before its last value that begins.
    #[schemars(range(min = 1, max = 86_400))]
    pub window_seconds: i32,
}

/// One of several that stand in for a metric, in their order. Exactly one of hold, lastMax, metric and replicas is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rung {
    #[serde(flatten)]
    pub to: Fallback,
    /// How long the metric has to have been stale before it comes to this one, and no longer to those before it. Default: as long as for
    /// the one before it, which this one replaces where that has nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800_000))]
    pub after_milliseconds: Option<i64>,
}
