//! Where replicas are expected that have not found their place.
//!
//! Marathon finds the place, and it need not be the one that the policy had in mind. Then one agent is spoken for beyond all that it has
//! and will have, and another has room that nobody seems to want: the policy would give that away a second time. So replicas that
//! wait on such an agent are expected where there is room, the most important first.

use super::Machine;
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, TaskPhase, World};

impl Machine {
    pub(super) fn reseat(&mut self, world: &mut World) {
        if self.apps.values().all(|app| app.waiting.is_empty()) {
            return;
        }
        let mut open = open(world);
        if open.iter().all(|room| Resources::ZERO.max(*room) == *room) {
            return;
        }
        let priority =
            |world: &World, key| world.apps.get(key).and_then(|view| view.spec.as_ref()).map_or(i32::MAX, |spec| spec.priority);
        let mut order: Vec<_> = self.apps.iter_mut().filter(|(_, app)| !app.waiting.is_empty()).collect();
        order.sort_by_key(|(key, _)| priority(world, *key));
        for (key, app) in order {
            let Some(view) = world.apps.get_mut(key) else { continue };
            for waiting in &mut app.waiting {
                let Some(task) = view.tasks.iter_mut().find(|task| task.id == waiting.id) else { continue };
                let (from, size) = (waiting.agent.0 as usize, task.resources);
                let is_overdrawn = open.get(from).is_some_and(|room| Resources::ZERO.max(*room) != *room);
                let to = (0..open.len()).find(|ix| is_overdrawn && world.agents[*ix].present && size.fits(open[*ix]));
                let Some(to) = to else { continue };
                waiting.agent = AgentIx(u32::try_from(to).unwrap_or(u32::MAX));
                task.agent = waiting.agent;
                for (ix, sign) in [(from, 1), (to, -1)] {
                    open[ix] += size * sign;
                    world.agents[ix].held += size * sign;
                }
            }
        }
    }
}

/// The room of each agent when all that ends there has ended.
fn open(world: &World) -> Vec<Resources> {
    let mut open: Vec<Resources> = world.agents.iter().map(|agent| agent.held).collect();
    let ending = world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase == TaskPhase::Stopping);
    for task in ending {
        if let Some(room) = open.get_mut(task.agent.0 as usize) {
            *room += task.resources;
        }
    }
    open
}
