//! Deployments: steps one after the other, the actions of one step side by side.

use super::definition::Definition;
use super::ids;
use super::time::{Millis, text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Kind {
    StartApplication,
    ScaleApplication,
    RestartApplication,
    StopApplication,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Phase {
    #[default]
    New,
    /// Waits until what it has killed is gone.
    Killing,
    /// Waits until what it has started runs.
    Starting,
    Done,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Action {
    pub kind: Kind,
    pub app: String,
    /// How many instances there are to be.
    pub instances: usize,
    /// Instances that were named to be killed.
    pub victims: BTreeSet<String>,
    pub phase: Phase,
    pub killing: BTreeSet<String>,
    pub starting: BTreeSet<String>,
    /// A pod's actions are named otherwise.
    pub is_pod: bool,
}

impl Action {
    #[must_use]
    pub fn new(kind: Kind, app: &str, instances: usize) -> Self {
        Self {
            kind,
            app: app.to_owned(),
            instances,
            victims: BTreeSet::new(),
            phase: Phase::New,
            killing: BTreeSet::new(),
            starting: BTreeSet::new(),
            is_pod: false,
        }
    }

    #[must_use]
    pub fn plan_view(&self) -> Value {
        let name = format!("{:?}", self.kind);
        if self.is_pod {
            json!({ "action": name.replace("Application", "Pod"), "pod": self.app })
        } else {
            json!({ "action": name, "app": self.app })
        }
    }

    fn current_view(&self) -> Value {
        let mut view = self.plan_view();
        view["readinessCheckResults"] = json!([]);
        view
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Deployment {
    pub id: String,
    /// Of the whole group that it makes.
    pub version: Millis,
    pub steps: Vec<Vec<Action>>,
    pub current: usize,
    /// What the affected apps were before, and the group's version, for a rollback.
    pub original: BTreeMap<String, Option<Definition>>,
    pub original_version: Millis,
    /// Taken over from an earlier process: it goes without a word if nothing is left to be done.
    pub is_resumed: bool,
}

impl Deployment {
    #[must_use]
    pub fn new(version: Millis, steps: Vec<Vec<Action>>) -> Self {
        Self {
            id: ids::uuid(),
            version,
            steps,
            current: 0,
            original: BTreeMap::new(),
            original_version: version,
            is_resumed: false,
        }
    }

    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().flatten()
    }

    #[must_use]
    pub fn affects(&self, app: &str) -> bool {
        self.actions().any(|action| action.app == app)
    }

    /// As in events.
    #[must_use]
    pub fn plan_view(&self) -> Value {
        let steps: Vec<Value> =
            self.steps.iter().map(|step| json!({ "actions": step.iter().map(Action::plan_view).collect::<Vec<_>>() })).collect();
        json!({ "id": self.id, "steps": steps, "version": text(self.version) })
    }

    /// As in `/v2/deployments`.
    #[must_use]
    pub fn view(&self) -> Value {
        let mut view = self.plan_view();
        let affected = |is_pod: bool| -> BTreeSet<&str> {
            self.actions().filter(|action| action.is_pod == is_pod).map(|action| action.app.as_str()).collect()
        };
        let current = self.steps.get(self.current).map_or(&[][..], Vec::as_slice);
        view["affectedApps"] = json!(affected(false));
        view["affectedPods"] = json!(affected(true));
        view["currentActions"] = current.iter().map(Action::current_view).collect();
        view["currentStep"] = json!(self.current + 1);
        view["totalSteps"] = json!(self.steps.len());
        view
    }
}
