//! What one app brings to a decision: its tasks counted, what it wants, and what it may do about it.

use std::sync::Arc;

use super::backoff::Crash;
use super::budget::Tokens;
use super::judgement::{self, Judgement};
use super::memory::AppMemory;
use super::rollout;
use super::want::Asked;
use super::world::{Agent, AgentIx, AppView, Millis, Task, TaskPhase};
use crate::api::validated::{App, Key};

/// One app's side of a decision.
pub(super) struct Claim<'a> {
    pub key: &'a Key,
    pub tasks: &'a [Task],
    pub agents: &'a [Agent],
    pub app: &'a App,
    /// The backend can do nothing for it.
    pub held: bool,
    pub tally: Tally,
    /// Replicas that demand asks for, damped.
    pub want: i64,
    /// What asked for them, and the state of its metrics.
    pub asked: Arc<Asked>,
    pub crash: Option<Crash>,
    /// The template fails and is not tried again before this.
    pub retry_at: Option<Millis>,
    pub barred: Vec<AgentIx>,
    /// Agents on which its replicas waited for room in the last plan.
    pub waited: Vec<AgentIx>,
    /// How many of its replicas may have to give way now, if there is a limit.
    pub tokens: Option<Tokens>,
    /// When something changes although nothing happens.
    pub wake_at: Option<Millis>,
}

/// Tasks by what they count as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub starting: i64,
    pub running: i64,
    pub ready: i64,
    pub stopping: i64,
    pub unreachable: i64,
    /// Of these, still to be waited for: nothing replaces them yet.
    pub awaited: i64,
    /// Of those starting and running, from another template than the current one.
    pub old: i64,
    /// Of those starting and running, on agents that are about to go.
    pub displaced: i64,
    /// Of those starting and running, for one reason or the other to be succeeded by others.
    pub outgoing: i64,
    /// Of those starting and running that stay, not ready.
    pub unready_new: i64,
}

impl Tally {
    /// Starting and running: what the app has.
    pub fn live(&self) -> i64 {
        self.starting + self.running
    }

    /// Counts the tasks, and tells when the first wait for an unreachable one ends.
    fn of(app: &App, tasks: &[Task], agents: &[Agent], now: Millis) -> (Self, Option<Millis>) {
        let mut tally = Self::default();
        let mut grace_ends = None;
        for task in tasks {
            match task.phase {
                TaskPhase::Starting => tally.starting += 1,
                TaskPhase::Running => tally.running += 1,
                TaskPhase::Stopping => tally.stopping += 1,
                TaskPhase::Unreachable => {
                    tally.unreachable += 1;
                    let ends = task.since.saturating_add(app.replace_unreachable_after_ms);
                    if ends > now {
                        tally.awaited += 1;
                        grace_ends = Some(grace_ends.map_or(ends, |first: Millis| first.min(ends)));
                    }
                }
            }
            if is_live(task) {
                let (old, displaced) = (rollout::is_old(task, app), is_displaced(task, agents));
                tally.old += i64::from(old);
                tally.displaced += i64::from(displaced);
                tally.outgoing += i64::from(old || displaced);
                tally.ready += i64::from(is_ready(task));
                tally.unready_new += i64::from(!old && !displaced && !is_ready(task));
            }
        }
        (tally, grace_ends)
    }
}

impl<'a> Claim<'a> {
    /// Counts the app's tasks on these agents and judges its demand; brings what is remembered of it up to date.
    pub fn of(key: &'a Key, app: &'a App, view: &'a AppView, agents: &'a [Agent], memory: &mut AppMemory, now: Millis) -> Self {
        let (tally, grace_ends) = Tally::of(app, &view.tasks, agents, now);
        let Judgement { want, asked, crash, wake_at } = judgement::of(app, view, tally, memory, now);
        Self {
            key,
            app,
            held: view.trouble.as_ref().is_some_and(|trouble| trouble.holds),
            tasks: &view.tasks,
            agents,
            tally,
            want,
            asked,
            retry_at: crash.as_ref().map(Crash::retry_at).filter(|at| *at > now),
            crash,
            barred: memory.crashes.barred().collect(),
            waited: memory.waits.clone(),
            tokens: memory.taken.refill(app.protection.preemption_budget, now),
            wake_at: grace_ends.into_iter().chain(wake_at).min(),
        }
    }

    /// Whether another replica is to be up before this one goes.
    pub fn is_outgoing(&self, task: &Task) -> bool {
        rollout::is_old(task, self.app) || self.is_displaced(task)
    }

    pub fn is_displaced(&self, task: &Task) -> bool {
        is_displaced(task, self.agents)
    }

    /// Of the replicas that it wants, those that no other app can take away.
    pub fn floor(&self) -> i64 {
        self.app.min.min(self.want)
    }

    /// The most that it may have: what it wants, or its maximum where it lives on spare room.
    pub fn ceiling(&self) -> i64 {
        if self.app.remainder.is_some() { self.app.max } else { self.want }
    }
}

/// On its way up, or up: it counts for its app.
pub(super) fn is_live(task: &Task) -> bool {
    matches!(task.phase, TaskPhase::Starting | TaskPhase::Running)
}

/// On an agent that is about to go.
fn is_displaced(task: &Task, agents: &[Agent]) -> bool {
    agents.get(task.agent.0 as usize).is_some_and(|agent| agent.departs)
}

pub(super) fn is_ready(task: &Task) -> bool {
    task.phase == TaskPhase::Running && task.ready
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::testing::{app, demand, reading, running};
    use super::super::world::Reading;
    use super::*;

    /// What is wanted of an app without a value, after each of these views: tasks that live, and tasks out of reach since 1.
    fn wants(views: &[(u32, u32, Millis)], value: Option<f64>) -> Vec<i64> {
        let spec = app(
            "a",
            json!({"maxReplicas": 9, "demand": [demand(&json!({"averageValue": 1}))], "replaceUnreachableAfterMilliseconds": 60_000}),
        );
        let (key, mut memory) = (spec.key.clone(), AppMemory::default());
        let mut want = |(live, lost, now): &(u32, u32, Millis)| {
            let mut tasks: Vec<Task> = (0..live + lost).map(|n| running(&spec, n, 1)).collect();
            tasks.iter_mut().take(*lost as usize).for_each(|task| task.phase = TaskPhase::Unreachable);
            let readings = vec![value.map_or_else(Reading::default, |value| reading(value, *now))];
            let view = AppView { spec: Some(Arc::new(spec.clone())), readings, tasks, ..AppView::default() };
            Claim::of(&key, &spec, &view, &[], &mut memory, *now).want
        };
        views.iter().map(&mut want).collect()
    }

    #[test]
    fn tasks_that_turn_up_before_any_value_are_kept() {
        assert_eq!(wants(&[(3, 2, 10), (5, 0, 20), (7, 0, 30), (12, 0, 40), (4, 0, 50)], None), [5, 5, 7, 9, 9]);
        assert_eq!(wants(&[(3, 0, 10), (5, 0, 20)], Some(3.0)), [3, 3], "a value tells how many are wanted");
    }

    #[test]
    fn tasks_given_up_for_lost_do_not_raise_what_is_wanted_when_they_come_back() {
        assert_eq!(wants(&[(3, 2, 10), (3, 2, 70_000), (5, 2, 70_010), (7, 0, 70_020)], None), [5, 5, 5, 5]);
    }
}
