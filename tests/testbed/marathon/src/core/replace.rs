//! Rolling restarts: all instances are replaced, within the bounds of the app's `upgradeStrategy`.

use super::Core;
use super::deployment::{Action, Kind, Phase};
use super::instance::Instance;
use super::plan::Changes;
use super::time::Millis;

impl Core {
    /// The plan of a restart, which changes no definition.
    pub(super) fn plan_restart(&self, changes: &Changes, steps: &mut Vec<Vec<Action>>) {
        let actions = changes.iter().filter_map(|(app, definition)| {
            let mut action = Action::new(Kind::RestartApplication, app, definition.as_ref()?.instances());
            action.is_pod = self.is_pod(app);
            Some(action)
        });
        *steps = vec![actions.collect()];
    }

    pub(super) fn replace_instances(&mut self, action: &mut Action, now: Millis) {
        if action.phase == Phase::New {
            self.tell_health_checks(&action.app, now);
            action.phase = Phase::Starting;
        }
        let Some(app) = self.state.apps.get(&action.app) else {
            action.phase = Phase::Done;
            return;
        };
        let version = app.version;
        let bound = |name: &str, otherwise: f64| app.definition.get("upgradeStrategy")[name].as_f64().unwrap_or(otherwise);
        let wanted = action.instances;
        let minimum = share(wanted, bound("minimumHealthCapacity", 1.0));
        // One more at the least, or nothing could be replaced.
        let maximum =
            (wanted + share(wanted, bound("maximumOverCapacity", 1.0))).max(if minimum >= wanted { wanted + 1 } else { 1 });

        let is_old = |instance: &&Instance| instance.version < version;
        let ready = self.instances_of(&action.app).filter(|instance| !instance.is_doomed() && self.is_ready(instance)).count();
        let to_kill: Vec<String> = {
            let old = self.in_order_of_killing(&action.app);
            let (waiting, running): (Vec<&Instance>, Vec<&Instance>) =
                old.into_iter().filter(is_old).partition(|one| !self.is_ready(one));
            let running = running.into_iter().take(ready.saturating_sub(minimum));
            waiting.into_iter().chain(running).map(|instance| instance.id.clone()).collect()
        };
        to_kill.iter().for_each(|id| self.decommission(id, now));
        action.killing =
            self.instances_of(&action.app).filter(|instance| instance.is_doomed()).map(|instance| instance.id.clone()).collect();

        let total = self.instances_of(&action.app).count();
        let new = self.instances_of(&action.app).filter(|instance| instance.version >= version && !instance.is_doomed()).count();
        let to_start = wanted.saturating_sub(new).min(maximum.saturating_sub(total));
        let started: Vec<String> = (0..to_start).filter_map(|_| self.schedule(&action.app, now)).collect();
        action.starting.extend(started);
        self.forget_ready(&mut action.starting);

        let is_any_old = self.instances_of(&action.app).any(|instance| instance.version < version);
        if !is_any_old && action.killing.is_empty() && action.starting.is_empty() && new + to_start >= wanted {
            action.phase = Phase::Done;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small counts")]
fn share(count: usize, of: f64) -> usize {
    (count as f64 * of).ceil().max(0.0) as usize
}
