//! What the framework and the pooled executor tell each other, where Mesos has no field of its own for it.

use serde::{Deserialize, Serialize};

/// What a task runs: `TaskInfo.data`, as JSON, since Mesos allows no `command` beside an executor. All else (resources, kill policy,
/// `check`, `health_check`) stands where Mesos has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// A line for /bin/sh -c; else `argv` counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Program and arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Name and value, in order; a later one of the same name counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// Where it starts; by default in a directory of its own in the executor's sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Nothing is run and the task has finished as soon as it arrives: it was launched to start the executor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nothing: bool,
}

/// What an executor says of itself (the executor API's MESSAGE, as JSON) after it has subscribed, and whenever it is sent a MESSAGE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// Of the program.
    pub version: String,
    /// Why tasks are not held to their memory and CPU, each by itself; none if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlimited: Option<String>,
}
