//! What Mesos is told of tasks and executors.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value as Json;

use super::{Id, Resource};

/// Has either a command or an executor, with `data` for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskInfo {
    pub name: String,
    pub task_id: Id,
    pub agent_id: Id,
    pub resources: Vec<Resource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<Arc<ExecutorInfo>>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Looks and tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Json>,
    /// Looks, tells, and ends the task when it has failed too often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Json>,
    pub kill_policy: KillPolicy,
    pub labels: Labels,
}

/// All of it has to be the same for each task that names an executor which runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExecutorInfo {
    pub executor_id: Id,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub name: String,
    pub source: String,
    pub command: CommandInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Json>,
    pub resources: Vec<Resource>,
}

/// With `shell`, `value` is a line for it; without, it is a program, and `arguments` its arguments with its name in front.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CommandInfo {
    pub shell: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<Uri>,
    pub environment: Environment,
}

/// A file that Mesos fetches into the sandbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Uri {
    pub value: String,
    pub executable: bool,
    pub cache: bool,
    pub output_file: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Environment {
    pub variables: Vec<Variable>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Labels {
    pub labels: Vec<Label>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KillPolicy {
    pub grace_period: Nanoseconds,
}

impl KillPolicy {
    pub fn of_ms(ms: u64) -> Self {
        Self { grace_period: Nanoseconds { nanoseconds: ms.saturating_mul(1_000_000) } }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nanoseconds {
    pub nanoseconds: u64,
}
