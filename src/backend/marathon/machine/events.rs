//! What is heard on the event stream.

use std::sync::Arc;

use super::{LOOK_CLOSER_MS, Machine, Out};
use crate::api::validated::{Key, Version};
use crate::backend::marathon::ledger::{Instance, State};
use crate::backend::marathon::wire::{Event, Plan, first_task, instance_of};
use crate::backend::{End, Ending};
use crate::policy::world::{Millis, World};

/// A change of one instance.
struct Change<'a> {
    app: &'a Arc<str>,
    instance: &'a str,
    /// Id and incarnation of its task, where they are told.
    task: Option<(&'a Arc<str>, u32)>,
    agent: Option<&'a Arc<str>>,
    host: Option<&'a Arc<str>>,
    version: Option<&'a Arc<str>>,
    timestamp: &'a Arc<str>,
    message: &'a str,
}

/// What an instance has come to, by the state of its task or its own condition.
enum Became {
    Waiting,
    Up(State),
    Ending,
    Over(End),
    Unknown,
}

impl Machine {
    pub(super) fn heard(&mut self, event: Event, world: &mut World, now: Millis, out: &mut Out) {
        self.take_event(&event, world, now, out);
        if let Some(reading) = &mut self.reading {
            reading.since.push(event);
        }
    }

    pub(super) fn take_event(&mut self, event: &Event, world: &mut World, now: Millis, out: &mut Out) {
        match event {
            Event::StatusUpdateEvent { task_id, task_status, app_id, slave_id, host, message, version, timestamp } => {
                let (instance, incarnation) = instance_of(task_id);
                let change = Change {
                    app: app_id,
                    instance,
                    task: Some((task_id, incarnation)),
                    agent: slave_id.as_ref(),
                    host: host.as_ref(),
                    version: version.as_ref(),
                    timestamp,
                    message,
                };
                self.instance(&change, &by_status(task_status), world, now, out);
            }
            Event::InstanceChangedEvent { instance_id, condition, run_spec_id, agent_id, host, run_spec_version, timestamp } => {
                let change = Change {
                    app: run_spec_id,
                    instance: instance_id,
                    task: None,
                    agent: agent_id.as_ref(),
                    host: host.as_ref(),
                    version: run_spec_version.as_ref(),
                    timestamp,
                    message: "",
                };
                self.instance(&change, &by_condition(condition), world, now, out);
            }
            Event::InstanceHealthChangedEvent { instance_id, run_spec_id, healthy } => {
                self.edit(run_spec_id, instance_id, |instance| instance.healthy = *healthy);
            }
            Event::UnhealthyInstanceKillEvent { app_id, instance_id } => {
                if let Some(id) = instance_id {
                    self.edit(app_id, id, |instance| instance.unhealthy = true);
                }
            }
            Event::DeploymentInfo { plan } => self.deploys(plan, now),
            Event::DeploymentSuccess { id } | Event::DeploymentFailed { id } => self.deployed(id, now),
            Event::AppTerminatedEvent { app_id } => {
                if self.by_id.contains_key(app_id) {
                    self.read_by(now);
                }
            }
            Event::Other => {}
        }
    }

    fn edit(&mut self, app: &Arc<str>, instance: &Arc<str>, change: impl Fn(&mut Instance)) {
        let Some(key) = self.by_id.get(app).cloned() else { return };
        if let Some(instance) = self.apps.get_mut(&key).and_then(|app| app.instances.get_mut(instance)) {
            change(instance);
            self.touch(&key);
        }
    }

    fn instance(&mut self, change: &Change, became: &Became, world: &mut World, now: Millis, out: &mut Out) {
        let Some(key) = self.by_id.get(change.app).cloned() else { return };
        match became {
            Became::Unknown => return,
            Became::Up(state) => self.up(&key, change, *state, world, now),
            Became::Ending => {
                if let Some(instance) = self.apps.get_mut(&key).and_then(|app| app.instances.get_mut(change.instance)) {
                    instance.doomed.get_or_insert(now);
                }
            }
            // It waits again: its task has ended, and that was not heard.
            Became::Waiting => self.over(&key, change, End::Lost, now, out),
            Became::Over(how) => self.over(&key, change, *how, now, out),
        }
        self.touch(&key);
    }

