//! How it is found out whether a replica can serve, and whether it lives.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A check of a replica, made on its own host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.exec), has(self.http), has(self.tcp)].filter(named, named).size() == 1")
    .message("name exactly one of exec, http and tcp"))]
pub struct Probe {
    /// Succeeds when this command ends with status 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Succeeds when a GET is answered with a status of 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGet>,
    /// Succeeds when the port can be connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// Time between two checks.
    #[serde(default = "one_second")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub period_milliseconds: i64,
    /// A check that takes longer has failed.
    #[serde(default = "one_second")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub timeout_milliseconds: i64,
    /// Time from the start of the replica to the first check.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3_600_000))]
    pub initial_delay_milliseconds: i64,
}

/// A check whose failures end the replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Liveness {
    #[serde(flatten)]
    pub probe: Probe,
    /// So many failures in a row end the replica.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: i32,
}

fn three() -> i32 {
    3
}

fn one_second() -> i64 {
    1000
}

/// A command, run beside the replica with its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// Program and arguments.
    #[schemars(length(min = 1, max = 256), inner(length(max = 32_768)))]
    pub command: Vec<String>,
}

/// A GET on the replica's own host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpGet {
    /// Path, with the query if there is one.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^/[^ \t\r\n]*$"))]
    pub path: String,
    /// Name of the port, one of the template's. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub port: Option<String>,
}

fn root() -> String {
    "/".to_owned()
}

/// A connection to the replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tcp {
    /// Name of the port, one of the template's. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub port: Option<String>,
}

impl Probe {
    /// The port that it connects to, by its place among these; `None` for a command, and for a name that is not there.
    #[must_use]
    pub fn port_among(&self, ports: &[super::template::Port]) -> Option<usize> {
        let name = match self {
            Self { http: Some(http), .. } => http.port.as_deref(),
            Self { tcp: Some(tcp), .. } => tcp.port.as_deref(),
            _ => return None,
        };
        match name {
            None => (!ports.is_empty()).then_some(0),
            Some(name) => ports.iter().position(|port| port.name == name),
        }
    }
}
