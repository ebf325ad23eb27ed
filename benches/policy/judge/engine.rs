//! The Microscaling Engine in the loop.

use microscaler::policy::plan::Plan;
use microscaler::policy::world::TaskPhase;

use super::contenders::{Contender, Seen, is_due, workloads};
use super::pool::{BATCH, ORDERS, ORDERS_LEAST, ORDERS_WANTED, PLACES, SEARCH, SEARCH_BOUNDS, count};
use crate::peers::engine::{self, QueueLength, Target};
use crate::peers::orchestrator::Orchestrator;
use crate::sim::{Sim, key};

/// The Microscaling Engine decides about all apps, and ends tasks for others only by lowering their numbers.
pub struct Engine {
    period_ms: u64,
    tasks: [engine::Task; 3],
    decisions: u64,
}

/// Of the queue: with the shipped gains, the one of 5, 10, 20, 50, 100 and 200 that served it best with these loads.
const QUEUE_LENGTH: i64 = 5;

impl Engine {
    pub fn new(period_ms: u64) -> Self {
        let task = |priority, bounds, target| engine::Task::new(priority, bounds, PLACES, target);
        let tasks = [
            task(1, SEARCH_BOUNDS, Target::Queue(QueueLength::new(QUEUE_LENGTH))),
            task(2, (ORDERS_LEAST, ORDERS_WANTED), Target::Remainder),
            task(3, (0, PLACES), Target::Remainder),
        ];
        Self { period_ms, tasks, decisions: 0 }
    }
}

impl Contender for Engine {
    fn name(&self) -> &'static str {
        "Microscaling Engine"
    }

    fn act(&mut self, seen: &Seen, sim: &mut Sim) -> Option<Plan> {
        let is_due = is_due(seen.now, self.period_ms);
        if is_due {
            self.tasks[0].metric = seen.waiting as i64;
            for (task, name) in self.tasks.iter_mut().zip([SEARCH, ORDERS, BATCH]) {
                task.running = count(&sim.world.apps[&key(name)], TaskPhase::Running);
            }
            engine::calculate(&mut self.tasks, PLACES);
            // With stale counts its plan can come to less than nothing, which no scheduler takes.
            self.tasks.iter_mut().for_each(|task| task.requested = task.demand.max(0));
            self.decisions += 1;
        }
        if !is_due && !seen.has_changed {
            return None;
        }
        let requested = [0, 1, 2].map(|at: usize| self.tasks[at].requested);
        let plan = Orchestrator { preempts: None }.reconcile(&sim.world, &workloads(requested));
        sim.carry_out(&plan);
        Some(plan)
    }

    fn decisions(&self) -> u64 {
        self.decisions
    }
}
