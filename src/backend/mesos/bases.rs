//! What replicas build on, on each agent: executors and images. The world has them ([`Fitted`]); kept here is only what no decision looks
//! at: how executors were described, how often they failed, and preparations under way.
//!
//! An executor is known from the ACCEPT that starts it. It is ready as soon as it says anything, and gone when its agent says so (FAILURE,
//! or the end of a task for this reason), when the master no longer names it in an offer, or when nothing is left that could start it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::carve::Stock;
use super::executor::{GENERATIONS, Shared, executor_info, parse_executor_id, recall, settings};
use super::ledger::Out;
use super::offers::Offers;
use super::wire::{Call, ExecutorInfo, Id};
use crate::api::validated::{App, Base, MesosPool};
use crate::policy::plan::Retire;
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, BasePhase, Fitted, Millis, World};

mod heard;
mod preparations;

use self::preparations::Preparation;
pub use self::preparations::size;

/// An agent ends an executor that does not end itself after 5 s; then it tells us, unless that is lost.
const LEAVING_MS: u64 = 10_000;
const FIRST_RETRY_MS: u64 = 1000;
const MAX_RETRY_MS: u64 = 300_000;
/// One that ends sooner than this after it was ready, and not for the first time, has failed.
const STEADY_MS: u64 = 60_000;
const REMEMBERED_ENDS: usize = 10_000;
/// What an agent says of the tasks when it knows no more than that.
const NOTHING_NEW: &str = "Executor terminated";
/// Any data makes an executor say hello: "?".
const ASK: &str = "Pw==";
/// Executors that have not told what they are, are asked again.
const ASK_AGAIN_MS: u64 = 10_000;
const TIDY_MS: u64 = 60_000;

/// An executor on an agent, by its id.
type Place = (AgentIx, Arc<str>);

pub struct Bases {
    pool: Arc<MesosPool>,
    /// As in the ids of executors.
    settings: String,
    executors: HashMap<Place, Side>,
    /// By the base's key.
    lines: HashMap<Place, Line>,
    preparations: HashMap<Arc<str>, Preparation>,
    /// Executors on their way down, with when they have to be gone; in this order.
    leaving: VecDeque<(Millis, Place)>,
    /// Executors whose agent said that they have ended, the latest last.
    ended: VecDeque<Ended>,
    /// Set while some executor may not have told what it is: it is asked then.
    ask_at: Option<Millis>,
    /// What no app builds on is forgotten then, or later: nobody is woken for that.
    tidy_at: Millis,
}

/// An executor that has ended.
#[derive(Debug)]
struct Ended {
    place: Place,
    /// The master has said so too. Then what names it afterwards is about another of the same id: a launch that was on its way has
    /// started that. Before, it is late.
    for_good: bool,
}

/// An executor beside the world.
#[derive(Debug, Default)]
struct Side {
    /// As it was started; `None`: by an earlier run of ours, and not found out yet.
    info: Option<Arc<ExecutorInfo>>,
    /// What its apps have in common; known with `info`.
    shared: Option<Shared>,
    /// It has said hello, or was asked to.
    asked: bool,
}

/// The executors, or attempts at an image, that follow one another on an agent.
#[derive(Debug, Default)]
struct Line {
    generation: u32,
    tries: u32,
    /// The id of the executor that failed last, whose end may be told twice and in different words.
    failed: Option<Arc<str>>,
}

/// How an executor's end came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// From its agent: all else about it is late.
    Agent,
    /// It cannot have been started, or is not named any longer. It may yet show up.
    Inferred,
}

impl Bases {
    pub fn new(pool: &Arc<MesosPool>) -> Self {
        let (executors, lines, preparations) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (leaving, ended) = (VecDeque::new(), VecDeque::new());
        Self {
            pool: pool.clone(),
            settings: settings(pool),
            executors,
            lines,
            preparations,
            leaving,
            ended,
            ask_at: None,
            tidy_at: 0,
        }
    }

