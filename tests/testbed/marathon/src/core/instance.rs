//! Instances: places of an app, each with the task that fills it now. A task that ends is followed by another of the same instance.

use super::ids;
use super::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Goal {
    Running,
    /// It goes when its task has ended.
    Decommissioned,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Condition {
    /// Waits for an offer. Such an instance is in no counter of the API.
    Scheduled,
    /// Sent to Mesos.
    Provisioned,
    Staging,
    Starting,
    Running,
    Killing,
    Killed,
    Finished,
    Failed,
    Error,
    Dropped,
    Gone,
    Unknown,
    Unreachable,
}

impl Condition {
    /// Of a task's state, such as `TASK_RUNNING`.
    #[must_use]
    pub fn of_state(state: &str) -> Self {
        match state {
            "TASK_STAGING" => Self::Staging,
            "TASK_STARTING" => Self::Starting,
            "TASK_RUNNING" => Self::Running,
            "TASK_KILLING" => Self::Killing,
            "TASK_KILLED" => Self::Killed,
            "TASK_FINISHED" => Self::Finished,
            "TASK_FAILED" => Self::Failed,
            "TASK_ERROR" => Self::Error,
            "TASK_DROPPED" => Self::Dropped,
            "TASK_GONE" | "TASK_GONE_BY_OPERATOR" | "TASK_LOST" => Self::Gone,
            "TASK_UNREACHABLE" => Self::Unreachable,
            _ => Self::Unknown,
        }
    }

    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Killed
                | Self::Finished
                | Self::Failed
                | Self::Error
                | Self::Dropped
                | Self::Gone
                | Self::Unknown
                | Self::Unreachable
        )
    }

    /// Counts as `tasksStaged`.
    #[must_use]
    pub fn is_staged(self) -> bool {
        matches!(self, Self::Provisioned | Self::Staging | Self::Starting)
    }

    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Killing)
    }

    /// Whether the end makes the next start wait (`backoffSeconds`).
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Error | Self::Dropped | Self::Gone)
    }

    /// Who is killed first. That those which only wait come last is Marathon's own bug: its table of weights knows tasks alone.
    #[must_use]
    pub fn kill_weight(self) -> u8 {
        match self {
            Self::Unreachable => 1,
            Self::Staging => 2,
            Self::Starting => 3,
            Self::Running | Self::Killing => 4,
            _ => 5,
        }
    }
}

/// What health checks have found of the task.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Health {
    pub is_alive: Option<bool>,
    pub consecutive_failures: u64,
    pub first_success: Option<Millis>,
    pub last_success: Option<Millis>,
    pub last_failure: Option<Millis>,
    pub cause: Option<String>,
    /// When it is to be looked at next, by the server itself.
    pub next_check: Option<Millis>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Instance {
    pub id: String,
    pub app: String,
    /// Of the app, of which it is made: an older one stays, as long as only the number of instances has changed since.
    pub version: Millis,
    /// Later ones have higher numbers.
    pub order: u64,
    pub goal: Goal,
    pub condition: Condition,
    /// Of its task: 1 for the first, 0 before.
    pub incarnation: u32,
    pub scheduled_at: Millis,
    pub agent: Option<String>,
    pub host: Option<String>,
    /// Of the agent, as it was offered.
    #[serde(default)]
    pub attributes: Vec<Value>,
    pub ip_address: Option<String>,
    pub ports: Vec<u16>,
    pub staged_at: Option<Millis>,
    pub started_at: Option<Millis>,
    pub health: Health,
    /// When KILL was last sent.
    pub killed_at: Option<Millis>,
}

impl Instance {
    #[must_use]
    pub fn scheduled(app: &str, version: Millis, order: u64, now: Millis) -> Self {
        Self {
            id: ids::new_instance(app),
            app: app.to_owned(),
            version,
            order,
            goal: Goal::Running,
            condition: Condition::Scheduled,
            incarnation: 0,
            scheduled_at: now,
            agent: None,
            host: None,
            attributes: Vec::new(),
            ip_address: None,
            ports: Vec::new(),
            staged_at: None,
            started_at: None,
            health: Health::default(),
            killed_at: None,
        }
    }

    #[must_use]
    pub fn task(&self) -> String {
        ids::task(&self.id, self.incarnation)
    }

    #[must_use]
    pub fn has_task(&self) -> bool {
        self.condition != Condition::Scheduled
    }

    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.goal == Goal::Decommissioned
    }

    #[must_use]
    pub fn waits_for_offer(&self) -> bool {
        self.condition == Condition::Scheduled && !self.is_doomed()
    }

    /// Waits for an offer again, after its task has ended.
    pub fn reschedule(&mut self, now: Millis) {
        self.condition = Condition::Scheduled;
        self.scheduled_at = now;
        self.agent = None;
        self.host = None;
        self.attributes.clear();
        self.ip_address = None;
        self.ports.clear();
        self.staged_at = None;
        self.started_at = None;
        self.health = Health::default();
        self.killed_at = None;
    }
}
