//! Everything that Marathon decides, without a socket or a clock: the time is an argument, events and calls to Mesos are collected.
//!
//! | for | look in |
//! |---|---|
//! | app definitions and their checks | `definition` |
//! | requests that change apps | `update`, `plan` |
//! | what deployments do | `deployment`, `deploy`, `replace`, `kill` |
//! | what Mesos says | `status`, `offers`, `constraints`, `task_info` |
//! | when offers are asked for | `revive` |
//! | how long a failed app waits, and `/v2/queue` | `queue` |
//! | answers and events | `view`, `events` |

pub mod constraints;
pub mod definition;
mod deploy;
pub mod deployment;
pub mod events;
mod groups;
pub mod health;
pub mod ids;
pub mod instance;
mod kill;
mod offers;
pub mod plan;
mod pods;
pub mod queue;
pub mod refusal;
mod replace;
pub mod revive;
mod status;
mod task_info;
#[cfg(test)]
mod tests;
pub mod time;
mod update;
pub mod view;

pub use update::{Accepted, Change};

use crate::settings::Settings;
use definition::Definition;
use deployment::Deployment;
use events::Event;
use instance::Instance;
use queue::Launches;
use refusal::Refusal;
use revive::Reviver;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use time::Millis;

/// What survives the process.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct State {
    pub framework_id: Option<String>,
    pub apps: BTreeMap<String, App>,
    /// Groups that were made as such; others are only the paths of their apps.
    pub groups: BTreeMap<String, Group>,
    pub instances: BTreeMap<String, Instance>,
    pub deployments: Vec<Deployment>,
    /// Of the root group.
    pub version: Millis,
    pub last_order: u64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Group {
    pub version: Millis,
    pub dependencies: BTreeSet<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct App {
    pub definition: Definition,
    pub version: Millis,
    pub last_scaling: Millis,
    pub last_change: Millis,
    /// All versions, also of updates that were refused with 409.
    pub history: BTreeMap<Millis, Definition>,
    pub last_failure: Option<Value>,
    pub is_pod: bool,
}

/// A call to Mesos.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Accept {
        offer: String,
        tasks: Vec<Value>,
    },
    Decline {
        offer: String,
        refuse: Millis,
    },
    Kill {
        task: String,
    },
    Revive,
    /// Whether offers are suppressed from now on.
    Suppress(bool),
}

pub struct Core {
    pub settings: Settings,
    pub state: State,
    queue: BTreeMap<String, Launches>,
    reviver: Reviver,
    /// Offers that nothing waits for, and until when they are kept.
    held_offers: Vec<(Millis, Value)>,
    tokens: usize,
    tokens_refilled_at: Millis,
    next_scale_check: Millis,
    /// When the process ends, because more instances are wanted than it has memory for.
    pub ends_at: Option<Millis>,
    pub events: Vec<Event>,
    pub calls: Vec<Call>,
    /// Whether the state differs from what is written.
    pub is_dirty: bool,
}

impl Core {
    /// Goes on with a state: deployments are taken up again.
    #[must_use]
    pub fn new(settings: Settings, mut state: State, now: Millis) -> Self {
        if state.version == 0 {
            state.version = now;
        }
        for deployment in &mut state.deployments {
            deployment.is_resumed = true;
            let current = deployment.current;
            deployment.steps.iter_mut().skip(current).flatten().for_each(|action| action.phase = deployment::Phase::New);
        }
        Self {
            reviver: Reviver::new(&settings, now),
            tokens: settings.launch_tokens,
            tokens_refilled_at: now,
            next_scale_check: now + settings.scale_apps_initial_delay,
            settings,
            state,
            queue: BTreeMap::new(),
            held_offers: Vec::new(),
            ends_at: None,
            events: Vec::new(),
            calls: Vec::new(),
            is_dirty: true,
        }
    }

    fn publish(&mut self, event: Event) {
        self.is_dirty = true;
        self.events.push(event);
    }

    /// # Errors
    /// 404, with `details` as reads have them.
    pub fn app(&self, id: &str) -> Result<&App, Refusal> {
        self.state.apps.get(id).ok_or_else(|| Refusal::missing("App", id, true))
    }

    pub fn instances_of(&self, app: &str) -> impl Iterator<Item = &Instance> {
        self.state.instances.values().filter(move |instance| instance.app == app)
    }

    fn is_locked(&self, app: &str) -> bool {
        self.state.deployments.iter().any(|deployment| deployment.affects(app))
    }

    /// Whether the instance counts for its deployment: it runs, and is healthy if that is looked at.
    fn is_ready(&self, instance: &Instance) -> bool {
        instance.condition.is_running() && (!self.has_health_checks(instance) || instance.health.is_alive == Some(true))
    }

    fn has_health_checks(&self, instance: &Instance) -> bool {
        self.definition_of(instance).is_some_and(|definition| !definition.list("healthChecks").is_empty())
    }

    /// The definition that the instance is made of.
    fn definition_of(&self, instance: &Instance) -> Option<&Definition> {
        let app = self.state.apps.get(&instance.app)?;
        Some(app.history.get(&instance.version).unwrap_or(&app.definition))
    }

    /// What time alone brings about.
    pub fn tick(&mut self, now: Millis) {
        if now >= self.tokens_refilled_at + self.settings.launch_token_refresh_interval {
            self.tokens = self.settings.launch_tokens;
            self.tokens_refilled_at = now;
        }
        if now >= self.next_scale_check {
            self.next_scale_check = now + self.settings.scale_apps_interval;
            let apps: Vec<String> = self.state.apps.keys().cloned().collect();
            apps.iter().for_each(|app| self.scale_check(app, now));
        }
        self.repeat_kills(now);
        self.advance_deployments(now);
        self.use_held_offers(now);
        let wanted = self.launchable(now).next().is_some();
        let calls = self.reviver.calls(wanted, now);
        self.calls.extend(calls);
    }

    /// The latest time at which [`tick`](Self::tick) is to be called again.
    #[must_use]
    pub fn next_tick(&self, now: Millis) -> Millis {
        let delays = self.queue.values().filter_map(|launches| launches.next_start(now));
        let checks = self.state.instances.values().filter_map(|instance| instance.health.next_check);
        let waiting =
            self.state.instances.values().filter(|instance| instance.waits_for_offer()).map(|instance| instance.scheduled_at);
        let held = self.held_offers.iter().map(|(deadline, _)| *deadline);
        let others = [
            self.next_scale_check,
            self.reviver.next_call(),
            self.tokens_refilled_at + self.settings.launch_token_refresh_interval,
        ];
        delays
            .chain(checks)
            .chain(held)
            .chain(waiting)
            .chain(others)
            .chain(self.ends_at)
            .filter(|time| *time > now)
            .min()
            .unwrap_or(now + 1000)
            .min(now + 1000)
    }
}
