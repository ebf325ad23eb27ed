//! A cluster in simulated time: it carries out plans, lets tasks start, end and crash, and holds every plan to the rules.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "bases.rs"]
pub mod bases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use microscaler::api::MicroscaledApp;
use microscaler::api::demand::{Push, Role, Source};
use microscaler::api::validated::{App, BaseKind, Key, Metric, TargetValue, Version};
use microscaler::backend::{End, Ending};
use microscaler::policy::plan::{Plan, StopReason};
use microscaler::policy::resources::Resources;
use microscaler::policy::world::{Agent, AgentIx, AppView, BasePhase, Millis, Reading, Task, TaskPhase, World};
use microscaler::policy::{Memory, decide};

pub fn key(name: &str) -> Key {
    Key::new("default", name)
}

/// An app with one replica of one core and 64 MiB at priority 100, and nothing else.
pub fn app(name: &str) -> App {
    let template = serde_json::json!({"resources": {"cpu": "1", "memory": "64Mi"}, "shell": "true"});
    let spec = serde_json::from_value(serde_json::json!({"template": template})).unwrap();
    App { version: Version(1), ..App::read(&MicroscaledApp::new(name, spec)).unwrap() }
}

/// A pushed metric with this target.
pub fn metric(name: &str, target: TargetValue, stale_after_ms: u64) -> Metric {
    Metric {
        name: name.into(),
        source: Source::Push(Push {}),
        target,
        role: Role::Demand,
        stale_after_ms,
        ladder: Vec::new(),
        forecast: None,
    }
}

/// How the cluster behaves.
#[derive(Clone, Debug)]
pub struct Habits {
    /// From launch to running.
    pub start_ms: u64,
    /// From the request to end to the end.
    pub stop_ms: u64,
    /// From when room is free, or was given back, until it is in our hands again.
    pub offer_ms: u64,
    /// From when an executor is started, or an image fetched, until it is ready.
    pub base_ms: u64,
    /// These delays vary by up to so many times, by this seed.
    pub jitter: Option<u64>,
    /// So long after offers were suppressed it is not known what room there is; `None`: it always is.
    pub survey_ms: Option<u64>,
    /// Every so many times that room comes free after tasks gave way, somebody else takes it.
    pub rival: Option<u32>,
}

impl Default for Habits {
    fn default() -> Self {
        Self { start_ms: 50, stop_ms: 100, offer_ms: 20, base_ms: 300, jitter: None, survey_ms: None, rival: None }
    }
}

/// Room that was given back is not offered again for so long, unless it is asked for.
const REFUSED_MS: u64 = 5000;
/// A rival keeps what it took for so long.
const RIVAL_MS: u64 = 2000;
/// So long nothing is freed after a rival took what was.
const FUTILE_MS: u64 = 3000;

pub struct Sim {
    pub world: World,
    pub memory: Memory,
    pub now: Millis,
    pub habits: Habits,
    pub capacity: Vec<Resources>,
    /// Versions whose tasks fail as soon as they start.
    pub broken: Vec<(Key, Version)>,
    pub last: Plan,
    /// Agents on which executors do not start.
    pub failing: BTreeSet<AgentIx>,
    bases_due: BTreeMap<(AgentIx, Arc<str>), Millis>,
    /// Executors that still run the task that they were started with.
    first_tasks: BTreeSet<(AgentIx, Arc<str>)>,
    /// Images that are being fetched before they are needed.
    fetching: BTreeSet<(AgentIx, Option<Arc<str>>)>,
    tries: BTreeMap<(AgentIx, Option<Arc<str>>), u32>,
    due: BTreeMap<Arc<str>, Millis>,
    offers_due: BTreeMap<AgentIx, Millis>,
    /// Until when room that was given back is not offered.
    refused: BTreeMap<AgentIx, Millis>,
    /// No offers come.
    suppressed: bool,
    surveyed_at: Option<Millis>,
    /// Agents that have never been offered.
    hidden: Vec<(Resources, Vec<(String, String)>)>,
    gave_way: BTreeSet<Arc<str>>,
    rounds_of_room: u32,
    rival_until: Vec<(AgentIx, Resources, Millis)>,
    serial: u64,
}