    /// The executor for a replica or preparation of this size that is about to be launched; a new one is cut out of the same room, if
    /// both fit there.
    #[allow(clippy::too_many_arguments)]
    pub fn executor(
        &mut self,
        world: &mut World,
        agent: AgentIx,
        app: &App,
        base: &Base,
        size: Resources,
        stock: &mut Stock,
        now: Millis,
    ) -> Option<Arc<ExecutorInfo>> {
        if let Some(info) = self.running(world, agent, app, base, stock) {
            return Some(info);
        }
        if !(size + self.pool.executor).fits(stock.room()) {
            return None;
        }
        let resources = stock.cut(self.pool.executor, 0)?.resources;
        let info = Arc::new(self.unused(world, agent, app, base, &resources));
        let id = info.executor_id.value.clone();
        tracing::info!(executor = %id, agent = %world.agents[agent.0 as usize].id, "executor started");
        self.executors
            .insert((agent, id.clone()), Side { info: Some(info.clone()), shared: Some(Shared::by(app)), asked: false });
        Self::set_coming(world, agent, base, Some(id), now);
        Some(info)
    }

    /// One that can take it already. Of those of an earlier run the description is found out with the first launch; if it cannot be, the
    /// executor is of no use for new tasks.
    fn running(&mut self, world: &mut World, agent: AgentIx, app: &App, base: &Base, stock: &Stock) -> Option<Arc<ExecutorInfo>> {
        let usable = |fitted: &&mut Fitted| {
            fitted.key.as_ref() == Some(&base.key) && matches!(fitted.phase, BasePhase::Coming | BasePhase::Ready)
        };
        for fitted in world.agents[agent.0 as usize].bases.iter_mut().filter(usable) {
            let Some(id) = fitted.executor.clone() else { continue };
            let side = self.executors.entry((agent, id.clone())).or_default();
            if let Some(info) = &side.info {
                if side.shared.as_ref().is_some_and(|shared| shared.is_by(app)) {
                    return Some(info.clone());
                }
                continue;
            }
            if let Some((info, generation)) = recall(&id, app, base, &self.pool, stock) {
                let info = Arc::new(info);
                (side.info, side.shared) = (Some(info.clone()), Some(Shared::by(app)));
                self.lines.entry((agent, base.key.clone())).or_default().generation = generation;
                return Some(info);
            }
            tracing::info!(executor = %id, "started with other settings; it gets no new tasks");
            fitted.key = None;
        }
        None
    }

    /// The description of the next executor in line, under an id that none there has or had lately: what is still said of that one,
    /// and what its agent still does for it, is not about this one.
    fn unused(
        &mut self,
        world: &World,
        agent: AgentIx,
        app: &App,
        base: &Base,
        resources: &[super::wire::Resource],
    ) -> ExecutorInfo {
        let bases = &world.agents[agent.0 as usize].bases;
        let line = self.lines.entry((agent, base.key.clone())).or_default();
        let ended = &self.ended;
        let used = |id: &Arc<str>| {
            bases.iter().any(|fitted| fitted.executor.as_ref() == Some(id))
                || ended.iter().any(|ended| ended.place.0 == agent && ended.place.1 == *id)
        };
        let mut info = executor_info(app, base, &self.pool, resources.to_vec(), line.generation);
        for _ in 0..GENERATIONS {
            if !used(&info.executor_id.value) {
                break;
            }
            line.generation = (line.generation + 1) % GENERATIONS;
            info = executor_info(app, base, &self.pool, resources.to_vec(), line.generation);
        }
        info
    }

    /// Ends an executor. `None` when there is none to end.
    pub fn retire(&mut self, world: &mut World, order: &Retire, now: Millis) -> Option<Call> {
        let agent = &mut world.agents[order.agent.0 as usize];
        let fitted = agent.bases.iter_mut().find(|fitted| fitted.executor.as_ref() == Some(&order.executor))?;
        if fitted.phase == BasePhase::Leaving {
            return None;
        }
        (fitted.phase, fitted.since) = (BasePhase::Leaving, now);
        self.leaving.push_back((now + LEAVING_MS, (order.agent, order.executor.clone())));
        Some(Call::shutdown(&order.executor, &agent.id))
    }

