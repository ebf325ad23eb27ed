//! `MicroscalingPool`: the Mesos cluster that apps share, driven by a framework of our own or through a Marathon.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::marathon::Marathon;
use super::protection::PreemptionBudget;
use super::quantity::Quantity;
use super::secret::{SecretRef, SecretValue};
use super::status::PoolStatus;

/// A pool of hosts that apps share.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "microscaling.dev",
    version = "v1alpha1",
    kind = "MicroscalingPool",
    namespaced,
    doc = "A pool of Mesos hosts that MicroscaledApps share.",
    status = "PoolStatus",
    shortname = "mpool",
    category = "all",
    derive = "PartialEq",
    printcolumn(name = "Connected", type_ = "string", json_path = r#".status.conditions[?(@.type=="Connected")].status"#),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.agents"),
    printcolumn(name = "Tasks", type_ = "integer", json_path = ".status.tasks"),
    printcolumn(name = "Used", type_ = "string", json_path = ".status.used"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.free", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct MicroscalingPoolSpec {
    #[serde(flatten)]
    pub backend: Backend,

    /// Ceiling for all apps of the pool together. Default: all that is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,

    /// How many replicas of all apps together may have to give way in a time. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption_budget: Option<PreemptionBudget>,
}

/// What runs the containers.
#[allow(clippy::large_enum_variant, reason = "there are a handful of pools")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// An Apache Mesos cluster, driven as a framework of its own.
    Mesos(Mesos),
    /// A Marathon, driven through its REST API.
    Marathon(Marathon),
}

/// An Apache Mesos cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.secretFile) || has(self.principal)").message("secretFile needs a principal"),
    validation = Rule::new("!has(self.secretRef) || has(self.principal)").message("secretRef needs a principal"),
    validation = Rule::new("!(has(self.secretFile) && has(self.secretRef))").message("name secretFile or secretRef, not both"),
)]
pub struct Mesos {
    /// Addresses of the masters; any of them leads to the leader.
    #[schemars(length(min = 1, max = 16), inner(length(max = 2048), regex(pattern = r"^https?://[^/?#@ \t\r\n]+/?$")))]
    pub masters: Vec<String>,

    /// The role under which resources are offered.
    #[serde(default = "default_role")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\*|[^-./* \t\r\n][^* \t\r\n]*)$"))]
    pub role: String,

    /// Name of the framework in Mesos' own pages. Default: microscaler/NAMESPACE/POOL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub framework_name: Option<String>,

    /// The user that tasks run as on the agents. Default: the user that Microscaler runs as; nobody, where that one has no name, as in a
    /// container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub user: Option<String>,

    /// Principal for HTTP Basic authentication at the master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub principal: Option<String>,

    /// File that holds the principal's secret, where Microscaler runs without Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub secret_file: Option<String>,

    /// Key of a Secret that holds the principal's secret, on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// How long Mesos keeps the tasks while no Microscaler is connected. Default: four weeks.
    #[serde(default = "four_weeks")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub failover_timeout_seconds: i64,

    /// Room that is held in offers so that growth need not wait. Default: none, the pool is kept full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headroom: Option<Amounts>,

    /// The executor of pooled apps: where agents find its program, and what it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,

    /// How long an executor that has no replicas is kept after its last app is gone. Default: five minutes.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub executor_idle_seconds: i64,
}

/// The executor of pooled apps is this same program, `microscaler executor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.path) && has(self.uri))").message("name path or uri, not both"))]
pub struct Executor {
    /// Path of the program on the agents. Default: /usr/local/bin/microscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^/"))]
    pub path: Option<String>,

    /// Where Mesos fetches the program from, once for each agent: an address, or a path on the agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub uri: Option<String>,

    /// Path of the program in the images of those apps that have one. Default: the program of the agent is mounted into them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^/"))]
    pub path_in_images: Option<String>,

    /// What it uses by itself, on each agent. Default: 10m of cpu, 32Mi of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Amounts>,
}

impl Mesos {
    /// Where the principal's secret is kept, if there is one.
    #[must_use]
    pub fn secret(&self) -> Option<SecretValue> {
        let file = || self.secret_file.clone().map(SecretValue::File);
        self.secret_ref.clone().map(SecretValue::SecretRef).or_else(file)
    }
}

fn default_role() -> String {
    "microscaling".to_owned()
}

fn five_minutes() -> i64 {
    300
}

fn four_weeks() -> i64 {
    28 * 24 * 3600
}

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Amounts {
    /// Processor cores: 500m is half a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory in bytes: 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Disk in bytes: 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Whole graphics processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gpu: Option<i64>,
}
