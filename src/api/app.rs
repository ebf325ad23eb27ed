//! `MicroscaledApp`: a container, how important it is, and what tells how many of it are wanted.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::demand::Demand;
use super::fallback::{Fallback, Rung};
use super::marathon::MarathonTerms;
use super::panic::Panic;
use super::protection::Protection;
use super::status::AppStatus;
use super::template::{Placement, Template};

/// A container that is kept in step with demand.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "microscaling.dev",
    version = "v1alpha1",
    kind = "MicroscaledApp",
    namespaced,
    doc = "A container that is kept in step with demand on a pool of Mesos hosts, in milliseconds.",
    status = "AppStatus",
    shortname = "msa",
    category = "all",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".status.wanted"),
    printcolumn(name = "Granted", type_ = "integer", json_path = ".status.granted"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.running"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Demand", type_ = "string", json_path = ".status.demandSummary", priority = 1),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.maxReplicas) || self.minReplicas <= self.maxReplicas")
        .message(Message::Expression("'%d is more than maxReplicas (%d)'.format([self.minReplicas, self.maxReplicas])".into()))
        .field_path(".minReplicas"),
    validation = Rule::new("!has(self.demand) || self.demand.filter(d, has(d.remainder)).size() <= 1")
        .message("remainder may be named only once")
        .field_path(".demand"),
    validation = Rule::new("!has(self.fallback) || !has(self.fallbacks)")
        .message("name fallback or fallbacks, not both")
        .field_path(".fallbacks"),
    validation = Rule::new("has(self.template) || has(self.marathonApp)")
        .message("name a template; or marathonApp, an app of a Marathon that is to be scaled; or both, to have it made under that name")
        .field_path(".template"),
)]
pub struct MicroscaledAppSpec {
    /// The MicroscalingPool, in the same namespace, that the app runs on.
    #[serde(default = "default_pool")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub pool: String,

    /// 1 is served first; apps with larger numbers give way to it. Default 100.
    #[serde(default = "default_priority")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub priority: i32,

    /// What part of the room this app gets among those of the same priority that want more than there is: with 2 twice as much as with 1.
    /// Room counts as the app's dominant share of the pool; nothing that runs is ended for it.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: i32,

    /// How many replicas run when no demand is named.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100_000))]
    pub replicas: i32,

    /// Never fewer than this, whatever the demand; no other app can take these away.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub min_replicas: i32,

    /// Never more than this. Without it, the pool is the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_replicas: Option<i32>,

    /// Metrics of demand; the one that asks for most replicas wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub demand: Vec<Demand>,

    /// How many replicas are wanted, as a formula in CEL over metrics of the role Input, in place of the largest of what metrics ask for.
    /// Metrics are called by their names, with _ for -, and are fractions (write 10.0 for 10); replicas is what is wanted by now, ready
    /// what can serve. There are min, max, ceil, floor and round. The result is rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub formula: Option<String>,

    /// What stands in for a metric that is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,

    /// The same, where several are to be tried in their order, or one after the other as time goes by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub fallbacks: Vec<Rung>,

    /// Damping, as in HPA v2; also in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behavior: Option<Behavior>,

    /// Freeze the app at what runs now.
    #[serde(default)]
    pub suspend: bool,

    /// Enforce acts; Observe decides and reports but does nothing.
    #[serde(default)]
    pub mode: Mode,

    /// How a changed template is rolled out.
    #[serde(default)]
    pub rollout: Rollout,

    /// How far replicas that run are spared when others want their room.
    #[serde(default)]
    pub protection: Protection,

    /// How long to wait for the tasks of an agent that cannot be reached before they are replaced. Tasks that come back are then surplus.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86_400_000))]
    pub replace_unreachable_after_milliseconds: i64,

    /// The container that each replica runs. On a Marathon, without one, an app is scaled that is there already: marathonApp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// The id of the app on a Marathon, such as /shop/search. Without a template it is there already and stays as it is, but for its
    /// number of instances. Default, where the pool is a Marathon: /NAMESPACE/NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 512),
        regex(pattern = r"^(/[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)+$")
    )]
    pub marathon_app: Option<String>,

    /// How the app is treated, where the pool is a Marathon.
    #[serde(default)]
    pub marathon: MarathonTerms,

    /// Where replicas may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

fn default_pool() -> String {
    "default".to_owned()
}

fn default_priority() -> i32 {
    100
}

fn one() -> i32 {
    1
}

/// Whether decisions are acted upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    #[default]
    Enforce,
    Observe,
}

/// How a changed template is rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many replicas may run beyond those granted while old ones are replaced.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_surge: i32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_surge: one() }
    }
}

/// Damping in both directions. Defaults: up at once, down after 2 seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// Damping of growth. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingRules>,
    /// Damping of shrinking. Default: a stabilization window of 2 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingRules>,
    /// What a burst of demand leaves behind. Default: nothing but what the stabilization windows hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<Panic>,
}

/// Damping in one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.stabilizationWindowSeconds) && has(self.stabilizationWindowMilliseconds))")
    .message("name stabilizationWindowSeconds or stabilizationWindowMilliseconds, not both"))]
pub struct ScalingRules {
    /// The most cautious recommendation of this window counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: Option<i32>,
    /// The same in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3_600_000))]
    pub stabilization_window_milliseconds: Option<i32>,
    /// Limits of the change per period.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub policies: Vec<ScalingPolicy>,
    /// Which of the policies counts: the one that allows the most change, the least, or no change at all. Default: Max.
    #[serde(default)]
    pub select_policy: SelectPolicy,
    /// A change of the metric relative to its target that is smaller than this is ignored. Default: 0.1 for value and
    /// utilization, and for rate and queue on the way down; 0 otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub tolerance: Option<f64>,
}

/// A limit of the change per period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.periodSeconds) != has(self.periodMilliseconds)")
    .message("name exactly one of periodSeconds and periodMilliseconds"))]
pub struct ScalingPolicy {
    /// Pods counts replicas, Percent is relative to the replicas at the period's start.
    #[serde(rename = "type")]
    pub kind: PolicyKind,
    /// How much may change per period.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub value: i32,
    /// Length of the period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: Option<i32>,
    /// The same in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_800_000))]
    pub period_milliseconds: Option<i32>,
}

/// Pods counts replicas, Percent is relative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyKind {
    Pods,
    Percent,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SelectPolicy {
    #[default]
    Max,
    Min,
    Disabled,
}
