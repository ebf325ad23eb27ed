//! What Mesos says of tasks.

use super::instance::Condition;
use super::time::{Millis, text};
use super::{Call, Core, events, ids};
use serde_json::{Value, json};

impl Core {
    /// A `TaskStatus`, as JSON.
    pub fn on_status(&mut self, status: &Value, now: Millis) {
        let task = status["task_id"]["value"].as_str().unwrap_or_default();
        let state = status["state"].as_str().unwrap_or_default();
        let condition = Condition::of_state(state);
        let known = ids::instance_of(task).filter(|(id, incarnation)| {
            self.state.instances.get(*id).is_some_and(|one| one.has_task() && one.incarnation == *incarnation)
        });
        let Some((id, _)) = known else {
            self.on_unknown_task(task, condition, now);
            return;
        };
        let id = id.to_owned();
        let is_news = self.note_status(&id, status, condition, now);
        if is_news && condition.is_terminal() {
            self.on_end(&id, state, condition, now);
        }
        if let Some(is_alive) = status["healthy"].as_bool().filter(|_| !condition.is_terminal()) {
            self.on_health(&id, is_alive, None, now);
        }
        self.advance_deployments(now);
    }

    /// Marathon knows nothing of it: it is killed if it runs.
    fn on_unknown_task(&mut self, task: &str, condition: Condition, now: Millis) {
        if !condition.is_terminal() {
            self.calls.push(Call::Kill { task: task.to_owned() });
        } else if let Some((instance, _)) = ids::instance_of(task)
            && condition != Condition::Unknown
        {
            let app = instance.rsplit_once(".instance-").map_or("", |(app, _)| app);
            let fields = json!({
                "instanceId": instance, "runSpecId": format!("/{}", app.replace('_', "/")), "condition": format!("{condition:?}"),
            });
            self.publish(events::event("unknown_instance_terminated_event", fields, now));
        }
    }

    /// Writes the status down and publishes it; false if it says nothing new.
    fn note_status(&mut self, id: &str, status: &Value, condition: Condition, now: Millis) -> bool {
        let check_delay = self.first_check_delay(id);
        let Some(instance) = self.state.instances.get_mut(id) else { return false };
        if let Some(agent) = status["agent_id"]["value"].as_str() {
            instance.agent = Some(agent.to_owned());
        }
        let address = status["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"].as_str();
        instance.ip_address = address.map(ToOwned::to_owned).or(instance.ip_address.take()).or(instance.host.clone());
        if instance.condition == condition {
            return false;
        }
        instance.condition = condition;
        if condition == Condition::Running {
            instance.started_at = Some(now);
            instance.health.next_check = check_delay.map(|delay| now + delay);
            // A task that runs gives its token back.
            self.tokens += 1;
        }
        let state = status["state"].as_str().unwrap_or_default();
        let update = events::status_update(instance, state, status["message"].as_str().unwrap_or_default(), now);
        let changed = events::instance_changed(instance, now);
        self.publish(update);
        self.publish(changed);
        true
    }

    fn on_end(&mut self, id: &str, state: &str, condition: Condition, now: Millis) {
        let Some(instance) = self.state.instances.get(id) else { return };
        let app_id = instance.app.clone();
        // With the strategy that apps have by default, who is unreachable is given up at once.
        let is_lost = condition == Condition::Unreachable;
        if !instance.is_doomed() && !is_lost {
            if condition.is_failure() {
                self.note_failure(id, state, now);
            }
            if let Some(instance) = self.state.instances.get_mut(id) {
                instance.reschedule(now);
            }
            self.queue.entry(app_id).or_default().begin(now);
            return;
        }
        self.state.instances.remove(id);
        self.scale_check(&app_id, now);
    }

    fn note_failure(&mut self, id: &str, state: &str, now: Millis) {
        let Some(instance) = self.state.instances.get(id) else { return };
        let (app_id, task, version) = (instance.app.clone(), instance.task(), instance.version);
        let message =
            self.events.iter().rev().find(|event| event.kind == "status_update_event" && event.data["taskId"] == task.as_str());
        let message = message.map_or(Value::Null, |event| event.data["message"].clone());
        let failure = json!({
            "appId": app_id, "host": instance.host, "message": message, "state": state, "taskId": task, "timestamp": text(now),
            "version": text(version), "slaveId": instance.agent,
        });
        if let Some(app) = self.state.apps.get_mut(&app_id) {
            app.last_failure = Some(failure);
            self.queue.entry(app_id).or_default().delay_next(&app.definition, now);
        }
    }
}
