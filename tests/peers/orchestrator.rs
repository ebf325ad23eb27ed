//! What carries out the wishes of the other autoscalers: the way in which Kubernetes (Deployments and kube-scheduler) and Nomad place
//! tasks, choose those to end when fewer are wanted, and pre-empt. It answers with a plan in our terms.

use microscaler::api::validated::Key;
use microscaler::policy::plan::{Plan, Start, Stop, StopReason, Wait};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{AgentIx, Task, TaskPhase, World};

use super::victims::{Candidate, Rules};

/// So many replicas of one thing.
#[derive(Clone, Debug)]
pub struct Workload {
    pub key: Key,
    /// Larger is more important.
    pub priority: i32,
    pub replicas: i64,
    pub size: Resources,
    /// Of its disruption budget.
    pub min_available: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct Orchestrator {
    /// `None`: nothing is ended for others.
    pub preempts: Option<Rules>,
}

/// What one pass knows.
struct Pass<'a> {
    world: &'a World,
    workloads: &'a [Workload],
    rules: Option<Rules>,
    /// Room on each agent that is there.
    free: Vec<Resources>,
    /// The same with what is on its way down.
    soon: Vec<Resources>,
    /// Of each workload, those that stay.
    live: Vec<Vec<&'a Task>>,
    plan: Plan,
}

impl Orchestrator {
    /// One pass over all workloads, the most important first.
    pub fn reconcile(self, world: &World, workloads: &[Workload]) -> Plan {
        let mut pass = Pass::new(world, workloads, self.preempts);
        (0..workloads.len()).for_each(|ix| pass.scale_down(ix));
        let mut order: Vec<usize> = (0..workloads.len()).collect();
        order.sort_by_key(|ix| -workloads[*ix].priority);
        for ix in order {
            let missing = workloads[ix].replicas - pass.live[ix].len() as i64;
            let mut pending = 0..missing;
            while pending.next().is_some() && pass.schedule(ix) {}
        }
        pass.plan
    }
}

impl<'a> Pass<'a> {
    fn new(world: &'a World, workloads: &'a [Workload], rules: Option<Rules>) -> Self {
        let free: Vec<Resources> = world.agents.iter().map(|agent| agent.held).collect();
        let mut soon: Vec<Resources> = world.agents.iter().map(|agent| agent.held + agent.expected).collect();
        let stopping = world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase == TaskPhase::Stopping);
        stopping.for_each(|task| soon[task.agent.0 as usize] += task.resources);
        let is_live = |task: &&Task| matches!(task.phase, TaskPhase::Starting | TaskPhase::Running);
        let live = workloads.iter().map(|workload| world.apps[&workload.key].tasks.iter().filter(is_live).collect()).collect();
        Self { world, workloads, rules, free, soon, live, plan: Plan::default() }
    }

    /// As a ReplicaSet does: those that are not ready first, then where most of them are, then the youngest.
    fn scale_down(&mut self, ix: usize) {
        while self.live[ix].len() as i64 > self.workloads[ix].replicas.max(0) {
            let tasks = &self.live[ix];
            let beside = |task: &Task| tasks.iter().filter(|other| other.agent == task.agent).count();
            let rank = |at: &usize| (tasks[*at].phase == TaskPhase::Starting, beside(tasks[*at]), tasks[*at].born);
            if let Some(at) = (0..tasks.len()).max_by_key(rank) {
                self.stop(ix, at, StopReason::ScaledDown);
            }
        }
    }

    fn stop(&mut self, ix: usize, at: usize, why: StopReason) {
        let task = self.live[ix].remove(at);
        self.soon[task.agent.0 as usize] += task.resources;
        self.plan.stops.push(Stop { app: self.workloads[ix].key.clone(), task: task.id.clone(), why });
    }

    /// One replica more; false if there is nowhere for it to go.
    fn schedule(&mut self, ix: usize) -> bool {
        let size = self.workloads[ix].size;
        if let Some(agent) = self.roomiest(&self.free, size) {
            self.take(agent, size);
            self.plan.starts.push(Start { app: self.workloads[ix].key.clone(), agent: agent_ix(agent) });
            return true;
        }
        // It waits where room comes free anyway, or for those that end for it: that room is its own.
        let Some(agent) = self.roomiest(&self.soon, size).or_else(|| self.preempt(ix)) else { return false };
        self.take(agent, size);
        self.plan.waits.push(Wait { app: self.workloads[ix].key.clone(), agent: agent_ix(agent), free: false });
        true
    }

    fn take(&mut self, agent: usize, size: Resources) {
        self.free[agent] -= size;
        self.soon[agent] -= size;
    }

    /// kube-scheduler's `LeastAllocated`.
    fn roomiest(&self, rooms: &[Resources], size: Resources) -> Option<usize> {
        let fitting = (0..rooms.len()).filter(|agent| self.world.agents[*agent].present && size.fits(rooms[*agent]));
        fitting.max_by_key(|agent| (rooms[*agent].cpu, std::cmp::Reverse(*agent)))
    }

    /// Ends what has to end for one replica, and says where.
    fn preempt(&mut self, ix: usize) -> Option<usize> {
        let rules = self.rules?;
        let size = self.workloads[ix].size;
        let on = |agent: usize| rules.victims(self.candidates(ix, rules, agent), self.soon[agent], size);
        let options = (0..self.soon.len()).filter_map(|agent| Some((rules.cost(&on(agent)?), agent)));
        let (_, agent) = options.min()?;
        let victims: Vec<_> = on(agent)?.iter().map(|victim| (victim.workload, victim.task.id.clone())).collect();
        for (workload, id) in victims {
            if let Some(at) = self.live[workload].iter().position(|task| task.id == id) {
                self.stop(workload, at, StopReason::GivesWayTo(self.workloads[ix].key.clone()));
            }
        }
        Some(agent)
    }

    fn candidates(&self, ix: usize, rules: Rules, agent: usize) -> Vec<Candidate<'a>> {
        let own = self.workloads[ix].priority;
        let lower = (0..self.workloads.len()).filter(|other| rules.may_end(own, self.workloads[*other].priority));
        let mut candidates = Vec::new();
        for workload in lower {
            let Workload { priority, min_available, .. } = self.workloads[workload];
            let tasks = &self.live[workload];
            let here = tasks.iter().filter(|task| task.agent.0 as usize == agent);
            candidates.extend(here.zip(0..).map(|(task, before)| {
                let violates = tasks.len() as i64 - before <= min_available;
                Candidate { task, workload, priority, violates }
            }));
        }
        candidates
    }
}

