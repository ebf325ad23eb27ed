//! What has to be repeated and asked: kills that were not heard of, launches that came to nothing.

use std::sync::Arc;

use super::super::wire::{Call, ReconcileTask, Value};
use super::{LAUNCH_TIMEOUT_MS, Ledger, Out, find};
use crate::backend::{Kill, parse_task_id};
use crate::policy::world::{Millis, TaskPhase, World};

pub(super) const KILL_RETRY_MS: u64 = 1000;
const MAX_RETRY_MS: u64 = 30_000;
/// A launch that has not come further by then never will; another may, and elsewhere.
const LAUNCH_PATIENCE_MS: u64 = 120_000;

impl Ledger {
    /// Kills and questions that have to be repeated.
    pub fn due(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        let mut questions = Vec::new();
        let mut stuck = Vec::new();
        while let Some((at, id)) = self.timers.first().cloned().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id.clone()));
            let Some((app, _)) = parse_task_id(&id) else { continue };
            let (Some(side), Some(task)) = (self.sides.get_mut(&id), find(world, &app, &id)) else { continue };
            (side.timer, side.asked) = (None, true);
            side.tries = side.tries.saturating_add(1);
            let agent = task.agent.0 as usize;
            let (grace, tries) = (side.killed, side.tries);
            let overdue = task.phase == TaskPhase::Starting && task.since + LAUNCH_PATIENCE_MS <= now;
            let is_stuck = side.confirmed && overdue;
            let agent = world.agents[agent].id.clone();
            if let Some(grace) = grace {
                out.calls.push(Call::kill(&id, Some(&agent), grace.ms));
                self.set_timer(&id, Some(now + backoff(KILL_RETRY_MS, tries)));
            } else if is_stuck {
                stuck.push(Kill { app, id, grace_ms: None });
            } else {
                questions.push(question(&id, agent));
                self.set_timer(&id, Some(now + backoff(LAUNCH_TIMEOUT_MS, tries)));
            }
        }
        if !questions.is_empty() {
            out.calls.push(Call::reconcile(questions));
        }
        for kill in stuck {
            let seconds = LAUNCH_PATIENCE_MS / 1000;
            out.warn("LaunchStuck", format!("task {} does not run {seconds} s after its launch; it is ended", kill.id));
            out.calls.extend(self.kill(world, &kill, now));
            out.applied.decide = true;
        }
    }

    pub fn next_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// After a new connection, kills that were written to the old one may be lost.
    pub fn reconnected(&mut self, now: Millis) {
        let killed: Vec<_> = self.sides.iter().filter(|(_, side)| side.killed.is_some()).map(|(id, _)| id.clone()).collect();
        for id in &killed {
            self.set_timer(id, Some(now));
        }
    }

    /// A mark for [`Self::unheard`].
    pub fn mark(&self) -> u64 {
        self.heard
    }

    /// Questions about all tasks of which nothing has been heard since the mark.
    pub fn unheard(&mut self, world: &World, mark: u64) -> Vec<ReconcileTask> {
        let mut questions = Vec::new();
        for task in world.apps.values().flat_map(|view| &view.tasks) {
            if let Some(side) = self.sides.get_mut(&task.id).filter(|side| side.heard <= mark) {
                side.asked = true;
                questions.push(question(&task.id, world.agents[task.agent.0 as usize].id.clone()));
            }
        }
        questions
    }

    pub(super) fn set_timer(&mut self, id: &Arc<str>, at: Option<Millis>) {
        let Some(side) = self.sides.get_mut(id) else { return };
        if let Some(old) = side.timer {
            self.timers.remove(&(old, id.clone()));
        }
        side.timer = at;
        self.timers.extend(at.map(|at| (at, id.clone())));
    }
}

fn question(id: &Arc<str>, agent: Arc<str>) -> ReconcileTask {
    ReconcileTask { task_id: Value::from(id.clone()), agent_id: Some(Value::from(agent)) }
}

fn backoff(first: u64, tries: u32) -> u64 {
    first.saturating_mul(1 << tries.min(16)).min(MAX_RETRY_MS)
}
