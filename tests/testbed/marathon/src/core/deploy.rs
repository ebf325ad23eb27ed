//! Carries deployments out, one step after the other.

use super::Core;
use super::deployment::{Action, Deployment, Kind, Phase};
use super::events;
use super::instance::Instance;
use super::time::Millis;
use std::collections::BTreeSet;

impl Core {
    /// Lets every deployment go as far as it can.
    pub(super) fn advance_deployments(&mut self, now: Millis) {
        let ids: Vec<String> = self.state.deployments.iter().map(|deployment| deployment.id.clone()).collect();
        for id in ids {
            // Taken out while it is worked on: nothing else asks for it meanwhile but locks, which only count for other requests.
            let Some(index) = self.state.deployments.iter().position(|deployment| deployment.id == id) else { continue };
            let mut deployment = self.state.deployments.remove(index);
            if self.advance(&mut deployment, now) {
                self.is_dirty = true;
            } else {
                self.state.deployments.insert(index, deployment);
            }
        }
    }

    /// Whether it is over.
    fn advance(&mut self, deployment: &mut Deployment, now: Millis) -> bool {
        while deployment.current < deployment.steps.len() {
            let is_new = deployment.steps[deployment.current].iter().all(|action| action.phase == Phase::New);
            if is_new && !deployment.is_resumed {
                self.publish(events::step("deployment_info", deployment, now));
            }
            let mut step = std::mem::take(&mut deployment.steps[deployment.current]);
            for action in &mut step {
                self.act(action, now);
            }
            let is_done = step.iter().all(|action| action.phase == Phase::Done);
            deployment.steps[deployment.current] = step;
            if !is_done {
                // What waits for something is told of when that comes, like any other.
                deployment.is_resumed = false;
                return false;
            }
            if !deployment.is_resumed {
                self.publish(events::step("deployment_step_success", deployment, now));
            }
            deployment.current += 1;
        }
        if !deployment.is_resumed {
            self.publish(events::deployment_success(deployment, now));
        }
        true
    }

    fn act(&mut self, action: &mut Action, now: Millis) {
        if action.phase == Phase::Done {
            return;
        }
        match action.kind {
            Kind::StartApplication => self.start_application(action, now),
            Kind::ScaleApplication => self.scale_application(action, now),
            Kind::RestartApplication => self.replace_instances(action, now),
            Kind::StopApplication => self.stop_application(action, now),
        }
    }

    fn start_application(&mut self, action: &mut Action, now: Millis) {
        self.tell_health_checks(&action.app, now);
        action.phase = Phase::Done;
    }

    /// First what is to go; when that is gone, what is missing.
    fn scale_application(&mut self, action: &mut Action, now: Millis) {
        if action.phase == Phase::New {
            // A new app's have been told of already.
            if self.state.apps.get(&action.app).is_some_and(|app| app.history.len() > 1) {
                self.tell_health_checks(&action.app, now);
            }
            let victims = self.victims(action);
            for victim in &victims {
                self.decommission(victim, now);
            }
            action.killing = victims;
            action.phase = Phase::Killing;
        }
        if action.phase == Phase::Killing {
            action.killing.retain(|id| self.state.instances.contains_key(id));
            if action.killing.is_empty() {
                action.starting = self.start_missing(&action.app, action.instances, now);
                action.phase = Phase::Starting;
            }
        }
        if action.phase == Phase::Starting {
            self.forget_ready(&mut action.starting);
            if action.starting.is_empty() {
                action.phase = Phase::Done;
            }
        }
    }

    /// The instances that were named, and as many more as are too many. Those that are to go already come first.
    fn victims(&self, action: &Action) -> BTreeSet<String> {
        let all: Vec<&Instance> = self.instances_of(&action.app).collect();
        let surplus = all.len().saturating_sub(action.instances);
        let is_named = |instance: &Instance| action.victims.contains(&instance.id);
        let named: BTreeSet<String> =
            all.iter().filter(|instance| is_named(instance)).map(|instance| instance.id.clone()).collect();
        let doomed = all.iter().filter(|instance| instance.is_doomed() && !is_named(instance));
        let others = self.in_order_of_killing(&action.app).into_iter().filter(|instance| !is_named(instance));
        let more = surplus.saturating_sub(named.len());
        let more = doomed.copied().chain(others).take(more).map(|instance| instance.id.clone());
        more.chain(named.iter().cloned()).collect()
    }

    pub(super) fn start_missing(&mut self, app: &str, wanted: usize, now: Millis) -> BTreeSet<String> {
        let missing = wanted.saturating_sub(self.instances_of(app).count());
        if missing > self.settings.testbed_memory_instances {
            self.ends_at.get_or_insert(now + self.settings.testbed_memory_delay);
        }
        // Marathon is busy dying then.
        if self.ends_at.is_some() || missing == 0 {
            return BTreeSet::new();
        }
        // One after the other, as each is written down: the first may get an offer before the last is there.
        let mut time = now;
        let mut started = BTreeSet::new();
        for _ in 0..missing {
            started.extend(self.schedule(app, time));
            time += self.settings.testbed_scheduling_delay;
        }
        started
    }

    /// A new instance of the app's newest version; its id.
    pub(super) fn schedule(&mut self, app: &str, now: Millis) -> Option<String> {
        let version = self.state.apps.get(app)?.version;
        self.state.last_order += 1;
        let instance = Instance::scheduled(app, version, self.state.last_order, now);
        let id = instance.id.clone();
        self.queue.entry(app.to_owned()).or_default().begin(now);
        self.publish(events::instance_changed(&instance, now));
        self.state.instances.insert(id.clone(), instance);
        Some(id)
    }

    pub(super) fn forget_ready(&self, starting: &mut BTreeSet<String>) {
        starting
            .retain(|id| self.state.instances.get(id).is_some_and(|instance| !instance.is_doomed() && !self.is_ready(instance)));
    }

    fn stop_application(&mut self, action: &mut Action, now: Millis) {
        if action.phase == Phase::New {
            let ids: Vec<String> = self.instances_of(&action.app).map(|instance| instance.id.clone()).collect();
            ids.iter().for_each(|id| self.decommission(id, now));
            action.killing = ids.into_iter().collect();
            action.phase = Phase::Killing;
        }
        if self.instances_of(&action.app).next().is_none() {
            action.killing.clear();
            action.phase = Phase::Done;
            self.publish(events::app_event("app_terminated_event", &action.app, now));
        }
    }
}