fn agent_ix(agent: usize) -> AgentIx {
    AgentIx(agent as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Habits, Sim, app, key};

    const ONE: Resources = Resources { cpu: 1000, memory: 64_000, disk: 0, gpu: 0, ports: 0 };

    /// Two agents with room for two each, and two workloads.
    struct Stage(Sim);

    impl Stage {
        fn new() -> Self {
            let mut sim = Sim::new(Habits { start_ms: 100, stop_ms: 100, offer_ms: 0, ..Habits::default() });
            for _ in 0..2 {
                sim.add_agent(ONE * 2, &[]);
            }
            ["web", "batch"].into_iter().for_each(|name| sim.set_app(app(name)));
            Self(sim)
        }

        /// One pass with so many wanted, and what it starts, ends and lets wait.
        fn pass(&mut self, web: i64, batch: i64) -> [usize; 3] {
            let of = |name, priority, replicas| Workload { key: key(name), priority, replicas, size: ONE, min_available: 0 };
            let orchestrator = Orchestrator { preempts: Some(Rules::Kubernetes) };
            let plan = orchestrator.reconcile(&self.0.world, &[of("web", 90, web), of("batch", 10, batch)]);
            self.0.carry_out(&plan);
            [plan.starts.len(), plan.stops.len(), plan.waits.len()]
        }

        fn later(&mut self) {
            let now = self.0.now;
            [110, 120].into_iter().for_each(|ms| self.0.advance(now + ms));
        }

        fn agents_of(&self, name: &str) -> Vec<u32> {
            let mut agents: Vec<u32> = self.0.world.apps[&key(name)].tasks.iter().map(|task| task.agent.0).collect();
            agents.sort_unstable();
            agents
        }
    }

    #[test]
    fn replicas_are_spread_and_what_finds_no_room_waits_outside() {
        let mut stage = Stage::new();
        assert_eq!(stage.pass(2, 5), [4, 0, 0]);
        assert_eq!((stage.agents_of("web"), stage.agents_of("batch")), (vec![0, 1], vec![0, 1]));
    }

    #[test]
    fn freed_room_is_kept_for_whom_it_was_freed() {
        let mut stage = Stage::new();
        stage.pass(1, 3);
        stage.later();
        assert_eq!(stage.pass(3, 3), [0, 2, 2]);
        assert_eq!(stage.pass(3, 3), [0, 0, 2], "nobody ends twice");
        stage.later();
        assert_eq!(stage.pass(3, 3), [2, 0, 0]);
        assert_eq!((stage.agents_of("web").len(), stage.agents_of("batch").len()), (3, 1));
    }

    #[test]
    fn of_fewer_those_that_share_an_agent_end_first() {
        let mut stage = Stage::new();
        stage.pass(3, 0);
        stage.later();
        assert_eq!(stage.pass(2, 0), [0, 1, 0]);
        stage.later();
        assert_eq!(stage.agents_of("web"), [0, 1]);
        assert_eq!(stage.pass(-1, 0), [0, 2, 0], "less than none is none");
    }
}