    /// Takes what an offer says of the executors on its agent. To be called before the offer is taken, whose room may be theirs.
    pub fn offered(&mut self, agent: AgentIx, named: &[Id], world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        let is_named = |id: &Arc<str>| named.iter().any(|name| name.value == *id);
        let up = |fitted: &&Fitted| matches!(fitted.phase, BasePhase::Ready | BasePhase::Leaving);
        let bases = &world.agents[agent.0 as usize].bases;
        let missing: Vec<_> =
            bases.iter().filter(up).filter_map(|fitted| fitted.executor.clone()).filter(|id| !is_named(id)).collect();
        for id in missing {
            self.over(agent, &id, Word::Inferred, "the master does not know it any longer", world, offers, now, out);
        }
        // The master knows it from its launch on, so that of one on its way this says nothing.
        let known = |world: &World, id: &Arc<str>| {
            world.agents[agent.0 as usize].bases.iter().any(|fitted| fitted.executor.as_ref() == Some(id))
        };
        for id in named {
            if !known(world, &id.value) {
                self.seen(agent, &id.value, true, world, now, out);
            }
        }
    }

    /// The agent will never come back, and with it all that was there.
    pub fn agent_gone(&mut self, agent: AgentIx, world: &mut World) {
        world.agents[agent.0 as usize].bases.clear();
        self.executors.retain(|(at, _), _| *at != agent);
        self.lines.retain(|(at, _), _| *at != agent);
        self.preparations.retain(|_, preparation| preparation.agent != agent);
    }

    /// The calls that a new connection asks for: what executors said of themselves before it may be lost.
    pub fn connected(&mut self, world: &World, now: Millis) -> Vec<Call> {
        self.preparations.values_mut().for_each(|preparation| preparation.ask_at = now);
        self.ask_at = Some(now + ASK_AGAIN_MS);
        self.ask(world, |_| true)
    }

    /// Asks those of the executors that are up what they are.
    fn ask(&mut self, world: &World, of: impl Fn(&Fitted) -> bool) -> Vec<Call> {
        let mut calls = Vec::new();
        for (agent, ix) in world.agents.iter().zip(0..) {
            let up = agent.bases.iter().filter(|fitted| fitted.phase == BasePhase::Ready && of(fitted));
            for id in up.filter_map(|fitted| fitted.executor.as_ref()) {
                self.executors.entry((AgentIx(ix), id.clone())).or_default().asked = true;
                calls.push(Call::message(id, &agent.id, ASK));
            }
        }
        calls
    }

