//! The events of `/v2/events`.

use super::deployment::Deployment;
use super::instance::{Condition, Instance};
use super::time::{Millis, text};
use serde_json::{Value, json};

/// One event; `data` is its JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: &'static str,
    pub data: Value,
}

/// An event of those fields, with its kind and time behind them.
#[must_use]
pub fn event(kind: &'static str, fields: Value, now: Millis) -> Event {
    let mut data = fields;
    data["eventType"] = json!(kind);
    data["timestamp"] = json!(text(now));
    Event { kind, data }
}

#[must_use]
pub fn instance_changed(instance: &Instance, now: Millis) -> Event {
    instance_changed_to(instance, instance.condition, now)
}

#[must_use]
pub fn instance_changed_to(instance: &Instance, condition: Condition, now: Millis) -> Event {
    let fields = json!({
        "instanceId": instance.id, "condition": format!("{condition:?}"), "runSpecId": instance.app, "agentId": instance.agent,
        "host": instance.host, "runSpecVersion": text(instance.version),
    });
    event("instance_changed_event", fields, now)
}

#[must_use]
pub fn status_update(instance: &Instance, state: &str, message: &str, now: Millis) -> Event {
    let fields = json!({
        "slaveId": instance.agent, "taskId": instance.task(), "taskStatus": state, "message": message, "appId": instance.app,
        "host": instance.host, "ipAddresses": ip_addresses(instance), "ports": instance.ports, "version": text(instance.version),
    });
    event("status_update_event", fields, now)
}

#[must_use]
pub fn ip_addresses(instance: &Instance) -> Value {
    let address = instance.ip_address.as_ref();
    Value::Array(address.map(|address| json!({ "ipAddress": address, "protocol": "IPv4" })).into_iter().collect())
}

/// `deployment_info`, `deployment_step_success`, `deployment_step_failure`: of the deployment's current step.
#[must_use]
pub fn step(kind: &'static str, deployment: &Deployment, now: Millis) -> Event {
    let actions = deployment.steps.get(deployment.current).map_or(&[][..], Vec::as_slice);
    let actions: Vec<Value> = actions.iter().map(super::deployment::Action::plan_view).collect();
    event(kind, json!({ "plan": deployment.plan_view(), "currentStep": { "actions": actions } }), now)
}

#[must_use]
pub fn deployment_success(deployment: &Deployment, now: Millis) -> Event {
    event("deployment_success", json!({ "id": deployment.id, "plan": deployment.plan_view() }), now)
}

#[must_use]
pub fn deployment_failed(deployment: &Deployment, reason: &str, now: Millis) -> Event {
    event("deployment_failed", json!({ "id": deployment.id, "plan": deployment.plan_view(), "reason": reason }), now)
}

#[must_use]
pub fn group_change_success(version: Millis, now: Millis) -> Event {
    event("group_change_success", json!({ "groupId": "/", "version": text(version) }), now)
}

#[must_use]
pub fn group_change_failed(version: Millis, reason: &str, now: Millis) -> Event {
    event("group_change_failed", json!({ "groupId": "/", "version": text(version), "reason": reason }), now)
}

#[must_use]
pub fn app_event(kind: &'static str, app: &str, now: Millis) -> Event {
    event(kind, json!({ "appId": app }), now)
}
