//! Kills, and the look at whether as many instances are there as should be.

use super::instance::{Condition, Goal, Instance};
use super::time::Millis;
use super::{Call, Core, events};
use std::cmp::Reverse;

impl Core {
    /// The instances of an app that are not to go already, the first victim first.
    pub(super) fn in_order_of_killing(&self, app: &str) -> Vec<&Instance> {
        let mut instances: Vec<&Instance> = self.instances_of(app).filter(|instance| !instance.is_doomed()).collect();
        let is_oldest_first = self.state.apps.get(app).is_some_and(|app| app.definition.text("killSelection") == "OLDEST_FIRST");
        let age = |instance: &Instance| (instance.started_at.unwrap_or(instance.scheduled_at), instance.order);
        if is_oldest_first {
            instances.sort_by_key(|instance| (instance.condition.kill_weight(), age(instance)));
        } else {
            instances.sort_by_key(|instance| (instance.condition.kill_weight(), Reverse(age(instance))));
        }
        instances
    }

    /// Ends an instance for good: at once if it only waits for an offer.
    pub(super) fn decommission(&mut self, id: &str, now: Millis) {
        let Some(instance) = self.state.instances.get_mut(id) else { return };
        if !instance.is_doomed() {
            instance.goal = Goal::Decommissioned;
            let changed = events::instance_changed(instance, now);
            self.publish(changed);
        }
        if self.state.instances.get(id).is_some_and(|instance| !instance.has_task()) {
            self.state.instances.remove(id);
        } else {
            self.kill_task(id, now);
        }
    }

    /// Ends the task of an instance; another one follows unless the instance is to go.
    pub(super) fn kill_task(&mut self, id: &str, now: Millis) {
        if let Some(instance) = self.state.instances.get_mut(id).filter(|instance| instance.has_task()) {
            instance.killed_at = Some(now);
            self.calls.push(Call::Kill { task: instance.task() });
            self.is_dirty = true;
        }
    }

    /// A KILL may get lost.
    pub(super) fn repeat_kills(&mut self, now: Millis) {
        let timeout = self.settings.kill_retry_timeout;
        let is_due = |instance: &&Instance| instance.killed_at.is_some_and(|killed_at| now >= killed_at + timeout);
        let due: Vec<String> = self.state.instances.values().filter(is_due).map(|instance| instance.id.clone()).collect();
        due.iter().for_each(|id| self.kill_task(id, now));
    }

    /// What Marathon knows of tasks is to be asked of Mesos: those that have one.
    pub fn tasks_to_reconcile(&self) -> Vec<String> {
        self.state.instances.values().filter(|instance| instance.has_task()).map(Instance::task).collect()
    }

    /// After a reconnection: kills that may not have reached Mesos.
    pub fn kill_doomed_again(&mut self, now: Millis) {
        let doomed = |instance: &&Instance| instance.has_task() && (instance.is_doomed() || instance.killed_at.is_some());
        let ids: Vec<String> = self.state.instances.values().filter(doomed).map(|instance| instance.id.clone()).collect();
        ids.iter().for_each(|id| self.kill_task(id, now));
    }

    /// Starts what is missing and ends what is too much, unless a deployment is at it. Those that are to go count.
    pub(super) fn scale_check(&mut self, app: &str, now: Millis) {
        let Some(wanted) = self.state.apps.get(app).map(|app| app.definition.instances()) else { return };
        if self.is_locked(app) {
            return;
        }
        self.start_missing(app, wanted, now);
        let surplus = self.instances_of(app).count().saturating_sub(wanted);
        let doomed = self.instances_of(app).filter(|instance| instance.is_doomed()).count();
        let victims = self.in_order_of_killing(app).into_iter().take(surplus.saturating_sub(doomed));
        let victims: Vec<String> = victims.map(|instance| instance.id.clone()).collect();
        victims.iter().for_each(|id| self.decommission(id, now));
    }

    /// Kills tasks on demand; `wipe` gives up their instances as well, and others take their place.
    pub fn kill_tasks(&mut self, instances: &[String], wipe: bool, now: Millis) {
        for id in instances {
            if wipe {
                self.decommission(id, now);
            } else if self.state.instances.get(id).is_some_and(|instance| instance.condition != Condition::Killing) {
                self.kill_task(id, now);
            }
        }
    }
}
