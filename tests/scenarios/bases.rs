//! Executors and images in simulated time, and the rules that plans keep about them.

use std::collections::BTreeSet;
use std::sync::Arc;

use microscaler::api::validated::{App, Base, BaseKind};
use microscaler::backend::End;
use microscaler::policy::plan::Plan;
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{Agent, AgentIx, BasePhase, Fitted, Millis, Task, TaskPhase};

use super::Sim;

/// What fetching an image uses.
const FETCHING: Resources = Resources { cpu: 10, memory: 32_000, disk: 0, gpu: 0, ports: 0 };
/// What the first task of an executor uses beside it, unless that is a replica.
const FIRST_TASK: Resources = Resources { cpu: 1, memory: 0, disk: 0, gpu: 0, ports: 0 };
/// An executor that failed is not tried again for so long, times its tries.
const RETRY_MS: u64 = 700;

/// Replicas are processes of the executor of this group.
pub fn pooled(group: &str) -> Base {
    Base { key: group.into(), kind: BaseKind::Executor, ahead: true }
}

pub fn image(name: &str, ahead: bool) -> Base {
    Base { key: name.into(), kind: BaseKind::Image, ahead }
}

/// The executor or image with this key that a replica could use, if there is one.
pub fn usable<'a>(agent: &'a Agent, key: &str) -> Option<&'a Fitted> {
    let good = |fitted: &&Fitted| matches!(fitted.phase, BasePhase::Coming | BasePhase::Ready);
    agent.bases.iter().filter(|fitted| fitted.key.as_deref() == Some(key)).find(good)
}

/// Whether the last of its kind failed, and is not tried again yet, or has to leave first.
pub fn is_barred(agent: &Agent, key: &str, now: Millis) -> bool {
    let bars = |fitted: &Fitted| match fitted.phase {
        BasePhase::Failed { until, .. } => until > now,
        BasePhase::Leaving => true,
        BasePhase::Coming | BasePhase::Ready => false,
    };
    usable(agent, key).is_none() && agent.bases.iter().any(|fitted| fitted.key.as_deref() == Some(key) && bars(fitted))
}

impl Sim {
    pub fn base_size(&self, base: &Base) -> Resources {
        if base.kind == BaseKind::Executor { self.world.executor_size + FIRST_TASK } else { FETCHING }
    }

    /// What bases use of an agent.
    pub fn used_by_bases(&self, agent: usize) -> Resources {
        let ix = AgentIx(u32::try_from(agent).unwrap());
        self.world.agents[agent].bases.iter().map(|fitted| self.used_by(ix, fitted)).sum()
    }

    fn used_by(&self, ix: AgentIx, fitted: &Fitted) -> Resources {
        let Some(id) = &fitted.executor else {
            return if self.fetching.contains(&(ix, fitted.key.clone())) { FETCHING } else { Resources::ZERO };
        };
        let first = if self.first_tasks.contains(&(ix, id.clone())) { FIRST_TASK } else { Resources::ZERO };
        if matches!(fitted.phase, BasePhase::Failed { .. }) { Resources::ZERO } else { self.world.executor_size + first }
    }

    /// Of the declared apps that want this base ahead on this agent, the priority of the most important.
    pub fn wanted_by(&self, agent: &Agent, key: &str) -> Option<i32> {
        self.apps_with(agent, key).filter(|app| !app.suspended).map(|app| app.priority).min()
    }

