//! Requests that change apps: they are checked against the locks of deployments, and become a deployment.

use super::deployment::Deployment;
use super::events::{self, event};
use super::plan::Changes;
use super::refusal::Refusal;
use super::time::{Millis, text};
use super::{App, Core, Definition, Group};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const LOWEST_SERVICE_PORT: u64 = 10_000;
const HIGHEST_SERVICE_PORT: u64 = 20_000;
/// `zk_max_versions`.
const MAX_VERSIONS: usize = 50;
const CANCELLED: &str = "The upgrade has been cancelled";

/// A change that is wanted.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub apps: Changes,
    /// Instances to be killed, by app.
    pub victims: BTreeMap<String, BTreeSet<String>>,
    /// Cancels the deployments in the way.
    pub is_forced: bool,
    /// The path of the request, if it tells of itself by an `api_post_event`.
    pub uri: Option<String>,
    /// For a rollback: the version of the group that it goes back to.
    pub version: Option<Millis>,
    /// A restart changes nothing but the version.
    pub is_restart: bool,
    /// The apps are made by this request, and told of as they were sent.
    pub is_creation: bool,
    pub is_pod: bool,
    /// The dependencies of groups that are made or changed; none for those that go.
    pub groups: BTreeMap<String, Option<BTreeSet<String>>>,
}

/// Of a change that has been taken, even if there was nothing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    pub deployment: String,
    pub version: Millis,
}

impl Accepted {
    #[must_use]
    pub fn view(&self) -> Value {
        json!({ "deploymentId": self.deployment, "version": text(self.version) })
    }
}

impl Core {
    /// Takes a change, and begins to carry it out.
    ///
    /// # Errors
    /// 409 if a deployment is in the way and it is not forced, 403 if there are too many.
    pub fn change(&mut self, change: &Change, now: Millis) -> Result<Accepted, Refusal> {
        let version = self.next_version(now);
        // Their dependencies count for the plan already.
        let groups = self.change_groups(&change.groups, version);
        let taken = self.change_apps(change, version, now);
        if taken.is_err() {
            self.state.groups = groups;
        }
        taken
    }

    /// Gives the groups as they were.
    fn change_groups(
        &mut self,
        changes: &BTreeMap<String, Option<BTreeSet<String>>>,
        version: Millis,
    ) -> BTreeMap<String, Group> {
        let before = self.state.groups.clone();
        for (id, dependencies) in changes {
            match dependencies {
                Some(dependencies) => {
                    let group = Group { version, dependencies: dependencies.clone() };
                    self.state.groups.insert(id.clone(), group);
                }
                None => {
                    self.state.groups.remove(id);
                }
            }
        }
        before
    }

    fn change_apps(&mut self, change: &Change, version: Millis, now: Millis) -> Result<Accepted, Refusal> {
        let mut steps = self.plan(change);
        if change.is_restart {
            self.plan_restart(&change.apps, &mut steps);
        }
        let mut deployment = Deployment::new(change.version.unwrap_or(version), steps);
        deployment.original_version = self.state.version;
        deployment.original = deployment.actions().map(|action| (action.app.clone(), self.definition(&action.app))).collect();
        let conflicts = self.conflicts(&deployment);
        self.check_locks(change, &deployment, &conflicts, version, now)?;
        self.cancel(&conflicts, now);
        self.apply(change, version, now);
        Ok(self.begin(deployment, change, now))
    }

    /// Of two changes in one millisecond, the later one has the later version.
    fn next_version(&mut self, now: Millis) -> Millis {
        let newest = self.state.apps.values().filter_map(|app| app.history.keys().next_back().copied()).max();
        now.max(newest.unwrap_or(0).max(self.state.version) + 1)
    }

    fn definition(&self, app: &str) -> Option<Definition> {
        self.state.apps.get(app).map(|app| app.definition.clone())
    }

    fn conflicts(&self, deployment: &Deployment) -> Vec<String> {
        let is_in_the_way = |other: &&Deployment| deployment.actions().any(|action| other.affects(&action.app));
        self.state.deployments.iter().filter(is_in_the_way).map(|other| other.id.clone()).collect()
    }

    fn check_locks(
        &mut self,
        change: &Change,
        deployment: &Deployment,
        conflicts: &[String],
        version: Millis,
        now: Millis,
    ) -> Result<(), Refusal> {
        let others = self.state.deployments.len() - conflicts.len();
        let refusal = if !conflicts.is_empty() && !change.is_forced {
            Refusal::locked(conflicts)
        } else if !deployment.steps.is_empty() && others >= self.settings.max_running_deployments {
            Refusal::too_many_deployments(self.settings.max_running_deployments)
        } else {
            return Ok(());
        };
        // The version is stored before the locks are looked at, and stays.
        for (id, definition) in &change.apps {
            if let (Some(app), Some(definition)) = (self.state.apps.get_mut(id), definition) {
                app.history.insert(version, definition.clone());
            }
            self.forget_versions(id);
        }
        self.publish(events::deployment_failed(deployment, refusal.message(), now));
        self.publish(events::group_change_failed(version, refusal.message(), now));
        Err(refusal)
    }

    /// Ends deployments where they are. What they have begun goes on.
    pub fn cancel(&mut self, ids: &[String], now: Millis) {
        let is_cancelled = |deployment: &Deployment| ids.contains(&deployment.id);
        let (cancelled, kept) = std::mem::take(&mut self.state.deployments).into_iter().partition(is_cancelled);
        self.state.deployments = kept;
        let cancelled: Vec<Deployment> = cancelled;
        for deployment in cancelled {
            self.publish(events::deployment_failed(&deployment, CANCELLED, now));
            if deployment.actions().any(|action| !action.killing.is_empty()) {
                self.publish(events::step("deployment_step_failure", &deployment, now));
            }
        }
    }

