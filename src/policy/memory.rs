//! What one decision hands to the next: last wants, damping, crashes, reservations. Small, and only what cannot be seen in the world.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backoff::Crashes;
use super::budget::Bucket;
use super::damp::Damper;
use super::judgement::Settled;
use super::panic::Bursts;
use super::plan::{Plan, StopReason};
use super::senses::Senses;
use super::world::{AgentIx, Millis, TaskPhase, World};
use crate::api::validated::Key;
use crate::backend::Ending;

/// Carried from one decision to the next. Losing it (a restart) loses no task: every app starts from what runs.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    apps: BTreeMap<Key, AppMemory>,
    /// What had to give way of late, of all apps together.
    pub(super) taken: Bucket,
    /// Since when executors have had no task and nobody has wanted them, by agent and id.
    pub(super) idle: BTreeMap<(AgentIx, Arc<str>), Millis>,
}

/// What is remembered of one app.
#[derive(Clone, Debug, Default)]
pub(super) struct AppMemory {
    /// The generation of the spec that `since` speaks of.
    pub generation: i64,
    /// Since when its metrics could have had a value. `None`: not seen before.
    pub since: Option<Millis>,
    /// What was wanted last.
    pub want: Option<i64>,
    /// A metric of it has had a value in this process.
    pub informed: bool,
    /// Of its unreachable tasks, the most that were no longer waited for: if they come back, there are so many too many.
    pub given_up: i64,
    pub senses: Senses,
    pub bursts: Bursts,
    pub damper: Damper,
    /// What the last judgement of its demand came to, if the next one may take it over.
    pub settled: Option<Settled>,
    pub crashes: Crashes,
    /// Agents on which its replicas waited for room in the last plan, one for each: they keep their turn there.
    pub waits: Vec<AgentIx>,
    /// Its tasks that end for another app, and for which.
    pub giving_way: Vec<(Arc<str>, Key)>,
    /// What of it had to give way of late.
    pub taken: Bucket,
}

impl Memory {
    /// Takes account of a task that has ended: crashes delay the next try.
    pub fn ended(&mut self, ending: &Ending, now: Millis) {
        self.apps.entry(ending.app.clone()).or_default().crashes.count(ending, now);
    }

    fn app(&mut self, key: &Key) -> &mut AppMemory {
        self.apps.entry(key.clone()).or_default()
    }

    /// Of each app of the world that [`Self::follow`] has seen, in the same order.
    pub(super) fn apps(&mut self) -> impl Iterator<Item = &mut AppMemory> {
        self.apps.values_mut()
    }

    /// Remembers the apps of the world and no others, so that both are in the same order, and forgets tasks that have ended.
    pub(super) fn follow(&mut self, world: &World) {
        let mut known = world.apps.keys().peekable();
        self.apps.retain(|key, _| {
            while known.next_if(|known| *known < key).is_some() {}
            known.next_if_eq(&key).is_some()
        });
        if self.apps.len() < world.apps.len() {
            for key in world.apps.keys() {
                self.app(key);
            }
        }
        for (key, app) in self.apps.iter_mut().filter(|(_, app)| !app.giving_way.is_empty()) {
            let tasks = &world.apps[key].tasks;
            let ending = |id: &Arc<str>| tasks.iter().any(|task| task.id == *id && task.phase == TaskPhase::Stopping);
            app.giving_way.retain(|(id, _)| ending(id));
        }
    }

    /// Remembers what the plan reserves and who gives way to whom.
    pub(super) fn note(&mut self, plan: &Plan) {
        self.apps.values_mut().for_each(|app| app.waits.clear());
        for wait in &plan.waits {
            self.app(&wait.app).waits.push(wait.agent);
        }
        for stop in plan.stops.iter().filter(|stop| stop.why.is_preemption()) {
            self.taken.take();
            self.app(&stop.app).taken.take();
            if let StopReason::GivesWayTo(winner) = &stop.why {
                self.app(&stop.app).giving_way.push((Arc::clone(&stop.task), winner.clone()));
            }
        }
    }
}