    /// Executors that ought to have left, and preparations that have to be asked about.
    pub fn due(&mut self, world: &mut World, offers: &mut Offers, now: Millis, out: &mut Out) {
        while self.leaving.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, (agent, id))) = self.leaving.pop_front() else { break };
            self.over(agent, &id, Word::Inferred, "ended by us", world, offers, now, out);
        }
        out.calls.extend(self.questions(world, now));
        if self.tidy_at <= now {
            self.tidy_at = now + TIDY_MS;
            heard::forget_images(world);
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            let asked = self.ask(world, |fitted| fitted.limits.is_none());
            self.ask_at = (!asked.is_empty()).then_some(now + ASK_AGAIN_MS);
            out.calls.extend(asked);
        }
    }

    pub fn next_timer(&self) -> Option<Millis> {
        let leaving = self.leaving.front().map(|(at, _)| *at);
        self.preparations.values().map(|preparation| preparation.ask_at).chain(leaving).chain(self.ask_at).min()
    }

    /// A base is on its way, in place of whatever became of the attempt before.
    fn set_coming(world: &mut World, agent: AgentIx, base: &Base, executor: Option<Arc<str>>, now: Millis) {
        let bases = &mut world.agents[agent.0 as usize].bases;
        bases.retain(|fitted| fitted.key.as_ref() != Some(&base.key) || !matches!(fitted.phase, BasePhase::Failed { .. }));
        let key = Some(base.key.clone());
        bases.push(Fitted { key, executor, phase: BasePhase::Coming, since: now, limits: None });
    }

    /// An attempt has failed: the next one waits.
    fn failed(&mut self, agent: AgentIx, key: &Arc<str>, executor: Option<Arc<str>>, why: &str, world: &mut World, now: Millis) {
        let line = self.lines.entry((agent, key.clone())).or_default();
        let until = now + FIRST_RETRY_MS.saturating_mul(1 << line.tries.min(16)).min(MAX_RETRY_MS);
        line.tries = line.tries.saturating_add(1);
        line.failed = executor;
        let phase = BasePhase::Failed { until, tries: line.tries, why: why.into() };
        let bases = &mut world.agents[agent.0 as usize].bases;
        bases.push(Fitted { key: Some(key.clone()), executor: None, phase, since: now, limits: None });
    }

    /// An executor has come to its end, or never began: once.
    #[allow(clippy::too_many_arguments)]
    fn over(
        &mut self,
        agent: AgentIx,
        id: &Arc<str>,
        word: Word,
        why: &str,
        world: &mut World,
        offers: &mut Offers,
        now: Millis,
        out: &mut Out,
    ) {
        let found = &mut world.agents[agent.0 as usize];
        let Some(place) = found.bases.iter().position(|fitted| fitted.executor.as_ref() == Some(id)) else {
            return self.said_again(agent, id, why, world);
        };
        let (fitted, hostname) = (found.bases.remove(place), found.hostname.clone());
        let side = self.executors.remove(&(agent, id.clone())).unwrap_or_default();
        if word == Word::Agent {
            self.remember_end(agent, id);
        }
        // What an earlier run gave it is not known for sure, so that nobody is to blame if less comes back.
        offers.believe(agent, self.pool.executor, side.info.is_some().then_some(now), world);
        out.applied.decide = true;
        if fitted.phase == BasePhase::Leaving {
            return tracing::info!(executor = %id, "executor has left");
        }
        if word == Word::Inferred && fitted.phase == BasePhase::Coming {
            return tracing::info!(executor = %id, why, "executor not started");
        }
        out.warn("ExecutorEnded", format!("executor {id} on {hostname}: {why}"));
        let Some(key) = fitted.key else { return };
        if fitted.phase == BasePhase::Coming {
            let program = side.info.as_ref().and_then(|info| info.command.value.as_deref()).unwrap_or_default();
            let why = format!("executor ended before it registered: {why} ({program}; stderr in its sandbox may say more)");
            return self.failed(agent, &key, Some(id.clone()), &why, world, now);
        }
        let line = self.lines.entry((agent, key.clone())).or_default();
        if now.saturating_sub(fitted.since) >= STEADY_MS {
            line.tries = 0;
        } else if line.tries > 0 {
            self.failed(agent, &key, Some(id.clone()), &format!("executor ended: {why}"), world, now);
        } else {
            line.tries = 1;
        }
    }

    /// The end of an executor is told by FAILURE and by each of its tasks; only some of them know more than a number.
    fn said_again(&mut self, agent: AgentIx, id: &Arc<str>, said: &str, world: &mut World) {
        let Some(key) = parse_executor_id(id) else { return };
        if said == NOTHING_NEW || self.lines.get(&(agent, key.clone())).is_none_or(|line| line.failed.as_ref() != Some(id)) {
            return;
        }
        for fitted in world.agents[agent.0 as usize].bases.iter_mut().filter(|fitted| fitted.key.as_ref() == Some(&key)) {
            if let BasePhase::Failed { why, .. } = &mut fitted.phase
                && !why.contains(said)
            {
                *why = format!("{why}; {said}").into();
            }
        }
    }

    fn remember_end(&mut self, agent: AgentIx, id: &Arc<str>) {
        self.ended.push_back(Ended { place: (agent, id.clone()), for_good: false });
        if self.ended.len() > REMEMBERED_ENDS {
            self.ended.pop_front();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