    fn apply(&mut self, change: &Change, version: Millis, now: Millis) {
        self.state.version = version;
        for (id, definition) in &change.apps {
            let Some(mut definition) = definition.clone() else {
                let gone = self.state.apps.remove(id);
                if gone.is_some_and(|app| !app.definition.list("healthChecks").is_empty()) {
                    self.publish(events::app_event("remove_health_check_event", id, now));
                }
                self.queue.remove(id);
                continue;
            };
            self.assign_service_ports(id, &mut definition);
            let (app, is_new) = match self.state.apps.entry(id.clone()) {
                std::collections::btree_map::Entry::Occupied(entry) => (entry.into_mut(), false),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    (entry.insert(App::new(definition.clone(), version, change.is_pod)), true)
                }
            };
            let is_upgrade = definition.is_upgrade_of(&app.definition) || change.is_restart;
            if is_new || app.definition == definition && !is_upgrade && !change.victims.contains_key(id) {
                continue;
            }
            app.version = version;
            app.last_scaling = version;
            if is_upgrade {
                app.last_change = version;
            }
            app.history.insert(version, definition.clone());
            app.definition = definition;
            if is_upgrade {
                self.queue.entry(id.clone()).or_default().reset_delay();
            }
            self.forget_versions(id);
        }
        self.is_dirty = true;
    }

    /// Only the newest versions are kept, and those that instances are made of.
    fn forget_versions(&mut self, id: &str) {
        let mut used: BTreeSet<Millis> = self.instances_of(id).map(|instance| instance.version).collect();
        let Some(app) = self.state.apps.get_mut(id) else { return };
        used.insert(app.version);
        let surplus = app.history.len().saturating_sub(MAX_VERSIONS);
        let old: Vec<Millis> = app.history.keys().take(surplus).filter(|version| !used.contains(version)).copied().collect();
        old.iter().for_each(|version| drop(app.history.remove(version)));
    }

    /// Ports that are 0 get the next free number from 10000 on.
    fn assign_service_ports(&self, id: &str, definition: &mut Definition) {
        let taken = |apps: &BTreeMap<String, App>| -> BTreeSet<u64> {
            let others = apps.iter().filter(|(other, _)| *other != id).map(|(_, app)| &app.definition);
            others.flat_map(|other| other.list("portDefinitions")).filter_map(|port| port["port"].as_u64()).collect()
        };
        let mut ports = definition.list("portDefinitions").to_vec();
        if ports.iter().all(|port| port["port"].as_u64() != Some(0)) {
            return;
        }
        let mut taken = taken(&self.state.apps);
        for port in ports.iter_mut().filter(|port| port["port"].as_u64() == Some(0)) {
            let free = (LOWEST_SERVICE_PORT..=HIGHEST_SERVICE_PORT).find(|number| !taken.contains(number)).unwrap_or(0);
            taken.insert(free);
            port["port"] = json!(free);
        }
        definition.set("portDefinitions", Value::Array(ports));
    }

    /// Of an empty plan, the success is published before the answer is given; it is never in the list.
    fn begin(&mut self, deployment: Deployment, change: &Change, now: Millis) -> Accepted {
        let accepted = Accepted { deployment: deployment.id.clone(), version: deployment.version };
        let first = self.events.len();
        if deployment.steps.is_empty() {
            self.publish(events::deployment_success(&deployment, now));
        } else {
            self.state.deployments.push(deployment);
            self.advance_deployments(now);
        }
        let told: Vec<_> = self.events_of_change(change, accepted.version, now);
        let place = self.events[first..]
            .iter()
            .rposition(|event| event.kind == "deployment_info")
            .map_or(self.events.len(), |at| first + at + 1);
        self.events.splice(place..place, told);
        self.is_dirty = true;
        accepted
    }

    fn events_of_change(&self, change: &Change, version: Millis, now: Millis) -> Vec<events::Event> {
        let mut told = vec![events::group_change_success(version, now)];
        if let Some(uri) = &change.uri {
            let apps = change.apps.iter().filter_map(|(id, definition)| definition.as_ref().and(self.state.apps.get(id)));
            told.extend(apps.map(|app| {
                let created = || Value::Object(app.definition.view(&json!({ "version": text(version) })));
                let view = if change.is_creation { created() } else { app.view() };
                let fields = json!({ "clientIp": "127.0.0.1", "uri": uri, "appDefinition": view });
                event("api_post_event", fields, now)
            }));
        }
        told
    }

    /// Undoes a deployment by another one. Its version is that of the group before, and so an old one.
    ///
    /// # Errors
    /// As a change.
    pub fn roll_back(&mut self, deployment: &Deployment, now: Millis) -> Result<Accepted, Refusal> {
        let change = Change {
            apps: deployment.original.clone(),
            is_forced: true,
            version: Some(deployment.original_version),
            ..Change::default()
        };
        self.change(&change, now)
    }
}

impl App {
    fn new(definition: Definition, version: Millis, is_pod: bool) -> Self {
        let history = BTreeMap::from([(version, definition.clone())]);
        Self { definition, version, last_scaling: version, last_change: version, history, last_failure: None, is_pod }
    }
}
