//! Tasks that the world does not know: of earlier runs of Microscaler, or ended already.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::offers::Offers;
use super::super::wire::{State, TaskStatus};
use super::{Ledger, Out, Side, insert};
use crate::api::validated::{Key, Version};
use crate::backend::Kill;
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, Millis, Task, TaskPhase, World};

impl Ledger {
    /// A task that the world does not know: of an earlier run of Microscaler, or ended already.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn stranger(
        &mut self,
        app: &Key,
        version: Version,
        status: &TaskStatus,
        world: &mut World,
        offers: &mut Offers,
        now: Millis,
        out: &mut Out,
    ) {
        let id = &status.task_id.value;
        let alive = matches!(
            status.state,
            State::TaskStaging
                | State::TaskStarting
                | State::TaskRunning
                | State::TaskKilling
                | State::TaskUnreachable
                | State::TaskLost
        );
        let Some(agent) = status.agent_id.as_ref().filter(|_| alive) else { return };
        let ended = self.ended.known.get(id).copied();
        if ended == Some(true) {
            return tracing::debug!(task = %id, state = ?status.state, "late update of an ended task ignored");
        }
        let agent = offers.agent(world, &agent.value);
        if status.state != State::TaskUnreachable {
            world.agents[agent.0 as usize].present = true;
        }
        self.adopt(app, version, id, agent, world, now);
        self.known(app, status, world, offers, now, out);
        out.applied.decide = true;
        if ended.is_some() {
            out.warn(
                "TaskReturned",
                format!("task {id} was taken for lost and is back; it is ended, as its place has been filled"),
            );
            let kill = Kill { app: app.clone(), id: id.clone(), grace_ms: None };
            out.calls.extend(self.kill(world, &kill, now));
        } else {
            tracing::info!(task = %id, state = ?status.state, "task adopted");
        }
    }

    fn adopt(&mut self, app: &Key, version: Version, id: &Arc<str>, agent: AgentIx, world: &mut World, now: Millis) {
        let spec = world.apps.get(app).and_then(|view| view.spec.clone()).filter(|spec| spec.version == version);
        let task = Task {
            id: id.clone(),
            agent,
            version: Some(version),
            phase: TaskPhase::Starting,
            ready: false,
            since: now,
            born: now,
            resources: spec.as_ref().map_or(Resources::ZERO, |spec| spec.size),
            executor: None,
        };
        insert(world, app, task);
        let side = Side { asked: true, confirmed: true, sizeless: spec.is_none(), heard: self.heard, ..Side::default() };
        self.sizeless += usize::from(side.sizeless);
        self.sides.insert(id.clone(), side);
    }

    /// Whether the resources of some task are not known.
    pub fn has_unsized(&self) -> bool {
        self.sizeless > 0
    }

    /// Fills in the resources of adopted tasks: from the master's list, else (when that could not be had) the size of the app as it is now.
    pub fn size(&mut self, world: &mut World, sizes: &HashMap<Arc<str>, Resources>) {
        for (key, view) in &mut world.apps {
            for task in &mut view.tasks {
                let Some(side) = self.sides.get_mut(&task.id).filter(|side| side.sizeless) else { continue };
                let found = sizes.get(&task.id).copied().or_else(|| view.spec.as_ref().map(|spec| spec.size));
                side.sizeless = false;
                self.sizeless -= 1;
                task.resources = found.unwrap_or_default();
                tracing::debug!(app = %key, task = %task.id, resources = %task.resources, "adopted task sized");
            }
        }
    }
}
