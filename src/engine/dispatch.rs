//! Plan → orders. Nothing is decided here: what must not be done is not in the plan.

use std::collections::HashSet;
use std::time::Instant;

use crate::backend::{Kill, Launch, Orders, preparation_id, task_id};
use crate::policy::plan::{Plan, Retire, Stop};
use crate::policy::world::{Agent, AgentIx, BasePhase, TaskPhase, World};

/// Gives each launched task its name.
pub struct Dispatcher {
    incarnation: String,
    serial: u64,
}

impl Dispatcher {
    /// `incarnation` is unique to this run of the program.
    #[must_use]
    pub fn new(incarnation: String) -> Self {
        Self { incarnation, serial: 0 }
    }

    /// The orders that carry out the plan.
    pub fn orders(&mut self, plan: &Plan, world: &World, caused_at: Option<Instant>) -> Orders {
        let launches = plan.starts.iter().filter_map(|start| {
            let app = world.apps.get(&start.app)?.spec.clone()?;
            self.serial += 1;
            Some(Launch { id: task_id(&app.key, app.version, &self.incarnation, self.serial), app, agent: start.agent })
        });
        let launches = launches.collect();
        let upcoming = plan.waits.iter().filter(|wait| !wait.free).filter_map(|wait| {
            let app = world.apps.get(&wait.app)?.spec.clone()?;
            self.serial += 1;
            Some(Launch { id: task_id(&app.key, app.version, &self.incarnation, self.serial), app, agent: wait.agent })
        });
        let upcoming = upcoming.collect();
        let prepare = plan.prepare.iter().filter_map(|it| {
            let app = world.apps.get(&it.app)?.spec.clone()?;
            self.serial += 1;
            Some(Launch { id: preparation_id(&app.base.as_ref()?.key, &self.incarnation, self.serial), app, agent: it.agent })
        });
        let prepare = prepare.collect();
        Orders {
            launches,
            upcoming,
            kills: plan.stops.iter().map(|stop| kill(stop, world)).collect(),
            prepare,
            retire: plan.retire.clone(),
            release: plan.release.clone(),
            recall: plan.recall,
            awaited: plan
                .waits
                .iter()
                .filter(|wait| wait.free)
                .map(|wait| wait.agent)
                .chain(plan.sought.iter().copied())
                .collect(),
            quiet: plan.quiet,
            caused_at,
        }
    }
}

/// With the grace period that the spec gives now; a deleted app's tasks have theirs from when they were launched.
fn kill(stop: &Stop, world: &World) -> Kill {
    let spec = world.apps.get(&stop.app).and_then(|view| view.spec.as_ref());
    let grace_ms = spec.and_then(|app| u64::try_from(app.template.grace_period_milliseconds).ok());
    Kill { app: stop.app.clone(), id: stop.task.clone(), grace_ms }
}

/// Orders that end every task that is not ending already, and every executor without tasks, and hold no room. An executor ends its tasks
/// at once when it ends, so that one with tasks has to wait until they have had their grace periods: for the orders after that.
#[must_use]
pub fn drain(world: &World) -> Orders {
    let living = world.apps.iter().flat_map(|(app, view)| view.tasks.iter().map(move |task| (app, task)));
    let kills = living.filter(|(_, task)| task.phase != TaskPhase::Stopping).map(|(app, task)| Kill {
        app: app.clone(),
        id: task.id.clone(),
        grace_ms: None,
    });
    let held = agents(world).filter(|(_, agent)| !agent.held.is_zero());
    Orders {
        kills: kills.collect(),
        retire: without_tasks(world),
        release: held.map(|(agent, _)| agent).collect(),
        quiet: true,
        ..Orders::default()
    }
}

fn without_tasks(world: &World) -> Vec<Retire> {
    let tasks = world.apps.values().flat_map(|view| &view.tasks);
    let busy: HashSet<_> = tasks.filter_map(|task| Some((task.agent, task.executor.as_ref()?))).collect();
    let up = agents(world).flat_map(|(ix, agent)| agent.bases.iter().map(move |fitted| (ix, fitted)));
    let up = up.filter(|(_, fitted)| matches!(fitted.phase, BasePhase::Coming | BasePhase::Ready));
    let executors = up.filter_map(|(agent, fitted)| Some((agent, fitted.executor.as_ref()?)));
    let idle = executors.filter(|executor| !busy.contains(executor));
    idle.map(|(agent, executor)| Retire { executor: executor.clone(), agent }).collect()
}

fn agents(world: &World) -> impl Iterator<Item = (AgentIx, &Agent)> {
    (0..).map(AgentIx).zip(&world.agents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validated::Key;
    use crate::policy::resources::Resources;
    use crate::policy::world::{AppView, Fitted, Task};

    #[test]
    fn an_executor_is_ended_when_its_tasks_have() {
        let fitted = |id: &str, phase| Fitted { key: None, executor: Some(id.into()), phase, since: 0, limits: None };
        let bases = vec![fitted("busy", BasePhase::Ready), fitted("idle", BasePhase::Ready), fitted("left", BasePhase::Leaving)];
        let mut world = World { agents: vec![Agent { bases, ..Agent::default() }], ..World::default() };
        let task = Task {
            id: "t".into(),
            agent: AgentIx(0),
            version: None,
            phase: TaskPhase::Stopping,
            ready: false,
            since: 0,
            born: 0,
            resources: Resources::ZERO,
            executor: Some("busy".into()),
        };
        world.apps.insert(Key::new("a", "b"), AppView { tasks: vec![task], ..AppView::default() });
        let retired = |world: &World| drain(world).retire.iter().map(|it| it.executor.to_string()).collect::<Vec<_>>();
        assert_eq!(retired(&world), ["idle"]);
        world.apps.clear();
        assert_eq!(retired(&world), ["busy", "idle"]);
    }
}
