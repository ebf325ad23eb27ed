//! What the API shows.

use super::deployment::Deployment;
use super::instance::{Condition, Instance};
use super::time::{Millis, text};
use super::{App, Core, events, health};
use serde_json::{Map, Value, json};

/// What comes with each app besides its definition, its counts and its deployments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Embed {
    pub tasks: bool,
    pub last_failure: bool,
}

impl App {
    /// The definition with its versions.
    #[must_use]
    pub fn view(&self) -> Value {
        let versions = json!({
            "version": text(self.version),
            "versionInfo": { "lastScalingAt": text(self.last_scaling), "lastConfigChangeAt": text(self.last_change) },
        });
        Value::Object(self.definition.view(&versions))
    }
}

impl Core {
    #[must_use]
    pub fn app_view(&self, id: &str, app: &App, embed: Embed) -> Value {
        let mut view = app.view();
        merge(&mut view, self.counts(id));
        view["deployments"] = self.deployments_of(id);
        if embed.tasks {
            view["tasks"] = self.tasks_of(id);
        }
        if embed.last_failure
            && let Some(failure) = &app.last_failure
        {
            view["lastTaskFailure"] = failure.clone();
        }
        view
    }

    /// Tasks that are to go count until they are gone; instances that wait for an offer do not count at all.
    #[must_use]
    pub fn counts(&self, app: &str) -> Map<String, Value> {
        let count =
            |is_counted: &dyn Fn(&Instance) -> bool| self.instances_of(app).filter(|instance| is_counted(instance)).count();
        let has_health =
            |instance: &Instance, is_alive| instance.condition.is_running() && instance.health.is_alive == Some(is_alive);
        let counts = json!({
            "tasksStaged": count(&|instance| instance.condition.is_staged()),
            "tasksRunning": count(&|instance| instance.condition.is_running()),
            "tasksHealthy": count(&|instance| has_health(instance, true)),
            "tasksUnhealthy": count(&|instance| has_health(instance, false)),
        });
        counts.as_object().cloned().unwrap_or_default()
    }

    fn deployments_of(&self, app: &str) -> Value {
        let deployments = self.state.deployments.iter().filter(|deployment| deployment.affects(app));
        deployments.map(|deployment| json!({ "id": deployment.id })).collect()
    }

    #[must_use]
    pub fn tasks_of(&self, app: &str) -> Value {
        let mut instances: Vec<&Instance> = self.instances_of(app).filter(|instance| instance.has_task()).collect();
        instances.sort_by_key(|instance| instance.order);
        instances.into_iter().map(task_view).collect()
    }

    #[must_use]
    pub fn all_tasks(&self) -> Value {
        let apps = self.state.apps.iter().filter(|(_, app)| !app.is_pod).map(|(id, _)| id);
        apps.flat_map(|app| self.tasks_of(app).as_array().cloned().unwrap_or_default()).collect()
    }

    #[must_use]
    pub fn deployments(&self) -> Value {
        self.state.deployments.iter().map(Deployment::view).collect()
    }

    #[must_use]
    pub fn queue_view(&self, with_offers: bool, now: Millis) -> Value {
        let mut entries = Vec::new();
        for (id, app) in &self.state.apps {
            let count = self.instances_of(id).filter(|instance| instance.waits_for_offer()).count();
            if let Some(launches) = self.queue.get(id).filter(|_| count > 0) {
                entries.push(launches.view(count, &app.view(), with_offers, now));
            }
        }
        json!({ "queue": entries })
    }

    /// What waits for the end of a delay waits no longer.
    pub fn reset_delay(&mut self, app: &str) {
        if let Some(launches) = self.queue.get_mut(app) {
            launches.reset_delay();
        }
    }
}

#[must_use]
pub fn task_view(instance: &Instance) -> Value {
    let mut view = json!({
        "appId": instance.app, "healthCheckResults": health::results(instance), "host": instance.host, "id": instance.task(),
        "ipAddresses": events::ip_addresses(instance), "ports": instance.ports, "servicePorts": [], "slaveId": instance.agent,
        "state": state(instance.condition),
    });
    if let Some(time) = instance.staged_at {
        view["stagedAt"] = json!(text(time));
    }
    if let Some(time) = instance.started_at {
        view["startedAt"] = json!(text(time));
    }
    view["version"] = json!(text(instance.version));
    view["localVolumes"] = json!([]);
    view["role"] = json!("*");
    view
}

fn state(condition: Condition) -> String {
    let name = match condition {
        Condition::Provisioned => "STAGING".to_owned(),
        condition => format!("{condition:?}").to_uppercase(),
    };
    format!("TASK_{name}")
}

fn merge(view: &mut Value, fields: Map<String, Value>) {
    if let Some(view) = view.as_object_mut() {
        view.extend(fields);
    }
}
