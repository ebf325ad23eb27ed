//! A task as the leading master knows it.

use serde_json::Value;
use std::collections::BTreeMap;

/// From `/master/tasks`.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub id: String,
    pub name: String,
    pub framework_id: String,
    pub agent_id: String,
    /// Such as `TASK_RUNNING`.
    pub state: String,
    /// Of scalar resources: cpus, gpus, mem and disk in MB.
    pub resources: BTreeMap<String, f64>,
    pub labels: BTreeMap<String, String>,
}

impl Task {
    pub(crate) fn from_json(task: &Value) -> Self {
        let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
        let resources = task["resources"].as_object().into_iter().flatten();
        let labels = task["labels"].as_array().into_iter().flatten();
        Self {
            id: text("id"),
            name: text("name"),
            framework_id: text("framework_id"),
            agent_id: text("slave_id"),
            state: text("state"),
            resources: resources.filter_map(|(name, amount)| Some((name.clone(), amount.as_f64()?))).collect(),
            labels: labels
                .filter_map(|label| {
                    Some((label["key"].as_str()?.to_owned(), label["value"].as_str().unwrap_or_default().to_owned()))
                })
                .collect(),
        }
    }

    /// Whether its process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == "TASK_RUNNING"
    }

    /// Whether it has ended for good. An unreachable task may come back.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        const LIVE: [&str; 6] =
            ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE", "TASK_UNKNOWN"];
        !LIVE.contains(&self.state.as_str())
    }
}

/// `cluster.tasks()?.running()`.
pub trait Tasks {
    /// Those that have not ended.
    #[must_use]
    fn running(self) -> Vec<Task>;
}

impl Tasks for Vec<Task> {
    fn running(self) -> Vec<Task> {
        self.into_iter().filter(|task| !task.is_terminal()).collect()
    }
}
