//! Calls: what is written to the master.

use std::sync::Arc;

use serde::Serialize;

use super::{Id, KillPolicy, Message, TaskInfo, Value};

/// A call other than SUBSCRIBE. The framework's id and the stream's id are added where it is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Call {
    Acknowledge { acknowledge: Acknowledge },
    Kill { kill: Kill },
    Accept { accept: Accept },
    Decline { decline: Decline },
    AcceptInverseOffers { accept_inverse_offers: AcceptInverse },
    Suppress { suppress: Roles },
    Revive { revive: Roles },
    Reconcile { reconcile: Reconcile },
    Shutdown { shutdown: Shutdown },
    Message { message: Message },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Acknowledge {
    pub agent_id: Id,
    pub task_id: Id,
    pub uuid: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "as Mesos names them")]
pub struct Kill {
    pub task_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accept {
    pub offer_ids: Vec<Id>,
    pub operations: Vec<Operation>,
    pub filters: Filters,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Operation {
    Launch { launch: LaunchTasks },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaunchTasks {
    pub task_infos: Vec<TaskInfo>,
}

/// Always written: without it Mesos withholds what was left for 5 s.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Filters {
    pub refuse_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decline {
    pub offer_ids: Vec<Id>,
    pub filters: Filters,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AcceptInverse {
    pub inverse_offer_ids: Vec<Id>,
    pub filters: Filters,
}

/// Never empty: an empty list means all roles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roles {
    pub roles: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reconcile {
    /// Empty: all that the master knows ("implicit").
    pub tasks: Vec<ReconcileTask>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReconcileTask {
    pub task_id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Id>,
}

/// Ends an executor with all its tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shutdown {
    pub executor_id: Id,
    pub agent_id: Id,
}

impl Call {
    pub fn kill(task: &Arc<str>, agent: Option<&Arc<str>>, grace_ms: Option<u64>) -> Self {
        Self::Kill {
            kill: Kill {
                task_id: task.clone().into(),
                agent_id: agent.cloned().map(Value::from),
                kill_policy: grace_ms.map(KillPolicy::of_ms),
            },
        }
    }

    pub fn decline(offers: impl IntoIterator<Item = Arc<str>>, refuse_seconds: f64) -> Self {
        let offer_ids = offers.into_iter().map(Value::from).collect();
        Self::Decline { decline: Decline { offer_ids, filters: Filters { refuse_seconds } } }
    }

    /// Whoever planned the maintenance is told that it may begin, as far as it depends on us.
    pub fn accept_inverse(asked: impl IntoIterator<Item = Arc<str>>) -> Self {
        let inverse_offer_ids = asked.into_iter().map(Value::from).collect();
        Self::AcceptInverseOffers {
            accept_inverse_offers: AcceptInverse { inverse_offer_ids, filters: Filters { refuse_seconds: 0.0 } },
        }
    }

    pub fn revive(role: &str) -> Self {
        Self::Revive { revive: Roles { roles: vec![role.to_owned()] } }
    }

    pub fn suppress(role: &str) -> Self {
        Self::Suppress { suppress: Roles { roles: vec![role.to_owned()] } }
    }

    pub fn reconcile(tasks: Vec<ReconcileTask>) -> Self {
        Self::Reconcile { reconcile: Reconcile { tasks } }
    }

    pub fn shutdown(executor: &Arc<str>, agent: &Arc<str>) -> Self {
        Self::Shutdown { shutdown: Shutdown { executor_id: executor.clone().into(), agent_id: agent.clone().into() } }
    }

    /// `data` in base64.
    pub fn message(executor: &Arc<str>, agent: &Arc<str>, data: &str) -> Self {
        let (executor_id, agent_id) = (executor.clone().into(), agent.clone().into());
        Self::Message { message: Message { agent_id, executor_id, data: data.to_owned() } }
    }

    /// As metrics name it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Acknowledge { .. } => Kind::Acknowledge,
            Self::Kill { .. } => Kind::Kill,
            Self::Accept { .. } => Kind::Accept,
            Self::Decline { .. } => Kind::Decline,
            Self::AcceptInverseOffers { .. } => Kind::AcceptInverse,
            Self::Suppress { .. } => Kind::Suppress,
            Self::Revive { .. } => Kind::Revive,
            Self::Reconcile { .. } => Kind::Reconcile,
            Self::Shutdown { .. } => Kind::Shutdown,
            Self::Message { .. } => Kind::Message,
        }
    }
}

/// The kinds of calls, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Acknowledge,
    Kill,
    Accept,
    Decline,
    AcceptInverse,
    Suppress,
    Revive,
    Reconcile,
    Shutdown,
    Message,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Acknowledge,
        Self::Kill,
        Self::Accept,
        Self::Decline,
        Self::AcceptInverse,
        Self::Suppress,
        Self::Revive,
        Self::Reconcile,
        Self::Shutdown,
        Self::Message,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Kill => "kill",
            Self::Accept => "accept",
            Self::Decline => "decline",
            Self::AcceptInverse => "accept_inverse_offers",
            Self::Suppress => "suppress",
            Self::Revive => "revive",
            Self::Reconcile => "reconcile",
            Self::Shutdown => "shutdown",
            Self::Message => "message",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_forms_that_the_master_reads() {
        let json = |call: &Call| serde_json::to_string(call).unwrap();
        assert_eq!(
            json(&Call::accept_inverse(["I1".into()])),
            r#"{"type":"ACCEPT_INVERSE_OFFERS","accept_inverse_offers":{"inverse_offer_ids":[{"value":"I1"}],"filters":{"refuse_seconds":0.0}}}"#
        );
        assert_eq!(json(&Call::revive("web")), r#"{"type":"REVIVE","revive":{"roles":["web"]}}"#);
        assert_eq!(json(&Call::reconcile(Vec::new())), r#"{"type":"RECONCILE","reconcile":{"tasks":[]}}"#);
        assert_eq!(
            json(&Call::kill(&"t".into(), Some(&"a".into()), Some(0))),
            r#"{"type":"KILL","kill":{"task_id":{"value":"t"},"agent_id":{"value":"a"},"kill_policy":{"grace_period":{"nanoseconds":0}}}}"#
        );
        assert_eq!(
            json(&Call::shutdown(&"e".into(), &"a".into())),
            r#"{"type":"SHUTDOWN","shutdown":{"executor_id":{"value":"e"},"agent_id":{"value":"a"}}}"#
        );
        assert_eq!(
            json(&Call::message(&"e".into(), &"a".into(), "eA==")),
            r#"{"type":"MESSAGE","message":{"agent_id":{"value":"a"},"executor_id":{"value":"e"},"data":"eA=="}}"#
        );
        assert_eq!(
            json(&Call::decline(["o".into()], 300.0)),
            r#"{"type":"DECLINE","decline":{"offer_ids":[{"value":"o"}],"filters":{"refuse_seconds":300.0}}}"#
        );
    }
}