impl Sim {
    pub fn new(habits: Habits) -> Self {
        let world = World { limits: Resources::UNLIMITED, end_orphans: true, ..World::default() };
        Self {
            world,
            memory: Memory::default(),
            now: 1,
            habits,
            capacity: Vec::new(),
            broken: Vec::new(),
            last: Plan::default(),
            failing: BTreeSet::new(),
            bases_due: BTreeMap::new(),
            first_tasks: BTreeSet::new(),
            fetching: BTreeSet::new(),
            tries: BTreeMap::new(),
            due: BTreeMap::new(),
            offers_due: BTreeMap::new(),
            refused: BTreeMap::new(),
            suppressed: false,
            surveyed_at: None,
            hidden: Vec::new(),
            gave_way: BTreeSet::new(),
            rounds_of_room: 0,
            rival_until: Vec::new(),
            serial: 0,
        }
    }

    pub fn add_agent(&mut self, room: Resources, attributes: &[(&str, &str)]) -> AgentIx {
        let ix = AgentIx(u32::try_from(self.world.agents.len()).unwrap());
        let name: Arc<str> = format!("a{}", ix.0 + 1).into();
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let agent = Agent { id: name.clone(), hostname: name, attributes, held: room, present: true, ..Agent::default() };
        self.world.agents.push(agent);
        self.capacity.push(room);
        ix
    }

    /// An agent that nothing is known of until it is offered.
    pub fn hide_agent(&mut self, room: Resources, attributes: &[(&str, &str)]) {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.hidden.push((room, attributes));
        if !self.suppressed {
            self.survey();
        }
    }

    /// Offers begin to come: until they have, it is not known what room there is.
    fn survey(&mut self) {
        if let Some(ms) = self.habits.survey_ms {
            self.world.unsurveyed = true;
            self.surveyed_at = Some(self.now + ms);
        }
    }