    fn up(&mut self, key: &Key, change: &Change, state: State, world: &mut World, now: Millis) {
        let agent = self.room.agent(world, change.agent, change.host);
        let Some(app) = self.apps.get_mut(key) else { return };
        let incarnation = change.task.map(|(_, incarnation)| incarnation);
        let known = app.instances.get(change.instance);
        if known.is_some_and(|known| incarnation.is_some_and(|incarnation| incarnation < known.incarnation)) {
            return;
        }
        let is_new = known.is_none();
        if is_new && app.live() < app.target {
            app.found_place(agent);
        }
        let instance = app.instances.entry(change.instance.into()).or_insert_with(|| Instance {
            task: first_task(change.instance),
            incarnation: 1,
            agent,
            state,
            healthy: None,
            version: None,
            active_since: None,
            since: now,
            born: now,
            chosen: false,
            doomed: None,
            unhealthy: false,
        });
        let runs = state == State::Running && (is_new || instance.state == State::Starting);
        if instance.state != state {
            (instance.state, instance.since) = (state, now);
        }
        if let Some((task, incarnation)) = change.task {
            (instance.task, instance.incarnation) = (task.clone(), incarnation);
        }
        if change.agent.is_some() {
            instance.agent = agent;
        }
        instance.version = change.version.cloned().or(instance.version.take());
        if runs {
            instance.active_since = Some(change.timestamp.clone());
            if let Some(asked) = app.asked_at.pop_front() {
                self.launches.push(std::time::Duration::from_millis(now.saturating_sub(asked)));
            }
        }
    }

    fn over(&mut self, key: &Key, change: &Change, how: End, now: Millis, out: &mut Out) {
        let Some(app) = self.apps.get_mut(key) else { return };
        let Some(known) = app.instances.get(change.instance) else { return };
        if change.task.is_some_and(|(_, incarnation)| incarnation < known.incarnation) {
            return;
        }
        let version = app.given.as_ref().map(|spec| spec.version);
        let Some(instance) = app.instances.remove(change.instance) else { return };
        if how == End::Killed && instance.doomed.is_none() {
            app.was_other();
        }
        out.end(ending(key, version, &instance, how, change.message, now));
        if app.deployments.is_empty() {
            self.read_by(now + LOOK_CLOSER_MS);
        }
    }

    /// A deployment is under way. One that is not ours means that somebody else changes something.
    fn deploys(&mut self, plan: &Plan, now: Millis) {
        let mut others = false;
        for id in plan.apps() {
            let Some(app) = self.by_id.get(id).and_then(|key| self.apps.get_mut(key)) else { continue };
            if !app.deployments.insert(plan.id.clone()) || app.is_ours(&plan.id) {
                continue;
            }
            if app.busy {
                app.unclaimed.push(plan.id.clone());
            } else {
                others = true;
            }
        }
        if others {
            self.read_by(now);
        }
    }

    fn deployed(&mut self, id: &Arc<str>, now: Millis) {
        let mut short = false;
        for app in self.apps.values_mut() {
            if app.deployments.remove(id) {
                short |= app.known.as_ref().is_some_and(|known| known.instances != app.placed());
            }
        }
        // Its success does not mean that all is as asked for.
        if short {
            self.read_by(now + LOOK_CLOSER_MS);
        }
    }
}

pub(super) fn ending(key: &Key, version: Option<Version>, instance: &Instance, how: End, message: &str, now: Millis) -> Ending {
    let how = if instance.unhealthy && how == End::Killed { End::Failed } else { how };
    let message = match (how, message) {
        (End::Failed, "") if instance.unhealthy => "a health check failed too often",
        (_, "") => "Marathon has not said why",
        (_, message) => message,
    };
    Ending {
        app: key.clone(),
        task: instance.task.clone(),
        agent: instance.agent,
        version,
        how,
        message: message.into(),
        born: instance.born,
        ran_ms: if instance.state == State::Running { now.saturating_sub(instance.since) } else { 0 },
    }
}

fn by_status(status: &str) -> Became {
    match status {
        "TASK_STAGING" | "TASK_STARTING" => Became::Up(State::Starting),
        "TASK_RUNNING" => Became::Up(State::Running),
        "TASK_KILLING" => Became::Ending,
        "TASK_UNREACHABLE" => Became::Up(State::Unreachable),
        "TASK_FINISHED" => Became::Over(End::Finished),
        "TASK_FAILED" => Became::Over(End::Failed),
        "TASK_KILLED" => Became::Over(End::Killed),
        "TASK_ERROR" => Became::Over(End::Refused),
        "TASK_DROPPED" => Became::Over(End::Dropped),
        "TASK_LOST" | "TASK_GONE" | "TASK_GONE_BY_OPERATOR" | "TASK_UNKNOWN" => Became::Over(End::Lost),
        _ => Became::Unknown,
    }
}

fn by_condition(condition: &str) -> Became {
    match condition {
        "Scheduled" => Became::Waiting,
        "Provisioned" | "Created" | "Staging" | "Starting" => Became::Up(State::Starting),
        "Running" => Became::Up(State::Running),
        "Killing" => Became::Ending,
        "Unreachable" => Became::Up(State::Unreachable),
        "Finished" => Became::Over(End::Finished),
        "Failed" => Became::Over(End::Failed),
        "Killed" => Became::Over(End::Killed),
        "Error" => Became::Over(End::Refused),
        "Dropped" => Became::Over(End::Dropped),
        // Marathon has given it up and puts another in its place.
        "UnreachableInactive" | "Gone" | "Unknown" | "Reserved" => Became::Over(End::Lost),
        _ => Became::Unknown,
    }
}
