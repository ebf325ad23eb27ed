//! Pods: apps with containers. Here, the first container's command is what runs: the testbed's Mesos has no task groups.

use super::definition::Definition;
use super::instance::Instance;
use super::refusal::Refusal;
use super::time::{Millis, text};
use super::{App, Core};
use serde_json::{Value, json};

impl Definition {
    /// Of a pod as it was sent.
    ///
    /// # Errors
    /// If it has no containers, or no id that is valid.
    pub fn of_pod(id: &str, pod: &Value) -> Result<Self, Refusal> {
        let containers = pod["containers"].as_array().filter(|containers| !containers.is_empty());
        let containers = containers.ok_or_else(|| Refusal::field("/containers", "error.path.missing"))?;
        let sum = |name: &str| containers.iter().filter_map(|container| container["resources"][name].as_f64()).sum::<f64>();
        let mut rest = pod.clone();
        if let Some(rest) = rest.as_object_mut() {
            for known in ["scaling", "version", "id"] {
                rest.remove(known);
            }
        }
        let instances = pod["scaling"].get("instances").cloned().unwrap_or(json!(1));
        let given = json!({
            "containers": containers, "cpus": sum("cpus"), "mem": sum("mem"), "disk": sum("disk"), "pod": rest, "portDefinitions": [],
            "instances": instances, "labels": pod["labels"],
        });
        Self::update(id, None, &given)
    }
}

impl App {
    /// As a pod.
    #[must_use]
    pub fn pod_view(&self) -> Value {
        let mut view = json!({ "id": self.definition.text("id"), "version": text(self.version) });
        if let (Some(view), Some(rest)) = (view.as_object_mut(), self.definition.get("pod").as_object()) {
            view.extend(rest.clone());
        }
        view["scaling"] = json!({ "kind": "fixed", "instances": self.definition.instances() });
        view
    }
}

impl Core {
    /// # Errors
    /// 404 if there is none of that id.
    pub fn pod(&self, id: &str) -> Result<&App, Refusal> {
        let missing = || Refusal { body: json!({ "message": format!("Pod '{id}' does not exist") }), status: 404 };
        self.state.apps.get(id).filter(|app| app.is_pod).ok_or_else(missing)
    }

    #[must_use]
    pub fn pod_status(&self, id: &str, pod: &App, now: Millis) -> Value {
        let instances: Vec<&Instance> = self.instances_of(id).collect();
        let is_stable = instances.len() == pod.definition.instances() && instances.iter().all(|instance| self.is_ready(instance));
        let views: Vec<Value> = instances.iter().map(|instance| self.instance_status(instance, pod)).collect();
        json!({
            "id": id, "spec": pod.pod_view(), "status": if is_stable { "STABLE" } else { "DEGRADED" },
            "statusSince": text(pod.version), "instances": views, "terminationHistory": [], "lastUpdated": text(now),
            "lastChanged": text(pod.version),
        })
    }

    fn instance_status(&self, instance: &Instance, pod: &App) -> Value {
        let status = match () {
            () if self.is_ready(instance) => "STABLE",
            () if instance.has_task() => "STAGING",
            () => "PENDING",
        };
        let resources = ["cpus", "mem", "disk"].map(|name| (name.to_owned(), json!(pod.definition.number(name))));
        json!({
            "id": instance.id, "status": status, "statusSince": text(instance.started_at.unwrap_or(instance.scheduled_at)),
            "agentHostname": instance.host, "agentId": instance.agent, "resources": serde_json::Map::from_iter(resources),
            "networks": [], "containers": [], "specReference": format!("/v2/pods{}::versions/{}", instance.app, text(instance.version)),
            "lastUpdated": text(instance.scheduled_at), "lastChanged": text(instance.scheduled_at),
        })
    }
}
