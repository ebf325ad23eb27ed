//! Health checks: what they mean for instances, whoever does them.

use super::Core;
use super::events::event;
use super::instance::Instance;
use super::task_info::is_done_by_mesos;
use super::time::{Millis, text};
use serde_json::{Value, json};

/// A check that is to be done now, by the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub instance: String,
    pub incarnation: u32,
    pub is_http: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub timeout: Millis,
}

fn own_check(checks: &[Value]) -> Option<&Value> {
    checks.iter().find(|check| !is_done_by_mesos(check))
}

fn seconds(check: &Value, name: &str) -> Millis {
    check[name].as_i64().unwrap_or(0) * 1000
}

impl Core {
    /// How long after its start an instance is looked at for the first time; none if it is not for us to look.
    pub(super) fn first_check_delay(&self, id: &str) -> Option<Millis> {
        let definition = self.definition_of(self.state.instances.get(id)?)?;
        // The interval of Marathon's loop is not bound to the start.
        own_check(definition.list("healthChecks")).map(|check| (seconds(check, "intervalSeconds") / 3).min(1000))
    }

    /// The checks that are due; each is due again an interval later.
    pub fn due_checks(&mut self, now: Millis) -> Vec<Check> {
        let is_due = |instance: &&Instance| instance.health.next_check.is_some_and(|time| now >= time);
        let due: Vec<String> = self.state.instances.values().filter(is_due).map(|instance| instance.id.clone()).collect();
        due.iter().filter_map(|id| self.due_check(id, now)).collect()
    }

    fn due_check(&mut self, id: &str, now: Millis) -> Option<Check> {
        let check = own_check(self.definition_of(self.state.instances.get(id)?)?.list("healthChecks"))?.clone();
        let instance = self.state.instances.get_mut(id)?;
        instance.health.next_check = Some(now + seconds(&check, "intervalSeconds").max(100));
        let index = check["portIndex"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
        let fixed = check["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        Some(Check {
            instance: id.to_owned(),
            incarnation: instance.incarnation,
            is_http: check["protocol"] != "TCP",
            host: instance.host.clone()?,
            port: fixed.or(instance.ports.get(index).copied())?,
            path: check["path"].as_str().unwrap_or("/").to_owned(),
            timeout: seconds(&check, "timeoutSeconds").max(100),
        })
    }

    /// What a check of the server has found.
    pub fn on_checked(&mut self, check: &Check, failure: Option<&str>, now: Millis) {
        let is_current = |one: &Instance| one.incarnation == check.incarnation && one.condition.is_running();
        if self.state.instances.get(&check.instance).is_some_and(is_current) {
            self.on_health(&check.instance, failure.is_none(), failure, now);
            self.advance_deployments(now);
        }
    }

    /// A result, with the cause of a failure if it is ours to count: what Mesos checks, it kills itself.
    pub(super) fn on_health(&mut self, id: &str, is_alive: bool, cause: Option<&str>, now: Millis) {
        let definition = self.state.instances.get(id).and_then(|instance| self.definition_of(instance)).cloned();
        let Some(definition) = definition else { return };
        let checks = definition.list("healthChecks");
        let Some(check) = own_check(checks).or(checks.first()) else { return };
        let Some(instance) = self.state.instances.get_mut(id) else { return };
        let in_grace = instance.started_at.is_none_or(|start| now < start + seconds(check, "gracePeriodSeconds"));
        let was_alive = instance.health.is_alive;
        instance.health.is_alive = Some(is_alive);
        let mut is_failure = false;
        if is_alive {
            instance.health.consecutive_failures = 0;
            instance.health.first_success.get_or_insert(now);
            instance.health.last_success = Some(now);
        } else if cause.is_some() && (!in_grace || instance.health.first_success.is_some()) {
            is_failure = true;
            instance.health.consecutive_failures += 1;
            instance.health.last_failure = Some(now);
            instance.health.cause = cause.map(ToOwned::to_owned);
        }
        let instance = instance.clone();
        if was_alive != Some(is_alive) {
            self.tell_health(&instance, is_alive, was_alive, now);
        }
        if is_failure {
            self.on_failed_check(&instance, check, now);
        }
        self.is_dirty = true;
    }

    fn tell_health(&mut self, instance: &Instance, is_alive: bool, was_alive: Option<bool>, now: Millis) {
        let (app, version) = (&instance.app, text(instance.version));
        // That a task is not healthy yet is no change of its health.
        if is_alive || was_alive.is_some() {
            let fields = json!({ "appId": app, "instanceId": instance.id, "version": version, "alive": is_alive });
            self.publish(event("health_status_changed_event", fields, now));
        }
        let fields = json!({ "instanceId": instance.id, "runSpecId": app, "healthy": is_alive, "runSpecVersion": version });
        self.publish(event("instance_health_changed_event", fields, now));
    }

    fn on_failed_check(&mut self, instance: &Instance, check: &Value, now: Millis) {
        let fields = json!({ "appId": instance.app, "healthCheck": check, "taskId": instance.id });
        self.publish(event("failed_health_check_event", fields, now));
        let most = check["maxConsecutiveFailures"].as_u64().unwrap_or(3);
        if most == 0 || instance.health.consecutive_failures < most || instance.killed_at.is_some() {
            return;
        }
        let reason = instance.health.cause.clone().unwrap_or_default();
        let fields = json!({
            "appId": instance.app, "taskId": instance.task(), "instanceId": instance.id, "version": text(instance.version),
            "reason": reason, "host": instance.host, "slaveId": instance.agent,
        });
        self.publish(event("unhealthy_instance_kill_event", fields, now));
        if let Some(app) = self.state.apps.get_mut(&instance.app) {
            app.last_failure = Some(json!({
                "appId": instance.app, "host": instance.host,
                "message": format!("Task was killed since health check failed. Reason: {reason}"), "state": "TASK_KILLED",
                "taskId": instance.task(), "timestamp": text(now), "version": text(instance.version), "slaveId": instance.agent,
            }));
        }
        self.kill_task(&instance.id, now);
    }

    /// Checks begin anew with each version.
    pub(super) fn tell_health_checks(&mut self, app: &str, now: Millis) {
        let Some((checks, version)) =
            self.state.apps.get(app).map(|app| (app.definition.list("healthChecks").to_vec(), app.version))
        else {
            return;
        };
        for check in checks {
            let fields = json!({ "appId": app, "healthCheck": check, "version": text(version) });
            self.publish(event("add_health_check_event", fields, now));
        }
    }
}

/// As a task shows it.
#[must_use]
pub fn results(instance: &Instance) -> Value {
    let health = &instance.health;
    let Some(is_alive) = health.is_alive else { return json!([]) };
    let mut result = json!({
        "alive": is_alive, "consecutiveFailures": health.consecutive_failures, "instanceId": format!("instance [{}]", instance.id),
    });
    let times =
        [("firstSuccess", health.first_success), ("lastSuccess", health.last_success), ("lastFailure", health.last_failure)];
    for (name, time) in times {
        if let Some(time) = time {
            result[name] = json!(text(time));
        }
    }
    if let Some(cause) = &health.cause {
        result["lastFailureCause"] = json!(cause);
    }
    json!([result])
}
