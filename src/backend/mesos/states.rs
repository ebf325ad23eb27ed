//! What a status says of a task: whether and how it has ended (the table of states for PARTITION_AWARE frameworks).

use std::sync::Arc;

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

/// How a task ended by this status, if it did. `None` for states that are not final.
pub fn ending(status: &TaskStatus, killed: bool, confirmed: bool) -> Option<End> {
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
        _ if !status.message.is_empty() => status.message.clone(),
        Some(reason) => reason.into(),
        None => format!("{:?}", status.state).into(),
    }
}
