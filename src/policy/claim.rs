//! What one app brings to a decision: its tasks counted, what it wants, and what it may do about it.

use super::backoff::Crash;
use super::memory::AppMemory;
use super::rollout;
use super::want::{self, Asked, Standing};
use super::world::{AgentIx, AppView, Millis, Task, TaskPhase};
use crate::api::validated::{App, Key};

/// One app's side of a decision.
pub(super) struct Claim<'a> {
    pub key: &'a Key,
    pub tasks: &'a [Task],
    pub app: &'a App,
    pub tally: Tally,
    /// Replicas that demand asks for, damped.
    pub want: i64,
    /// What asked for them, and the state of its metrics.
    pub asked: Asked,
    pub crash: Option<Crash>,
    /// The template fails and is not tried again before this.
    pub retry_at: Option<Millis>,
    pub barred: Vec<AgentIx>,
    /// Agents on which its replicas waited for room in the last plan.
    pub waited: Vec<AgentIx>,
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
    /// Judges the app's demand and brings what is remembered of it up to date.
    pub fn of(key: &'a Key, app: &'a App, view: &'a AppView, memory: &mut AppMemory, now: Millis) -> Self {
        let (tally, grace_ends) = Tally::of(app, &view.tasks, now);
        if memory.since.is_none() || memory.generation != app.generation {
            (memory.since, memory.generation) = (Some(now), app.generation);
        }
        let current = memory.want.unwrap_or_else(|| tally.live()).clamp(app.min, app.max);
        let standing = Standing { current, ready: tally.ready, since: memory.since.unwrap_or(now) };
        let mut asked = want::asked(app, &view.readings, standing, now);
        let damped = memory.damper.settle(app, current, asked.replicas, now);
        asked.reasons.splice(0..0, damped.reason);
        memory.want = Some(damped.replicas);
        let crash = memory.crashes.review(app.version, &view.tasks, now);
        let retry_at = crash.as_ref().map(Crash::retry_at).filter(|at| *at > now);
        let wakes = [grace_ends, asked.wake_at, damped.wake_at, retry_at, memory.crashes.wake_at(&view.tasks, now)];
        Self {
            key,
            app,
            tasks: &view.tasks,
            tally,
            want: damped.replicas,
            asked,
            crash,
            retry_at,
            barred: memory.crashes.barred().collect(),
            waited: memory.waits.clone(),
            wake_at: wakes.into_iter().flatten().min(),
        }
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

pub(super) fn is_ready(task: &Task) -> bool {
    task.phase == TaskPhase::Running && task.ready
}