    pub fn set_app(&mut self, app: App) {
        let view = self.world.apps.entry(app.key.clone()).or_default();
        view.readings.resize(app.demand.len(), Reading::default());
        view.spec = Some(Arc::new(app));
    }

    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut App)) {
        let mut app = (**self.world.apps[&key(name)].spec.as_ref().unwrap()).clone();
        app.generation += 1;
        change(&mut app);
        self.set_app(app);
    }

    pub fn view(&mut self, name: &str) -> &mut AppView {
        self.world.apps.get_mut(&key(name)).unwrap()
    }

    pub fn push(&mut self, name: &str, value: f64) {
        let now = self.now;
        for reading in &mut self.view(name).readings {
            *reading = Reading { value: Some((value, now)), ..Reading::default() };
        }
    }

    /// Agent and tasks can no longer be reached, or can again.
    pub fn set_reachable(&mut self, agent: AgentIx, reachable: bool) {
        let now = self.now;
        let ix = agent.0 as usize;
        let mut used = Resources::ZERO;
        for task in self.world.apps.values_mut().flat_map(|view| &mut view.tasks).filter(|task| task.agent == agent) {
            task.phase = if reachable { TaskPhase::Running } else { TaskPhase::Unreachable };
            task.since = now;
            self.due.remove(&task.id);
            used += task.resources;
        }
        self.rival_until.retain(|(at, ..)| *at != agent);
        used += self.used_by_bases(ix);
        let view = &mut self.world.agents[ix];
        view.present = reachable;
        view.expected = Resources::ZERO;
        view.held = if reachable { self.capacity[ix] - used } else { Resources::ZERO };
    }

    /// Nothing more may go to the agent, as before maintenance or while it is drained. Its tasks run until somebody ends them.
    pub fn close(&mut self, agent: AgentIx) {
        let view = &mut self.world.agents[agent.0 as usize];
        (view.present, view.held, view.expected) = (false, Resources::ZERO, Resources::ZERO);
    }

    /// Maintenance of the agent is about to begin, or no longer planned; then its room is offered anew.
    pub fn depart(&mut self, agent: AgentIx, departs: bool) {
        self.world.agents[agent.0 as usize].departs = departs;
    }

    /// Live replicas on agents that are about to go.
    pub fn displaced(&self, view: &AppView) -> i64 {
        let (mut here, agents) = (view.clone(), &self.world.agents);
        here.tasks.retain(|task| agents[task.agent.0 as usize].departs);
        live(&here)
    }

    /// Whoever drains the agent ends its tasks.
    pub fn drain(&mut self, agent: AgentIx) {
        let here = |view: &AppView| view.tasks.iter().position(|task| task.agent == agent);
        while let Some((key, at)) = self.world.apps.iter().find_map(|(key, view)| Some((key.clone(), here(view)?))) {
            self.end(&key, at, End::Dropped);
        }
    }

    /// The agent and all its tasks are gone for good.
    pub fn lose(&mut self, agent: AgentIx) {
        let ix = agent.0 as usize;
        let nothing = Resources::ZERO;
        let old = self.world.agents[ix].clone();
        self.world.agents[ix] = Agent { present: false, held: nothing, expected: nothing, bases: Vec::new(), ..old };
        self.bases_due.retain(|(at, _), _| *at != agent);
        self.fetching.retain(|(at, _)| *at != agent);
        for view in self.world.apps.values_mut() {
            view.tasks.retain(|task| task.agent != agent);
        }
    }

    /// Decides, checks the plan and carries it out.
    pub fn decide(&mut self) -> Plan {
        let (plan, memory) = decide(&self.world, self.memory.clone(), self.now);
        let (again, memory_again) = decide(&self.world, self.memory.clone(), self.now);
        assert_eq!(format!("{plan:?}{memory:?}"), format!("{again:?}{memory_again:?}"), "the same inputs give the same bytes");
        self.check(&plan);
        self.memory = memory;
        self.carry_out(&plan);
        self.last = plan.clone();
        plan
    }

    /// The same once and without checks, for long runs.
    pub fn decide_fast(&mut self) -> Plan {
        let (plan, memory) = decide(&self.world, std::mem::take(&mut self.memory), self.now);
        self.memory = memory;
        self.carry_out(&plan);
        self.last = plan.clone();
        plan
    }

    /// Does what a plan says, whoever made it.
    pub fn carry_out(&mut self, plan: &Plan) {
        for stop in &plan.stops {
            let due = self.now + self.vary(self.habits.stop_ms);
            let now = self.now;
            let view = self.world.apps.get_mut(&stop.app).unwrap();
            let task = view.tasks.iter_mut().find(|task| task.id == stop.task).unwrap();
            (task.phase, task.since) = (TaskPhase::Stopping, now);
            self.due.insert(stop.task.clone(), due);
            if matches!(stop.why, StopReason::GivesWayTo(_)) {
                self.gave_way.insert(stop.task.clone());
            }
        }
        for start in &plan.starts {
            let spec = self.world.apps[&start.app].spec.clone().unwrap();
            let (executor, up) = self.executor_for(&spec, start.agent);
            let due = up + self.vary(self.habits.start_ms);
            self.serial += 1;
            let id: Arc<str> = format!("{}-{:05}", start.app.name(), self.serial).into();
            self.due.insert(id.clone(), due);
            self.world.agents[start.agent.0 as usize].held -= spec.size;
            self.world.apps.get_mut(&start.app).unwrap().tasks.push(Task {
                id,
                agent: start.agent,
                version: Some(spec.version),
                phase: TaskPhase::Starting,
                ready: false,
                since: self.now,
                born: self.now,
                resources: spec.size,
                executor,
            });
        }
        for prepare in &plan.prepare {
            let base = self.world.apps[&prepare.app].spec.as_ref().and_then(|app| app.base.clone()).unwrap();
            self.bring(&base, prepare.agent, true);
        }
        for retire in &plan.retire {
            self.retire(&retire.executor, retire.agent);
        }
        for agent in &plan.release {
            let view = &mut self.world.agents[agent.0 as usize];
            view.expected += std::mem::take(&mut view.held);
            self.refused.insert(*agent, self.now + REFUSED_MS);
        }
        if self.suppressed && !plan.quiet {
            self.survey();
        }
        if plan.quiet && self.habits.survey_ms.is_some() {
            // What comes free or joins from now on is not seen.
            (self.world.unsurveyed, self.surveyed_at) = (true, None);
        }
        self.suppressed = plan.quiet;
        if plan.recall {
            self.refused.clear();
            self.offers_due.retain(|_, at| *at <= self.now + 3 * self.habits.offer_ms + 1);
        }
        self.schedule_offers();
    }

    /// What is free is offered in a while, unless nothing is wanted or it was refused.
    fn schedule_offers(&mut self) {
        if !self.suppressed {
            for ix in 0..self.world.agents.len() {
                let agent = AgentIx(u32::try_from(ix).unwrap());
                if !self.world.agents[ix].expected.is_zero() && !self.offers_due.contains_key(&agent) {
                    let due = self.now + self.vary(self.habits.offer_ms);
                    let refused = self.refused.remove(&agent).unwrap_or(0);
                    self.offers_due.insert(agent, due.max(refused));
                }
            }
        }
    }

    /// When something happens by itself, or a decision is due.
    pub fn next(&self) -> Option<Millis> {
        let due = self.due.values().chain(self.offers_due.values()).chain(self.bases_due.values()).copied();
        let rivals = self.rival_until.iter().map(|(_, _, at)| *at);
        due.chain(self.last.wake_at).chain(self.surveyed_at).chain(rivals).min().map(|at| at.max(self.now + 1))
    }

    /// Lets the time pass until then, with what happens by then, but without a decision.
    pub fn advance(&mut self, to: Millis) {
        self.now = to;
        let bases: Vec<_> = self.bases_due.iter().filter(|(_, at)| **at <= to).map(|(base, _)| base.clone()).collect();
        for (agent, id) in bases {
            self.bases_due.remove(&(agent, id.clone()));
            self.base_happens(agent, &id);
        }
        let due: Vec<Arc<str>> = self.due.iter().filter(|(_, at)| **at <= to).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.due.remove(&id);
            self.happen(&id);
        }
        let offers: Vec<AgentIx> = self.offers_due.iter().filter(|(_, at)| **at <= to).map(|(ix, _)| *ix).collect();
        for ix in offers {
            self.offers_due.remove(&ix);
            if self.suppressed {
                continue;
            }
            let view = &mut self.world.agents[ix.0 as usize];
            view.held += std::mem::take(&mut view.expected);
        }
        if self.surveyed_at.is_some_and(|at| at <= to) {
            self.surveyed_at = None;
            self.world.unsurveyed = false;
            for (room, attributes) in std::mem::take(&mut self.hidden) {
                let attributes: Vec<_> = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                self.add_agent(room, &attributes);
            }
        }
        for (agent, room, _) in self.rival_until.extract_if(.., |(_, _, at)| *at <= to) {
            let view = &mut self.world.agents[agent.0 as usize];
            if view.present {
                view.expected += room;
            }
        }
        self.schedule_offers();
    }

    fn happen(&mut self, id: &Arc<str>) {
        let found = self.world.apps.iter_mut().find_map(|(key, view)| {
            let at = view.tasks.iter().position(|task| task.id == *id)?;
            Some((key.clone(), view, at))
        });
        let Some((key, view, at)) = found else { return };
        let version = view.tasks[at].version;
        let broken = version.is_some_and(|version| self.broken.contains(&(key.clone(), version)));
        match view.tasks[at].phase {
            TaskPhase::Starting if broken => self.end(&key, at, End::Failed),
            TaskPhase::Starting => {
                let task = &mut view.tasks[at];
                (task.phase, task.ready, task.since) = (TaskPhase::Running, true, self.now);
                let (agent, app) = (task.agent, view.spec.clone().filter(|app| task.version == Some(app.version)));
                if let Some(app) = app {
                    self.image_there(&app, agent);
                }
            }
            TaskPhase::Stopping => self.end(&key, at, End::Killed),
            TaskPhase::Running | TaskPhase::Unreachable => {}
        }
    }

    /// A task ends; its room comes free.
    pub fn end(&mut self, app: &Key, at: usize, how: End) {
        let task = self.world.apps.get_mut(app).unwrap().tasks.remove(at);
        if let Some(agent) = self.world.agents.get_mut(task.agent.0 as usize).filter(|agent| agent.present) {
            self.refused.remove(&task.agent);
            let gave_way = self.gave_way.remove(&task.id);
            self.rounds_of_room += u32::from(gave_way);
            if gave_way && self.habits.rival.is_some_and(|every| self.rounds_of_room.is_multiple_of(every)) {
                self.rival_until.push((task.agent, task.resources, self.now + RIVAL_MS));
                self.world.futile_until = self.now + FUTILE_MS;
            } else {
                agent.expected += task.resources;
            }
        }
        let ending = Ending {
            app: app.clone(),
            task: task.id,
            agent: task.agent,
            version: task.version,
            how,
            message: "exited with status 1".into(),
            born: task.born,
            ran_ms: if task.phase == TaskPhase::Starting { 0 } else { self.now - task.born },
        };
        self.memory.ended(&ending, self.now);
    }

    /// Decides and lets things happen until nothing does any more. The number of rounds, or `None` when it never ends.
    pub fn settle(&mut self, rounds: usize, until: Millis) -> Option<usize> {
        for round in 0..rounds {
            let plan = self.decide();
            match self.next().filter(|at| *at <= until) {
                None if plan.is_idle() => return Some(round),
                None => return None,
                Some(at) => self.advance(at),
            }
        }
        None
    }

    fn vary(&mut self, ms: u64) -> u64 {
        let Some(seed) = &mut self.habits.jitter else { return ms };
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + ms * (*seed >> 33) % (3 * ms + 1)
    }

    pub fn live(&self, name: &str) -> i64 {
        live(&self.world.apps[&key(name)])
    }

    /// The rules that every plan keeps.
    fn check(&self, plan: &Plan) {
        let spec = |key: &Key| self.world.apps[key].spec.clone().unwrap();
        let task = |stop: &microscaler::policy::plan::Stop| {
            self.world.apps[&stop.app].tasks.iter().find(|task| task.id == stop.task).unwrap().clone()
        };
        // What starts has its room in hand; what waits will have it.
        let mut held: Vec<Resources> = self.world.agents.iter().map(|agent| agent.held).collect();
        for start in &plan.starts {
            let room = &mut held[start.agent.0 as usize];
            assert!(spec(&start.app).size.fits(*room), "{start:?} fits {room} of {}", self.now);
            *room -= spec(&start.app).size;
        }
        for (agent, size) in self.brought(plan) {
            let room = &mut held[agent.0 as usize];
            assert!(size.fits(*room), "a base of {size} fits {room} of {agent:?}: {plan:#?}");
            *room -= size;
        }
        let mut soon: Vec<Resources> = self.world.agents.iter().map(|agent| agent.held + agent.expected).collect();
        for task in self.world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase == TaskPhase::Stopping) {
            soon[task.agent.0 as usize] += task.resources;
        }
        plan.stops.iter().for_each(|stop| soon[task(stop).agent.0 as usize] += task(stop).resources);
        plan.starts.iter().for_each(|start| soon[start.agent.0 as usize] -= spec(&start.app).size);
        plan.waits.iter().for_each(|wait| soon[wait.agent.0 as usize] -= spec(&wait.app).size);
        self.brought(plan).iter().for_each(|(agent, size)| soon[agent.0 as usize] -= *size);
        for (ix, agent) in self.world.agents.iter().enumerate() {
            let leaving = agent.bases.iter().filter(|fitted| fitted.phase == BasePhase::Leaving);
            leaving.for_each(|_| soon[ix] += self.world.executor_size);
        }
        for (ix, room) in soon.iter().enumerate().filter(|(ix, _)| self.world.agents[*ix].is_open()) {
            assert!([room.cpu, room.memory].iter().all(|n| *n >= 0), "agent {ix} will have room for all: {room:?} {plan:#?}");
        }
        // Limits hold, counting what is on its way down.
        let used: Resources = (self.world.apps.values().flat_map(|view| &view.tasks))
            .filter(|task| task.phase != TaskPhase::Unreachable)
            .map(|task| task.resources)
            .sum();
        if !plan.starts.is_empty() || !plan.prepare.is_empty() {
            let present = (0..self.world.agents.len()).filter(|ix| self.world.agents[*ix].present);
            let bases: Resources = present.map(|ix| self.used_by_bases(ix)).sum();
            let brought: Resources = self.brought(plan).iter().map(|(_, size)| *size).sum();
            let with: Resources = used + bases + brought + plan.starts.iter().map(|start| spec(&start.app).size).sum();
            // What executors were started with is not seen of them.
            let slack = Resources { cpu: 50, ..Resources::ZERO };
            let limits = if self.first_tasks.is_empty() { self.world.limits } else { self.world.limits + slack };
            assert!(with.fits(limits), "{with} within {limits}");
        }
        self.check_bases(plan);
        // Agents that are absent, and apps that are not to be touched.
        let shut = |agent: AgentIx| !self.world.agents[agent.0 as usize].is_open();
        assert!(!plan.starts.iter().any(|start| shut(start.agent)) && !plan.waits.iter().any(|wait| shut(wait.agent)));
        let frozen = |key: &Key| self.world.apps[key].spec.as_ref().is_some_and(|app| app.suspended || app.observed_only);
        assert!(!plan.starts.iter().any(|start| frozen(&start.app)) && !plan.stops.iter().any(|stop| frozen(&stop.app)));
        // Nothing is freed while free room may not be known, nor when it went to others of late.
        let frees = |stop: &microscaler::policy::plan::Stop| matches!(stop.why, StopReason::GivesWayTo(_) | StopReason::Headroom);
        let idle = self.world.unsurveyed || self.now < self.world.futile_until;
        assert!(!idle || !plan.stops.iter().any(frees), "nothing is freed in vain: {:?}", plan.stops);
        self.check_victims(plan, &soon);
        self.check_voluntary(plan);
    }

    fn check_victims(&self, plan: &Plan, soon: &[Resources]) {
        let spec = |key: &Key| self.world.apps[key].spec.clone().unwrap();
        for stop in &plan.stops {
            let StopReason::GivesWayTo(winner) = &stop.why else { continue };
            let (loser, winner) = (spec(&stop.app), spec(winner));
            assert!(loser.priority > winner.priority || loser.remainder.is_some(), "{stop}: strictly less important");
            let stops = plan.stops.iter().filter(|other| other.app == stop.app && !has_successor(&other.why)).count();
            let task = self.world.apps[&stop.app].tasks.iter().find(|task| task.id == stop.task).unwrap();
            let takes_minimum = live(&self.world.apps[&winner.key]) < winner.min;
            assert!(!self.is_protected(task, &loser) || takes_minimum, "{stop} is protected from {}", winner.key);
            let left = live(&self.world.apps[&stop.app]) - i64::try_from(stops).unwrap();
            let floor = loser.min.min(plan.verdicts[&stop.app].wanted);
            assert!(left >= floor, "{stop}: {left} left of at least {floor}");
            if let Some(base) = winner.base.as_ref().filter(|base| base.kind == BaseKind::Executor) {
                let failed = bases::has_failed(&self.world.agents[task.agent.0 as usize], &base.key);
                assert!(!failed || self.world.limits != Resources::UNLIMITED, "{stop}: not where the last executor failed");
            }
            // Of the victims for a single replica, none is too many.
            let here = |wait: &&microscaler::policy::plan::Wait| wait.agent == task.agent;
            let stops_here = plan.stops.iter().all(|other| matches!(other.why, StopReason::GivesWayTo(_)));
            if plan.waits.iter().filter(here).count() == 1 && stops_here && self.world.limits == Resources::UNLIMITED {
                let bases = self.owed(&self.world.agents[task.agent.0 as usize]);
                let bases: Resources = bases.iter().map(|(base, _)| self.base_size(base)).sum();
                let without = soon[task.agent.0 as usize] - task.resources - bases;
                assert!(without.cpu < 0 || without.memory < 0, "{stop} is needed: {without:?} {plan:#?}");
            }
        }
    }

    fn is_protected(&self, task: &Task, app: &App) -> bool {
        self.now < task.born + u64::try_from(app.protection.protect_for_milliseconds).unwrap()
    }

    /// What is not urgent spares what is protected, and leaves as many ready as the app's budget says.
    fn check_voluntary(&self, plan: &Plan) {
        for (key, view) in &self.world.apps {
            let Some(app) = &view.spec else { continue };
            let stops: Vec<_> = plan.stops.iter().filter(|stop| stop.app == *key).collect();
            let ends = |task: &Task| stops.iter().find(|stop| stop.task == task.id);
            let all_voluntary = stops.iter().all(|stop| stop.why == StopReason::Headroom || has_successor(&stop.why));
            let ready = |task: &&Task| task.ready && task.phase == TaskPhase::Running;
            for task in view.tasks.iter().filter(|task| ends(task).is_some_and(|stop| stop.why == StopReason::Headroom)) {
                assert!(!self.is_protected(task, app), "{} is protected from headroom", task.id);
            }
            let Some(most) = app.protection.max_unavailable.filter(|_| all_voluntary) else { continue };
            let counted = view.tasks.iter().filter(|task| task.phase != TaskPhase::Unreachable).count();
            let expected = match app.remainder {
                Some(_) => i64::try_from(counted).unwrap().min(app.max),
                None => plan.verdicts[key].wanted,
            };
            let left = view.tasks.iter().filter(ready).filter(|task| ends(task).is_none()).count();
            let is_touched = view.tasks.iter().filter(ready).any(|task| ends(task).is_some());
            let unready = expected - i64::try_from(left).unwrap();
            assert!(!is_touched || unready <= most.of(expected), "{key}: {unready} unready of {expected}: {:?}", plan.stops);
        }
    }
}

fn has_successor(why: &StopReason) -> bool {
    matches!(why, StopReason::Replaced | StopReason::HostDeparts)
}

pub fn live(view: &AppView) -> i64 {
    let live = |task: &&Task| matches!(task.phase, TaskPhase::Starting | TaskPhase::Running);
    i64::try_from(view.tasks.iter().filter(live).count()).unwrap()
}
