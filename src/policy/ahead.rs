//! How much may be put on agents before it is needed there: a quarter of each agent, and a quarter of the pool's limits.
//!
//! Without a bound, the room of executors alone could fill a pool, and no replica would ever fit.

use super::resources::Resources;
use super::standing;
use super::world::{AgentIx, BasePhase, Fitted, World};

/// One part in so many.
const PARTS: i64 = 4;

/// What is left of the parts.
pub(super) struct Ahead {
    by_agent: Vec<Resources>,
    all: Resources,
}

impl Ahead {
    /// What is there counts, but for what is on its way down, as its successor will have its room. `sizes` is what each agent has.
    pub fn of(world: &World, sizes: &[Resources]) -> Self {
        let stays = |fitted: &&Fitted| fitted.phase != BasePhase::Leaving;
        let mut all = part(world.limits);
        let left = world.agents.iter().zip(sizes).map(|(agent, size)| {
            let there = agent.bases.iter().filter(stays).map(|fitted| standing::used(fitted, world)).sum();
            if agent.is_open() {
                all -= there;
            }
            part(*size) - there
        });
        let by_agent = left.collect();
        Self { by_agent, all }
    }

    /// Whether so much may be put there besides, in every dimension that it uses. If so, it counts.
    pub fn admits(&mut self, agent: AgentIx, size: Resources) -> bool {
        let admits = size.fits(self.by_agent[agent.0 as usize]) && size.fits(self.all);
        if admits {
            self.count(agent, size);
        }
        admits
    }

    pub fn count(&mut self, agent: AgentIx, size: Resources) {
        self.by_agent[agent.0 as usize] -= size;
        self.all -= size;
    }
}

fn part(Resources { cpu, memory, disk, gpu, ports }: Resources) -> Resources {
    Resources { cpu: cpu / PARTS, memory: memory / PARTS, disk: disk / PARTS, gpu: gpu / PARTS, ports: ports / PARTS }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::plan::Plan;
    use super::super::testing::{agent, app, world};
    use super::super::world::{Agent, BasePhase, Fitted};
    use super::super::{Memory, decide};
    use super::*;
    use crate::api::validated::{App, Base, BaseKind};

    fn pooled(name: &str, group: &str, spec: Value) -> App {
        let base = Some(Base { key: group.into(), kind: BaseKind::Executor, ahead: true });
        App { base, ..app(name, spec) }
    }

    fn prepared(plan: &Plan) -> Vec<(&str, u32)> {
        plan.prepare.iter().map(|it| (it.app.name(), it.agent.0)).collect()
    }

    #[test]
    fn executors_take_a_quarter_of_the_limits_so_that_minimums_find_room() {
        let floor = app("floor", json!({"priority": 9, "replicas": 8, "minReplicas": 8}));
        let top = pooled("top", "g", json!({"priority": 1, "replicas": 0}));
        let mut world = world(vec![agent(4, &[]); 200], vec![(top, vec![]), (floor, vec![])]);
        world.limits.memory = 1_024_000;
        let (plan, memory) = decide(&world, Memory::default(), 100);
        assert_eq!((plan.starts.len(), plan.prepare.len()), (8, 6), "on two of the first eight agents the minimum has all room");
        for (agent, at) in world.agents.iter_mut().zip(0..) {
            if at % 20 == 7 {
                let key = Some("g".into());
                agent.bases = vec![Fitted { key, executor: Some("x".into()), phase: BasePhase::Ready, since: 1, limits: None }];
            }
        }
        assert_eq!(decide(&world, memory, 100).0.prepare, [], "those that are there count");
    }

    #[test]
    fn executors_take_a_quarter_of_an_agent_the_most_important_first() {
        let groups = (0..50).map(|n| {
            let name = format!("app{n:02}");
            (pooled(&name, &name, json!({"priority": 60 - n, "replicas": 0})), vec![])
        });
        let agent = Agent { held: Resources::new(2000, 256), ..agent(2, &[]) };
        let plan = decide(&world(vec![agent], groups.collect()), Memory::default(), 100).0;
        assert_eq!(prepared(&plan), [("app49", 0), ("app48", 0)]);
    }

    #[test]
    fn beyond_that_an_executor_comes_with_a_replica_if_there_is_room_for_both() {
        let top = pooled("top", "g", json!({"priority": 1}));
        let start = |cores: i64, spare: usize| {
            let rest = app("rest", json!({"priority": 9, "demand": [{"name": "rest", "remainder": {}}]}));
            let mut world = world(vec![agent(cores, &[])], vec![(top.clone(), vec![]), (rest, vec![0; spare])]);
            world.executor_size = Resources::new(1500, 32);
            world
        };
        let plan = decide(&start(4, 0), Memory::default(), 100).0;
        assert_eq!((plan.starts.len(), plan.prepare.len()), (2, 0), "with it and a spare replica, four cores are full");
        let plan = decide(&start(2, 0), Memory::default(), 100).0;
        assert!(plan.starts.iter().all(|start| start.app.name() == "rest"), "two cores are too few for both");
        let reason = plan.verdicts[&top.key].reason();
        assert!(reason.starts_with("no agent is large enough for cpu 1, memory 64Mi and its executor (cpu 1.5, "), "{reason}");
        let full = start(4, 4);
        let (plan, memory) = decide(&full, Memory::default(), 100);
        assert_eq!((plan.stops.len(), plan.waits.len()), (3, 1));
        // Until both have their room, nobody else gets it.
        let mut after = full;
        after.agents[0].held = Resources::new(3000, 65_000);
        after.apps.values_mut().for_each(|view| view.tasks.truncate(1));
        let plan = decide(&after, memory, 200).0;
        let starts: Vec<&str> = plan.starts.iter().map(|start| start.app.name()).collect();
        assert_eq!((starts, plan.prepare.len(), plan.stops.len()), (vec!["top"], 0, 0));
    }
}
