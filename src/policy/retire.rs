//! Executors end when nobody has wanted them for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bases::Bases;
use super::memory::Memory;
use super::plan::Retire;
use super::world::{Agent, AgentIx, BasePhase, Fitted, Millis, TaskPhase, World};

/// Executors without tasks that nobody has wanted for a while, or on agents that are about to go, and when the next will have been idle for so long. While some specs may
/// be missing, their apps may want them.
pub(super) fn retire(world: &World, bases: &Bases, memory: &mut Memory, now: Millis) -> (Vec<Retire>, Option<Millis>) {
    let idle = if world.end_orphans && world.spared.is_empty() { idle(world, bases) } else { BTreeSet::new() };
    let before = std::mem::take(&mut memory.idle);
    let since = |one: &(AgentIx, Arc<str>)| before.get(one).copied().unwrap_or(now);
    let all = idle.into_iter().map(|(agent, id)| (agent, Arc::clone(id)));
    let idle: BTreeMap<_, _> = all.map(|one| (one.clone(), since(&one))).collect();
    let (mut retire, mut wake_at) = (Vec::new(), None);
    for ((agent, executor), since) in &idle {
        let departs = world.agents.get(agent.0 as usize).is_some_and(|agent| agent.departs);
        let end = if departs { now } else { since.saturating_add(world.executor_idle_ms) };
        if end <= now {
            retire.push(Retire { executor: Arc::clone(executor), agent: *agent });
        } else {
            wake_at = wake_at.into_iter().chain([end]).min();
        }
    }
    memory.idle = idle;
    (retire, wake_at)
}

/// An executor has the same id on every agent, so that only both together name one.
fn idle<'w>(world: &'w World, bases: &Bases) -> BTreeSet<(AgentIx, &'w Arc<str>)> {
    let wanted = |agent: &Agent, fitted: &Fitted| fitted.key.as_ref().is_some_and(|key| bases.keeps(key, agent));
    // One of other settings need not get ready first.
    let up = |fitted: &Fitted| fitted.phase == BasePhase::Ready || (fitted.key.is_none() && fitted.phase == BasePhase::Coming);
    let mut idle = BTreeSet::new();
    for (agent, ix) in world.agents.iter().zip(0..).filter(|(agent, _)| agent.present) {
        let unwanted = agent.bases.iter().filter(|fitted| fitted.executor.is_some() && up(fitted) && !wanted(agent, fitted));
        idle.extend(unwanted.filter_map(|fitted| Some((AgentIx(ix), fitted.executor.as_ref()?))));
    }
    if !idle.is_empty() {
        let tasks = world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase != TaskPhase::Unreachable);
        for (agent, executor) in tasks.filter_map(|task| Some((task.agent, task.executor.as_ref()?))) {
            idle.remove(&(agent, executor));
        }
    }
    idle
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::decide;
    use super::super::testing::{agent, app, running};
    use super::super::world::{AppView, Task};
    use super::*;
    use crate::api::validated::App;

    fn pooled() -> App {
        let template = json!({"resources": {"cpu": "1", "memory": "64Mi"}, "shell": "x", "launch": "pooled"});
        app("top", json!({"replicas": 0, "template": template}))
    }

    /// Agents with an executor of the app each, all of the same id, as they are.
    fn world(agents: usize, app: Option<&App>) -> World {
        let key = pooled().base.map(|base| base.key);
        let fitted = Fitted { key, executor: Some("x".into()), phase: BasePhase::Ready, since: 50, limits: None };
        let agents = vec![Agent { bases: vec![fitted], ..agent(4, &[]) }; agents];
        let view = |app: &App| (app.key.clone(), AppView { spec: Some(Arc::new(app.clone())), ..AppView::default() });
        let apps = app.into_iter().map(view).collect();
        let limits = super::super::resources::Resources::UNLIMITED;
        World { limits, agents, apps, executor_idle_ms: 1000, end_orphans: true, ..World::default() }
    }

    fn retired(world: &World, memory: Memory, now: Millis) -> (Vec<(u32, String)>, Option<Millis>, Memory) {
        let (plan, memory) = decide(world, memory, now);
        (plan.retire.iter().map(|it| (it.agent.0, it.executor.to_string())).collect(), plan.wake_at, memory)
    }

    #[test]
    fn an_executor_that_nobody_wants_ends_after_a_while() {
        let mut world = world(1, Some(&pooled()));
        let other = Fitted { key: None, executor: Some("other".into()), ..world.agents[0].bases[0].clone() };
        world.agents[0].bases.push(other);
        let (none, wake_at, memory) = retired(&world, Memory::default(), 100);
        assert_eq!((none.len(), wake_at), (0, Some(1100)), "the one of other settings");
        world.end_orphans = false;
        assert_eq!(retired(&world, memory.clone(), 1100).0, []);
        world.end_orphans = true;
        let (ended, _, memory) = retired(&world, memory, 1100);
        assert_eq!(ended, [(0, "other".to_owned())]);
        world.agents[0].bases.pop();
        world.apps.clear();
        let (none, wake_at, memory) = retired(&world, memory, 2000);
        assert_eq!((none.len(), wake_at), (0, Some(3000)));
        assert_eq!(retired(&world, memory, 3000).0, [(0, "x".to_owned())]);
    }

    #[test]
    fn of_executors_with_the_same_id_each_is_judged_by_itself() {
        let mut world = world(4, None);
        let last = |phase| Task { executor: Some("x".into()), phase, ..running(&pooled(), 3, 50) };
        let view = AppView { tasks: vec![last(TaskPhase::Stopping)], ..AppView::default() };
        world.apps.insert(pooled().key, view);
        world.agents[2].present = false;
        let (none, wake_at, memory) = retired(&world, Memory::default(), 100);
        assert_eq!((none.len(), wake_at), (0, Some(1100)));
        // The third joins later, and the task on the fourth ends later.
        world.agents[2].present = true;
        let memory = retired(&world, memory, 500).2;
        world.apps.clear();
        let memory = retired(&world, memory, 700).2;
        let (ended, wake_at, memory) = retired(&world, memory, 1100);
        assert_eq!((ended.iter().map(|(agent, _)| *agent).collect::<Vec<_>>(), wake_at), (vec![0, 1], Some(1500)));
        world.agents.iter_mut().take(2).for_each(|agent| agent.bases[0].phase = BasePhase::Leaving);
        let (ended, wake_at, _) = retired(&world, memory, 1500);
        assert_eq!((ended, wake_at), (vec![(2, "x".to_owned())], Some(1700)));
    }
}
