//! The container that an app runs, and where it may run.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::container::{Containerizer, Launch, Volume};
use super::probe::{Liveness, Probe};
use super::quantity::Quantity;

/// The container that each replica runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.command) != has(self.shell)").message("name exactly one of command and shell"),
    validation = Rule::new("has(self.image) || self.containerizer == 'mesos'").message("containerizer docker needs an image"),
    validation = Rule::new("has(self.image) || !self.prefetch").message("prefetch needs an image"),
    validation = Rule::new("has(self.image) || !has(self.volumes) || self.volumes.size() == 0").message("volumes need an image"),
    validation = Rule::new("self.launch == 'isolated' || self.containerizer == 'mesos'")
        .message("pooled replicas run in images by containerizer mesos: docker would lose them when an agent restarts"),
    validation = Rule::new("self.launch == 'isolated' || !has(self.resources.gpu) || self.resources.gpu == 0")
        .message("pooled replicas share a container, and so cannot have a gpu each"),
    validation = Rule::new("self.containerizer == 'mesos' || !has(self.readiness) || !has(self.liveness)")
        .message("docker knows one check of a container: name readiness or liveness"),
    validation = Rule::new("!has(self.readiness) || has(self.readiness.exec) || (has(self.ports) && self.ports.size() > 0)")
        .message("readiness by http or tcp needs one of ports"),
    validation = Rule::new("!has(self.liveness) || has(self.liveness.exec) || (has(self.ports) && self.ports.size() > 0)")
        .message("liveness by http or tcp needs one of ports"),
    validation = Rule::new("!has(self.readiness) || !has(self.ports) || ((!has(self.readiness.http) || !has(self.readiness.http.port) || self.ports.exists(p, p.name == self.readiness.http.port)) && (!has(self.readiness.tcp) || !has(self.readiness.tcp.port) || self.ports.exists(p, p.name == self.readiness.tcp.port)))")
        .message("readiness names a port that is none of ports"),
    validation = Rule::new("!has(self.liveness) || !has(self.ports) || ((!has(self.liveness.http) || !has(self.liveness.http.port) || self.ports.exists(p, p.name == self.liveness.http.port)) && (!has(self.liveness.tcp) || !has(self.liveness.tcp.port) || self.ports.exists(p, p.name == self.liveness.tcp.port)))")
        .message("liveness names a port that is none of ports"),
)]
pub struct Template {
    /// What one replica uses.
    pub resources: ResourceList,

    /// How replicas are started: isolated (the default), each in a container of its own, or pooled, in milliseconds.
    #[serde(default)]
    pub launch: Launch,

    /// The image that replicas run in. Without one they see the host's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^[^ \t\r\n]+$"))]
    pub image: Option<String>,

    /// What runs the image: mesos (the default) or docker.
    #[serde(default)]
    pub containerizer: Containerizer,

    /// Fetch the image to the agents before a replica is to start there.
    #[serde(default)]
    pub prefetch: bool,

    /// Directories of the host in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volumes: Vec<Volume>,

    /// Where the command starts. Default: the replica's sandbox, or what the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^/"))]
    pub working_directory: Option<String>,

    /// The user that replicas run as. Default: the pool's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub user: Option<String>,

    /// A replica counts as ready while this succeeds. Default: as soon as it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Probe>,

    /// A replica is ended, and replaced, when this fails three times in a row, or as often as failureThreshold says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,

    /// Program and arguments. $(NAME) is replaced by the environment variable NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(max = 32_768)))]
    pub command: Option<Vec<String>>,

    /// A line for /bin/sh -c, instead of command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32_768))]
    pub shell: Option<String>,

    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,

    /// Ports that each replica gets on its host. The number of port `http` is in the variable PORT_HTTP, that of the first also in PORT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<Port>,

    /// Time between the request to end (SIGTERM) and the end by force (SIGKILL). 0: at once by force.
    #[serde(default = "three_seconds")]
    #[schemars(range(min = 0, max = 86_400_000))]
    pub grace_period_milliseconds: i64,
}

fn three_seconds() -> i64 {
    3000
}

impl Template {
    /// Of an app whose template a Marathon keeps: nothing is known of it here.
    #[must_use]
    pub(super) fn of_marathon() -> Self {
        let nothing = || Quantity("0".to_owned());
        Self {
            resources: ResourceList { cpu: nothing(), memory: nothing(), disk: None, gpu: None },
            launch: Launch::default(),
            image: None,
            containerizer: Containerizer::default(),
            prefetch: false,
            volumes: Vec::new(),
            working_directory: None,
            user: None,
            readiness: None,
            liveness: None,
            command: None,
            shell: None,
            env: Vec::new(),
            ports: Vec::new(),
            grace_period_milliseconds: three_seconds(),
        }
    }
}

/// What one replica uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("string(self.cpu).matches('[1-9]') || string(self.memory).matches('[1-9]')")
    .message("cpu and memory are both 0, so Mesos would refuse the task"))]
pub struct ResourceList {
    /// Processor cores: 500m is half a core.
    pub cpu: Quantity,
    /// Memory in bytes: 64Mi.
    pub memory: Quantity,
    /// Disk in bytes: 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Whole graphics processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    pub gpu: Option<i64>,
}

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    pub name: String,
    /// Its value; $(NAME) is replaced by a variable named before it or by a port's.
    #[serde(default)]
    #[schemars(length(max = 131_072))]
    pub value: String,
}

/// A port on the replica's host, chosen from those that the host offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// Name of the port: `http` gives the variable PORT_HTTP.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// Where replicas may run and how they are laid out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// `pack` (the default) fills one agent before the next; any other word is an agent attribute, such as rack or hostname, over
    /// whose values the replicas are spread evenly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub spread: Option<String>,

    /// Conditions that an agent must meet, all of them.
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub requirements: Vec<Requirement>,
}

/// A condition on an agent, as a node selector requirement of Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) : has(self.values)")
        .message("In, NotIn, Gt and Lt need values; Exists and DoesNotExist take none"),
    validation = Rule::new("!(self.operator in ['Gt', 'Lt']) || (has(self.values) && self.values.size() == 1 && self.values[0].matches('^-?[0-9]+(\\\\.[0-9]+)?$'))")
        .message("Gt and Lt take exactly one number"),
)]
pub struct Requirement {
    /// Name of an agent attribute; `hostname` is the agent's host.
    #[schemars(length(min = 1, max = 253))]
    pub attribute: String,
    /// How the attribute is compared.
    pub operator: Operator,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 253)))]
    pub values: Option<Vec<String>>,
}

/// How an attribute is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}
