//! What an app's own tasks use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Polling;

/// What the app's own tasks use, as their Mesos agents tell: all that run now, together. Only for isolated tasks, since pooled ones share a
/// container; and nothing is known while none runs, so that minReplicas ought to be 1 or more. Agents are asked no more often than every
/// 400 ms, for all apps at once, and CPU and throttling are those of the last second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mesos {
    /// What is measured.
    pub resource: MesosResource,
    /// How it is told. Default: Amount.
    #[serde(default)]
    pub unit: Unit,
    #[serde(flatten)]
    pub polling: Polling,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MesosResource {
    /// Processor time.
    Cpu,
    /// Resident memory.
    Memory,
    /// In what percentage of periods a task had to wait for its next share of the processor, whatever the unit. Needs agents with
    /// --isolation=cgroups/cpu and --cgroups_enable_cfs.
    Throttling,
}

/// How a usage is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// Cores, or bytes, of all tasks together: for averageValue, as so much per replica.
    #[default]
    Amount,
    /// Percent of what the tasks have asked for in their template: for value, as 70 of 100.
    Percent,
}
