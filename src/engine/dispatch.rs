//! Plan → orders. Nothing is decided here: what must not be done is not in the plan.

use std::time::Instant;

use crate::backend::{Kill, Launch, Orders, preparation_id, task_id};
use crate::policy::plan::{Plan, Stop};
use crate::policy::world::{AgentIx, TaskPhase, World};

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
        let prepare = plan.prepare.iter().filter_map(|it| {
            let app = world.apps.get(&it.app)?.spec.clone()?;
            self.serial += 1;
            Some(Launch { id: preparation_id(&app.base.as_ref()?.key, &self.incarnation, self.serial), app, agent: it.agent })
        });
        let prepare = prepare.collect();
        Orders {
            launches,
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

/// Orders that end every task that is not ending already, and hold no room.
#[must_use]
pub fn drain(world: &World) -> Orders {
    let living = world.apps.iter().flat_map(|(app, view)| view.tasks.iter().map(move |task| (app, task)));
    let kills = living.filter(|(_, task)| task.phase != TaskPhase::Stopping).map(|(app, task)| Kill {
        app: app.clone(),
        id: task.id.clone(),
        grace_ms: None,
    });
    let held = (0..).map(AgentIx).zip(&world.agents).filter(|(_, agent)| !agent.held.is_zero());
    Orders { kills: kills.collect(), release: held.map(|(agent, _)| agent).collect(), quiet: true, ..Orders::default() }
}
