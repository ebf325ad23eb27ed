//! What is reported back: counts, demand, reasons in words and conditions.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known of an app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AppStatus {
    /// The generation of the spec that this status speaks of.
    pub observed_generation: i64,
    /// One word: Converged, Growing, Shrinking, GivingWay, CapacityLimited, Suspended, Stale or Failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Replicas that demand asks for, within minReplicas and maxReplicas.
    pub wanted: i64,
    /// Replicas that the pool has room for.
    pub granted: i64,
    /// Replicas that run.
    pub running: i64,
    /// Replicas that run and are ready to serve.
    pub ready: i64,
    /// Replicas on their way up.
    pub starting: i64,
    /// Replicas on their way down.
    pub stopping: i64,
    /// Replicas that exist, for the scale subresource.
    pub replicas: i64,
    /// Label selector of the replicas, for the scale subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The metrics as last read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub demand: Vec<DemandStatus>,
    /// The metrics as last read, in a few words: jobs 120, cpu 0.7 (stale).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub demand_summary: String,
    /// Of the agents that the app may use, those that are prepared for it: 3/4. Of a pooled app its executor is there, of an app with
    /// prefetch its image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared: Option<String>,
    /// Why it is so, in words.
    pub reason: String,
    /// Time from the last change of what is wanted until it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_convergence_milliseconds: Option<f64>,
    /// Ready, Reconciling, Stalled, DemandAvailable, CapacityLimited and GivingWay. Of pooled apps also LimitsEnforced: whether replicas
    /// are held to their memory and CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The state of an app in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    Converged,
    Growing,
    Shrinking,
    GivingWay,
    CapacityLimited,
    Suspended,
    Stale,
    Failed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A metric as last read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DemandStatus {
    /// Name of the metric.
    pub name: String,
    /// Its last value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Age of that value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_milliseconds: Option<i64>,
    /// Fresh, Stale or Failed.
    pub state: DemandState,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What it is expected to be, where it is foreseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastStatus>,
}

/// What a metric is expected to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForecastStatus {
    /// The most that is expected within the horizon.
    pub value: f64,
    /// It has been good of late, and is heeded.
    pub trusted: bool,
    /// How far it was off of late, in percent of what came; absent before there was enough to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_percent: Option<f64>,
    /// How long the seasons are that were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub season_milliseconds: Vec<i64>,
}

/// Whether a metric can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DemandState {
    /// The value is young enough.
    Fresh,
    /// The value is too old, or none has come yet.
    Stale,
    /// The last attempt to read it failed.
    Failed,
}

impl fmt::Display for DemandState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What is known of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PoolStatus {
    /// The generation of the spec that this status speaks of.
    pub observed_generation: i64,
    /// The framework id that Mesos gave to this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<String>,
    /// The master that leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Agents known.
    pub agents: i64,
    /// Tasks that have not ended.
    pub tasks: i64,
    /// What these tasks use, in words.
    pub used: String,
    /// What is free as far as known, in words.
    pub free: String,
    /// Median time from a change of demand until the calls to Mesos or Marathon are written, of the last 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_reaction_milliseconds: Option<f64>,
    /// The 99th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_reaction_milliseconds: Option<f64>,
    /// Median time from the request for a replica until it runs, of the last 1000; where a Marathon starts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_launch_milliseconds: Option<f64>,
    /// The 99th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_launch_milliseconds: Option<f64>,
    /// What is wrong, or what is going on, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Ready, Connected, Stalled; on a Marathon also Tuned: whether its flags let replicas start quickly, and which would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
