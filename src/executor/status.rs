//! What the agent is told of a task.

use std::sync::Arc;

use serde::Serialize;

use super::wire::{CheckKind, Id};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    #[serde(rename = "TASK_RUNNING")]
    Running,
    #[serde(rename = "TASK_KILLING")]
    Killing,
    #[serde(rename = "TASK_FINISHED")]
    Finished,
    #[serde(rename = "TASK_FAILED")]
    Failed,
    #[serde(rename = "TASK_KILLED")]
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Reason {
    #[serde(rename = "REASON_CONTAINER_LAUNCH_FAILED")]
    ContainerLaunchFailed,
    #[serde(rename = "REASON_CONTAINER_LIMITATION_MEMORY")]
    ContainerLimitationMemory,
    #[serde(rename = "REASON_EXECUTOR_UNREGISTERED")]
    ExecutorUnregistered,
    #[serde(rename = "REASON_MAX_COMPLETION_TIME_REACHED")]
    MaxCompletionTimeReached,
    #[serde(rename = "REASON_TASK_CHECK_STATUS_UPDATED")]
    TaskCheckStatusUpdated,
    #[serde(rename = "REASON_TASK_GROUP_INVALID")]
    TaskGroupInvalid,
    #[serde(rename = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED")]
    TaskHealthCheckStatusUpdated,
    #[serde(rename = "REASON_TASK_INVALID")]
    TaskInvalid,
}

/// A TaskStatus without what [`Told`](super::told::Told) adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub task_id: Id,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_status: Option<CheckStatus>,
}

impl Status {
    pub fn new(task_id: &Arc<str>, state: State) -> Self {
        let task_id = Id { value: task_id.clone() };
        Self { task_id, state, reason: None, message: None, healthy: None, check_status: None }
    }

    pub fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

/// The last result of a task's check; the field of its type is empty while there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckStatus {
    #[serde(rename = "type")]
    pub kind: CheckKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpStatus>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CommandStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HttpStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
}

impl CheckStatus {
    pub fn empty(kind: CheckKind) -> Self {
        let is = |wanted: CheckKind| kind == wanted;
        Self {
            kind,
            command: is(CheckKind::Command).then(CommandStatus::default),
            http: is(CheckKind::Http).then(HttpStatus::default),
            tcp: is(CheckKind::Tcp).then(TcpStatus::default),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_as_mesos_spells_it() {
        let mut status = Status::new(&"t".into(), State::Running).because(Reason::TaskCheckStatusUpdated);
        status.check_status = Some(CheckStatus::empty(CheckKind::Http));
        let expected = r#"{"task_id":{"value":"t"},"state":"TASK_RUNNING","reason":"REASON_TASK_CHECK_STATUS_UPDATED","check_status":{"type":"HTTP","http":{}}}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), expected);
    }
}
