//! How far replicas that run are spared when others want their room.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::portion::Portion;

/// How far replicas that run are spared when others want their room. The minimums of more important apps and the pool's limits spare
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.evenForMoreImportant || has(self.maxUnavailable)")
    .message("evenForMoreImportant needs maxUnavailable")
    .field_path(".evenForMoreImportant"))]
pub struct Protection {
    /// A replica gives way to nobody before it is so old. Default: it may have to at once.
    #[serde(default)]
    #[schemars(range(min = 0, max = 604_800_000))]
    pub protect_for_milliseconds: i64,

    /// Replicas save their work as they go, so that little is lost when one ends: of those of equal priority, these give way first.
    #[serde(default)]
    pub checkpointed: bool,

    /// How many of the replicas that are wanted may be unready at a time because of us: 2, or 20% of them, rounded up. Beyond that,
    /// none that is ready ends for a rollout or for the pool's headroom. Default: no such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Portion>,

    /// Hold to maxUnavailable even when more important apps want the room.
    #[serde(default)]
    pub even_for_more_important: bool,

    /// How many replicas may have to give way in a time. Those beyond that wait for their turn. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption_budget: Option<PreemptionBudget>,
}

/// How many replicas may have to give way in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreemptionBudget {
    /// So many at once, if there were none for a period.
    #[schemars(range(min = 1, max = 100_000))]
    pub replicas: i32,
    /// And as many in each period from then on, evenly. Default: 1000.
    #[serde(default = "one_second")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub period_milliseconds: i64,
}

fn one_second() -> i64 {
    1000
}
