//! Checks of tasks: when they are to be made, and what comes of them.

use std::sync::Arc;
use std::time::Instant;

use super::super::checks::{Due, Outcome, Role, Verdict};
use super::super::status::{Reason, State};
use super::{Cause, Effect, Machine};

const ROLES: [Role; 2] = [Role::Check, Role::Health];

impl Machine {
    /// Sets out to look where that is due, and gives up what takes too long.
    pub(super) fn look(&mut self, id: &Arc<str>, now: Instant) {
        for role in ROLES {
            let due = self.tasks.get_mut(id).and_then(|task| task.checker_mut(role)).map(|checker| checker.due(now));
            match due {
                Some(Due::Probe) => self.effects.push(Effect::Probe(id.clone(), role)),
                Some(Due::Abort(outcome)) => {
                    self.effects.push(Effect::Abort(id.clone(), role));
                    self.probed(id, role, &outcome, now);
                }
                Some(Due::Nothing) | None => {}
            }
        }
    }

    /// A task that is being ended is not checked any longer.
    pub(super) fn abort_probes(&mut self, id: &Arc<str>) {
        let Some(task) = self.tasks.get(id) else { return };
        let roles = ROLES.into_iter().filter(|role| task.checker(*role).is_some());
        self.effects.extend(roles.map(|role| Effect::Abort(id.clone(), role)));
    }

    /// A probe that was asked for has been made.
    pub fn probed(&mut self, id: &Arc<str>, role: Role, outcome: &Outcome, now: Instant) {
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.is_well()) else { return };
        let Some(checker) = task.checker_mut(role) else { return };
        if let Outcome::Failed(why) = outcome {
            tracing::debug!(task = %id, ?role, why, "no result");
        }
        let verdict = checker.judge(outcome, now);
        let next = checker.next();
        self.heed(id, verdict, now);
        self.wake_at(next);
    }

    fn heed(&mut self, id: &Arc<str>, verdict: Verdict, now: Instant) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let grace = task.grace.unwrap_or(self.grace);
        match verdict {
            Verdict::Unchanged => {}
            Verdict::Status(_) => self.tell_running(id, Reason::TaskCheckStatusUpdated),
            Verdict::Healthy => {
                task.healthy = Some(true);
                self.tell_running(id, Reason::TaskHealthCheckStatusUpdated);
            }
            Verdict::Unhealthy { is_news, fatal } => {
                task.healthy = Some(false);
                if is_news {
                    self.tell_running(id, Reason::TaskHealthCheckStatusUpdated);
                }
                if let Some(why) = fatal {
                    self.end(id, Cause::Unhealthy(why), grace, now);
                }
            }
        }
    }

    fn tell_running(&mut self, id: &Arc<str>, reason: Reason) {
        if let Some(task) = self.tasks.get(id) {
            self.tell(task.status(id, State::Running).because(reason));
        }
    }
}
