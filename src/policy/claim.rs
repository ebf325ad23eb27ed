//! What one app brings to a decision: its tasks counted, what it wants, and what it may do about it.

use std::sync::Arc;

use super::backoff::Crash;
use super::memory::AppMemory;
use super::plan::Verdict;
use super::rollout;
use super::want::{self, Asked, Standing};
use super::world::{AgentIx, AppView, Millis, Reading, Task, TaskPhase};
use crate::api::status::DemandState;
use crate::api::validated::{App, Key};

/// One app's side of a decision.
pub(super) struct Claim<'a> {
    pub key: &'a Key,
    pub tasks: &'a [Task],
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
    /// When something changes although nothing happens.
    pub wake_at: Option<Millis>,
}

/// A judgement of an app's demand that stays what it is for as long as nothing changes that it was made from. In a large pool, most
/// decisions are about few apps, and those are made sooner that take over the rest.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    spec: Arc<App>,
    readings: Vec<Reading>,
    tally: Tally,
    want: i64,
    asked: Arc<Asked>,
    wake_at: Option<Millis>,
    /// What was said of the app when it was at rest.
    pub verdict: Option<Arc<Verdict>>,
}

impl Settled {
    /// If it would be judged in the same way again: by then, what was wanted last is what is wanted now. What is said of old values and
    /// of crashes tells times, and so is never the same.
    fn of(claim: &Claim, current: i64, view: &AppView, wake_at: Option<Millis>) -> Option<Self> {
        let steady = claim.want == current && claim.crash.is_none();
        let fresh = claim.asked.states.iter().all(|state| *state == DemandState::Fresh);
        let spec = view.spec.as_ref().filter(|_| steady && fresh)?.clone();
        let (readings, tally) = (view.readings.clone(), claim.tally);
        Some(Self { spec, readings, tally, want: claim.want, asked: claim.asked.clone(), wake_at, verdict: None })
    }

    fn holds(&self, view: &AppView, tally: &Tally, now: Millis) -> bool {
        let same_spec = view.spec.as_ref().is_some_and(|spec| Arc::ptr_eq(spec, &self.spec));
        same_spec && self.tally == *tally && self.wake_at.is_none_or(|at| at > now) && self.readings == view.readings
    }
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
    /// Of those starting and running, not ready.
    pub unready_new: i64,
    /// Of those starting and running, from another template than the current one.
    pub old: i64,
}

impl Tally {
    /// Starting and running: what the app has.
    pub fn live(&self) -> i64 {
        self.starting + self.running
    }

    /// Counts the tasks, and tells when the first wait for an unreachable one ends.
    fn of(app: &App, tasks: &[Task], now: Millis) -> (Self, Option<Millis>) {
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
                let old = rollout::is_old(task, app);
                tally.old += i64::from(old);
                tally.ready += i64::from(is_ready(task));
                tally.unready_new += i64::from(!old && !is_ready(task));
            }
        }
        (tally, grace_ends)
    }
}

impl<'a> Claim<'a> {
    /// Judges the app's demand, unless that would come to the same as before.
    pub fn of(key: &'a Key, app: &'a App, view: &'a AppView, memory: &mut AppMemory, now: Millis) -> Self {
        let (tally, grace_ends) = Tally::of(app, &view.tasks, now);
        let settled = memory.settled.as_ref().filter(|settled| memory.crashes.is_none() && settled.holds(view, &tally, now));
        let Some(settled) = settled else { return Self::judge((key, app), view, (tally, grace_ends), memory, now) };
        let claim = Self {
            key,
            app,
            held: view.trouble.as_ref().is_some_and(|trouble| trouble.holds),
            tasks: &view.tasks,
            tally,
            want: settled.want,
            asked: settled.asked.clone(),
            crash: None,
            retry_at: None,
            barred: Vec::new(),
            waited: memory.waits.clone(),
            wake_at: grace_ends.into_iter().chain(settled.wake_at).min(),
        };
        debug_assert_eq!(
            (claim.want, &claim.asked, claim.wake_at),
            Self::judge((key, app), view, (tally, grace_ends), &mut memory.clone(), now).judgement(),
            "{key} has changed unnoticed"
        );
        claim
    }

    fn judgement(&self) -> (i64, &Arc<Asked>, Option<Millis>) {
        (self.want, &self.asked, self.wake_at)
    }

    /// Judges the app's demand and brings what is remembered of it up to date.
    fn judge(
        (key, app): (&'a Key, &'a App),
        view: &'a AppView,
        (tally, grace_ends): (Tally, Option<Millis>),
        memory: &mut AppMemory,
        now: Millis,
    ) -> Self {
        if memory.since.is_none() || memory.generation != app.generation {
            (memory.since, memory.generation) = (Some(now), app.generation);
        }
        memory.informed |= view.readings.iter().any(|reading| reading.value.is_some());
        let current = current(app, &tally, memory).clamp(app.min, app.max);
        let standing = Standing { current, ready: tally.ready, since: memory.since.unwrap_or(now) };
        let mut asked = want::asked(app, &view.readings, standing, now);
        let damped = memory.damper.settle(app, current, asked.replicas, now);
        asked.reasons.splice(0..0, damped.reason);
        memory.want = Some(damped.replicas);
        let crash = memory.crashes.review(app.version, &view.tasks, now);
        let retry_at = crash.as_ref().map(Crash::retry_at).filter(|at| *at > now);
        let settled_until = asked.wake_at.into_iter().chain(damped.wake_at).min();
        let wakes = [grace_ends, settled_until, retry_at, memory.crashes.wake_at(&view.tasks, now)];
        let claim = Self {
            key,
            app,
            held: view.trouble.as_ref().is_some_and(|trouble| trouble.holds),
            tasks: &view.tasks,
            tally,
            want: damped.replicas,
            asked: Arc::new(asked),
            crash,
            retry_at,
            barred: memory.crashes.barred().collect(),
            waited: memory.waits.clone(),
            wake_at: wakes.into_iter().flatten().min(),
        };
        memory.settled = Settled::of(&claim, current, view, settled_until);
        claim
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

/// What was wanted last; at first sight, what is there. As long as no metric has spoken, nothing tells whether tasks that turn up later
/// (their agent was out of reach at the start) are too many, and they raise it.
fn current(app: &App, tally: &Tally, memory: &mut AppMemory) -> i64 {
    let there = tally.live() + tally.awaited;
    let Some(want) = memory.want else { return there };
    if memory.informed || app.demand.is_empty() || app.remainder.is_some() {
        return want;
    }
    // Neither the successors of a rollover nor those of tasks that were given up for lost are wanted besides them.
    memory.given_up = memory.given_up.max(tally.unreachable - tally.awaited);
    let surge = if tally.old > 0 { app.max_surge } else { 0 };
    want.max(there - surge - memory.given_up)
}

/// On its way up, or up: it counts for its app.
pub(super) fn is_live(task: &Task) -> bool {
    matches!(task.phase, TaskPhase::Starting | TaskPhase::Running)
}

pub(super) fn is_ready(task: &Task) -> bool {
    task.phase == TaskPhase::Running && task.ready
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{app, demand, reading, running};
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
            Claim::of(&key, &spec, &view, &mut memory, *now).want
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
