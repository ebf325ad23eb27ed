//! What a status says of a task: whether and how it has ended (the table of states for PARTITION_AWARE frameworks).

use std::sync::Arc;

use super::executor::parse_executor_id;
use super::wire::{State, TaskStatus};
use crate::backend::End;

/// An ending that is not the task's own doing.
fn taken_away(status: &TaskStatus) -> bool {
    const REASONS: [&str; 11] = [
        "REASON_AGENT_DRAINING",
        "REASON_AGENT_DISCONNECTED",
        "REASON_AGENT_REMOVED",
        "REASON_AGENT_REMOVED_BY_OPERATOR",
        "REASON_AGENT_RESTARTED",
        "REASON_AGENT_UNKNOWN",
        "REASON_CONTAINER_PREEMPTED",
        "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
        "REASON_EXECUTOR_UNREGISTERED",
        "REASON_GC_ERROR",
        "REASON_MASTER_DISCONNECTED",
    ];
    status.reason.as_deref().is_some_and(|reason| REASONS.contains(&reason))
}

/// What is known of a task when it ends.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, in any combination")]
pub struct Known {
    /// We asked for its end.
    pub killed: bool,
    /// The master or an agent has spoken of it as alive.
    pub confirmed: bool,
    /// It has run.
    pub ran: bool,
    /// It is a process of an executor that it shares.
    pub pooled: bool,
    /// That executor is not up: it has not registered yet, or has ended meanwhile.
    pub executor_down: bool,
}

/// How a task ended by this status, if it did. `None` for states that are not final.
pub fn ending(status: &TaskStatus, known: Known) -> Option<End> {
    let Known { killed, confirmed, ran, pooled, executor_down } = known;
    let end = match status.state {
        State::TaskFinished
        | State::TaskFailed
        | State::TaskKilled
        | State::TaskDropped
        | State::TaskGone
        | State::TaskGoneByOperator
            if killed =>
        {
            End::Killed
        }
        State::TaskFinished | State::TaskFailed | State::TaskKilled if taken_away(status) => End::Lost,
        // The request is as likely to have been refused for what it says of the executor, which waits before it is started again.
        State::TaskError if executor_down => End::Dropped,
        _ if pooled && is_executors_end(status) => {
            if ran {
                End::Lost
            } else {
                End::Dropped
            }
        }
        // Mesos' own executor has ended it, as its liveness asks for. Ours calls that a failure, and may have been asked for this end.
        State::TaskKilled if status.healthy == Some(false) && !pooled => End::Failed,
        State::TaskKilled => End::Killed,
        State::TaskFinished => End::Finished,
        State::TaskFailed => End::Failed,
        State::TaskError => End::Refused,
        State::TaskDropped => End::Dropped,
        State::TaskGone if !confirmed => End::Dropped,
        State::TaskGone | State::TaskGoneByOperator => End::Lost,
        _ => return None,
    };
    Some(end)
}

/// Whether a task has ended because its executor has.
pub fn is_executors_end(status: &TaskStatus) -> bool {
    const REASONS: [&str; 5] = [
        "REASON_EXECUTOR_TERMINATED",
        "REASON_EXECUTOR_UNREGISTERED",
        "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
        "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
        "REASON_IO_SWITCHBOARD_EXITED",
    ];
    let over = matches!(
        status.state,
        State::TaskFailed | State::TaskGone | State::TaskDropped | State::TaskKilled | State::TaskFinished
    );
    let reason = status.reason.as_deref().unwrap_or_default();
    // An executor that tells of its tasks lives, whatever it says.
    let agent = status.source.as_deref() != Some("SOURCE_EXECUTOR");
    over && agent && (REASONS.contains(&reason) || reason.starts_with("REASON_CONTAINER_"))
}

/// Whether the status tells of an executor of ours.
fn is_ours(status: &TaskStatus) -> bool {
    status.executor_id.as_ref().is_some_and(|id| parse_executor_id(&id.value).is_some())
}

/// Whether the master says so because it was asked.
pub fn is_answer(status: &TaskStatus) -> bool {
    status.reason.as_deref() == Some("REASON_RECONCILIATION")
}

/// Whether an operator empties the agent.
pub fn is_drain(status: &TaskStatus) -> bool {
    status.reason.as_deref() == Some("REASON_AGENT_DRAINING") || status.state == State::TaskGoneByOperator
}

/// What happened, in words.
pub fn message(status: &TaskStatus) -> Arc<str> {
    match status.reason.as_deref() {
        _ if status.state == State::TaskKilled && status.healthy == Some(false) && !is_ours(status) => {
            format!("ended as it was unhealthy: {}", status.message).into()
        }
        _ if !status.message.is_empty() => status.message.clone(),
        Some(reason) => reason.into(),
        None => format!("{:?}", status.state).into(),
    }
}