    /// The declared apps for which this base stays where it is there.
    fn apps_with<'a>(&'a self, agent: &'a Agent, key: &'a str) -> impl Iterator<Item = &'a Arc<App>> {
        let apps = self.world.apps.values().filter_map(|view| view.spec.as_ref()).filter(|app| !app.observed_only);
        apps.filter(move |app| app.base.as_ref().is_some_and(|base| base.ahead && *base.key == *key) && allows(app, agent))
    }

    /// Whether a replica starts there that the image comes with.
    fn comes_with_replica(&self, agent: &Agent, key: &str) -> bool {
        let views = self.world.apps.values().filter_map(|view| Some((view, view.spec.as_ref()?)));
        let of_it = |app: &App| app.base.as_ref().is_some_and(|base| base.kind == BaseKind::Image && *base.key == *key);
        let mut tasks =
            views.filter(|(_, app)| of_it(app)).flat_map(|(view, app)| view.tasks.iter().map(move |task| (task, app)));
        tasks.any(|(task, app)| {
            let here = self.world.agents[task.agent.0 as usize].id == agent.id;
            here && task.phase == TaskPhase::Starting && task.version == Some(app.version)
        })
    }

    /// Every base that is wanted on this agent and not there, with the rank of its room.
    pub fn missing(&self, agent: &Agent) -> Vec<(Base, i32)> {
        let mut missing = self.owed(agent);
        missing.retain(|(base, _)| !is_barred(agent, &base.key, self.now));
        missing
    }

    /// The same with those that cannot go there yet: room is set aside for them, too.
    pub fn owed(&self, agent: &Agent) -> Vec<(Base, i32)> {
        let specs = self.world.apps.values().filter_map(|view| view.spec.as_ref());
        let mut all: Vec<Base> = specs.filter_map(|app| app.base.clone()).collect();
        all.sort_by(|one, other| one.key.cmp(&other.key));
        all.dedup_by(|one, other| one.key == other.key);
        all.retain(|base| usable(agent, &base.key).is_none() && !self.comes_with_replica(agent, &base.key));
        all.into_iter().filter_map(|base| Some((base.clone(), self.wanted_by(agent, &base.key)?))).collect()
    }

    /// An executor starts, or an image is fetched.
    pub fn bring(&mut self, base: &Base, ix: AgentIx, ahead: bool) -> Option<Arc<str>> {
        let due = self.now + self.vary(self.habits.base_ms);
        // The id does not tell the agent.
        let executor = (base.kind == BaseKind::Executor).then(|| Arc::<str>::from(format!("x.{}", base.key)));
        let size = match &executor {
            Some(id) if ahead => {
                self.first_tasks.insert((ix, id.clone()));
                self.world.executor_size + FIRST_TASK
            }
            Some(_) => self.world.executor_size,
            None => {
                self.fetching.insert((ix, Some(base.key.clone())));
                FETCHING
            }
        };
        let agent = &mut self.world.agents[ix.0 as usize];
        agent.held -= size;
        agent.bases.retain(|fitted| fitted.key.as_ref() != Some(&base.key) || fitted.phase == BasePhase::Leaving);
        let (key, since) = (Some(base.key.clone()), self.now);
        agent.bases.push(Fitted { key, executor: executor.clone(), phase: BasePhase::Coming, since, limits: None });
        self.bases_due.insert((ix, executor.clone().unwrap_or_else(|| base.key.clone())), due);
        executor
    }

    /// The executor of a replica that starts there, and when it is up.
    pub fn executor_for(&mut self, app: &App, ix: AgentIx) -> (Option<Arc<str>>, Millis) {
        let Some(base) = &app.base else { return (None, self.now) };
        let here = usable(&self.world.agents[ix.0 as usize], &base.key).map(|fitted| fitted.executor.clone());
        // An image is not seen before the replica runs.
        let is_seen = here.is_some() || base.kind == BaseKind::Executor;
        let executor = here.unwrap_or_else(|| if is_seen { self.bring(base, ix, false) } else { None });
        let up = executor.as_ref().and_then(|id| self.bases_due.get(&(ix, id.clone()))).copied();
        (executor, up.unwrap_or(self.now))
    }

    /// A replica runs: its image is there.
    pub fn image_there(&mut self, app: &App, ix: AgentIx) {
        let Some(base) = app.base.as_ref().filter(|base| base.kind == BaseKind::Image) else { return };
        let bases = &mut self.world.agents[ix.0 as usize].bases;
        let is_it = |fitted: &Fitted| fitted.key.as_ref() == Some(&base.key);
        if !bases.iter().any(|fitted| is_it(fitted) && !matches!(fitted.phase, BasePhase::Failed { .. })) {
            bases.retain(|fitted| !is_it(fitted));
            let (key, since) = (Some(base.key.clone()), self.now);
            bases.push(Fitted { key, executor: None, phase: BasePhase::Ready, since, limits: None });
        }
    }

    pub fn retire(&mut self, executor: &str, ix: AgentIx) {
        let due = self.now + self.vary(self.habits.stop_ms);
        let mut bases = self.world.agents[ix.0 as usize].bases.iter_mut();
        let fitted = bases.find(|fitted| fitted.executor.as_deref() == Some(executor)).unwrap();
        (fitted.phase, fitted.since) = (BasePhase::Leaving, self.now);
        self.bases_due.insert((ix, executor.into()), due);
    }

    /// What was due on an agent has come to pass.
    pub fn base_happens(&mut self, ix: AgentIx, id: &Arc<str>) {
        let is_it = |fitted: &Fitted| fitted.executor.as_ref().or(fitted.key.as_ref()) == Some(id);
        let Some(at) = self.world.agents[ix.0 as usize].bases.iter().position(is_it) else { return };
        let fitted = self.world.agents[ix.0 as usize].bases[at].clone();
        let before = self.used_by(ix, &fitted);
        match fitted.phase {
            BasePhase::Leaving => {
                self.world.agents[ix.0 as usize].bases.remove(at);
                self.free(ix, before);
            }
            BasePhase::Coming if self.failing.contains(&ix) => self.base_fails(ix, at, "cannot be run"),
            BasePhase::Coming => {
                self.first_tasks.remove(&(ix, id.clone()));
                self.fetching.remove(&(ix, fitted.key.clone()));
                let fitted = &mut self.world.agents[ix.0 as usize].bases[at];
                (fitted.phase, fitted.since) = (BasePhase::Ready, self.now);
                let fitted = fitted.clone();
                self.free(ix, before - self.used_by(ix, &fitted));
            }
            BasePhase::Ready | BasePhase::Failed { .. } => {}
        }
    }

    /// The first executor on the agent dies, with its tasks.
    pub fn executor_dies(&mut self, ix: AgentIx) {
        let bases = &self.world.agents[ix.0 as usize].bases;
        let lives = |fitted: &Fitted| fitted.executor.is_some() && !matches!(fitted.phase, BasePhase::Failed { .. });
        if let Some(at) = bases.iter().position(lives) {
            self.base_fails(ix, at, "terminated by signal 9");
        }
    }

    fn base_fails(&mut self, ix: AgentIx, at: usize, why: &str) {
        let fitted = self.world.agents[ix.0 as usize].bases[at].clone();
        let used = self.used_by(ix, &fitted);
        let Fitted { key, executor, .. } = fitted;
        if let Some(id) = &executor {
            self.first_tasks.remove(&(ix, id.clone()));
            self.bases_due.remove(&(ix, id.clone()));
        }
        self.fetching.remove(&(ix, key.clone()));
        let tries = self.tries.entry((ix, key.clone())).or_default();
        *tries += 1;
        let phase = BasePhase::Failed { until: self.now + u64::from(*tries) * RETRY_MS, tries: *tries, why: why.into() };
        self.world.agents[ix.0 as usize].bases[at] = Fitted { key, executor: None, phase, since: self.now, limits: None };
        self.free(ix, used);
        let keys: Vec<_> = self.world.apps.keys().cloned().collect();
        for app in keys {
            let is_of_it = |task: &Task| task.agent == ix && executor.is_some() && task.executor == executor;
            let of_it = |sim: &Self| sim.world.apps[&app].tasks.iter().position(is_of_it);
            while let Some(task) = of_it(self) {
                let up = self.world.apps[&app].tasks[task].phase == TaskPhase::Running;
                self.end(&app, task, if up { End::Lost } else { End::Dropped });
            }
        }
    }

    pub fn has_tasks(&self, ix: AgentIx, fitted: &Fitted) -> bool {
        let mut tasks = self.world.apps.values().flat_map(|view| &view.tasks);
        tasks.any(|task| task.agent == ix && task.executor.is_some() && task.executor == fitted.executor)
    }

    fn free(&mut self, ix: AgentIx, room: Resources) {
        let agent = &mut self.world.agents[ix.0 as usize];
        if agent.present {
            agent.expected += room;
        }
    }

    /// What the plan puts on agents now, beside tasks: executors that come along, and what goes ahead.
    pub fn brought(&self, plan: &Plan) -> Vec<(AgentIx, Resources)> {
        let spec = |key| self.world.apps[key].spec.clone().unwrap();
        let mut brought: BTreeSet<(AgentIx, Arc<str>)> = BTreeSet::new();
        for start in &plan.starts {
            if let Some(base) = spec(&start.app).base.clone().filter(|base| base.kind == BaseKind::Executor)
                && usable(&self.world.agents[start.agent.0 as usize], &base.key).is_none()
            {
                brought.insert((start.agent, base.key));
            }
        }
        let along = brought.into_iter().map(|(agent, _)| (agent, self.world.executor_size));
        let ahead = plan.prepare.iter().map(|it| (it.agent, self.base_size(spec(&it.app).base.as_ref().unwrap())));
        along.chain(ahead).collect()
    }

    pub fn check_bases(&self, plan: &Plan) {
        let agent = |ix: AgentIx| &self.world.agents[ix.0 as usize];
        let base = |key| self.world.apps[key].spec.as_ref().unwrap().base.clone();
        let mut seen = BTreeSet::new();
        for prepare in &plan.prepare {
            let base = base(&prepare.app).unwrap();
            let there = agent(prepare.agent);
            assert!(there.is_open() && self.wanted_by(there, &base.key).is_some(), "{prepare:?} is wanted");
            assert!(usable(there, &base.key).is_none(), "{prepare:?} is not there yet");
            assert!(!self.comes_with_replica(there, &base.key), "{prepare:?} does not come already");
            assert!(!is_barred(there, &base.key, self.now), "{prepare:?} may be tried");
            assert!(seen.insert((prepare.agent, base.key)), "{prepare:?} once");
        }
        for start in &plan.starts {
            let Some(base) = base(&start.app).filter(|base| base.ahead) else { continue };
            assert!(!seen.contains(&(start.agent, base.key.clone())), "{start:?} brings its base along");
            if base.kind == BaseKind::Executor {
                assert!(!is_barred(agent(start.agent), &base.key, self.now), "{start:?} has an executor");
            }
        }
        let tasks: Vec<_> = self.world.apps.values().flat_map(|view| &view.tasks).collect();
        for retire in &plan.retire {
            let there = agent(retire.agent);
            let fitted = there.bases.iter().find(|fitted| fitted.executor.as_ref() == Some(&retire.executor)).unwrap();
            let unwanted = there.departs || fitted.key.as_ref().is_none_or(|key| self.apps_with(there, key).next().is_none());
            assert!(self.world.end_orphans && unwanted && fitted.phase == BasePhase::Ready, "{retire:?} of {fitted:?}");
            let is_of_it = |task: &&Task| task.agent == retire.agent && task.executor.as_ref() == Some(&retire.executor);
            assert!(!tasks.iter().any(is_of_it), "{retire:?} is idle");
        }
    }
}

/// Whether the last of its kind failed there, however long ago.
pub fn has_failed(agent: &Agent, key: &str) -> bool {
    let failed = |fitted: &Fitted| fitted.key.as_deref() == Some(key) && matches!(fitted.phase, BasePhase::Failed { .. });
    usable(agent, key).is_none() && agent.bases.iter().any(failed)
}

/// Of the conditions, tests use one: an attribute has one value.
fn allows(app: &App, agent: &Agent) -> bool {
    let meets = |attribute: &str, values: &[String]| agent.attributes.get(attribute).is_some_and(|mine| values.contains(mine));
    app.requirements.iter().all(|it| meets(&it.attribute, it.values.as_deref().unwrap_or_default()))
}
