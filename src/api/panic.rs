//! Bursts of demand.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// In a burst nothing is given up, and afterwards the most that was asked for fades by half within half of the stable window. After
/// Knative's panic mode, without its cliff. Starting replicas never waits for this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.windowMilliseconds) || self.windowMilliseconds * 2 <= self.stableWindowMilliseconds")
    .message("must be at most half of stableWindowMilliseconds")
    .field_path(".windowMilliseconds"))]
pub struct Panic {
    /// The time over which it is known what is usual.
    #[serde(default = "one_minute")]
    #[schemars(range(min = 100, max = 3_600_000))]
    pub stable_window_milliseconds: i32,

    /// The time over which demand has to be above that to be a burst. Default: a tenth of the stable window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 1_800_000))]
    pub window_milliseconds: Option<i32>,

    /// How many percent of what is usual demand has to be, in the mean, to be a burst.
    #[serde(default = "twice")]
    #[schemars(range(min = 110, max = 1000))]
    pub threshold_percent: i32,
}

fn one_minute() -> i32 {
    60_000
}

fn twice() -> i32 {
    200
}
