//! What replicas build on: which executors and images are wanted where, which are there, and which are still to be put.
//!
//! The room of what is missing is set aside once minimums are served, from those that rank like the most important app that wants it
//! there or below, so that nothing slips into it and a replica of a pooled app finds room for its executor, too. Beyond what may be
//! there ahead of need, replicas bring along what they build on.

use std::collections::BTreeSet;

use super::claim::Claim;
use super::groups::{Group, groups};
use super::resources::Resources;
use super::rooms::{Level, Rank};
use super::standing::FETCHING;
use super::world::{Agent, AgentIx, BasePhase, Fitted, Millis, Task, TaskPhase, World};
use crate::api::validated::{App, BaseKind};

/// An executor starts with a task that does nothing, and Mesos knows no task without resources.
const FIRST_TASK: Resources = Resources { cpu: 1, ..Resources::ZERO };

/// How a base stands on one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody wants it there ahead, and it is not there.
    Unwanted,
    Ready,
    Coming,
    /// It failed, and is not tried again yet. Where it is wanted, its room stays set aside.
    Failed,
    Leaving,
    /// Wanted, and neither there nor on its way.
    Missing,
    /// The same, but beyond what may be there ahead of need: it comes only with a replica.
    Later,
    /// This decision has found its room: it goes there at once, or when the room is in hand.
    Placed(Level),
    /// This decision starts a replica there, which brings it along.
    Along,
}

/// A base that is still to be put on an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Missing {
    pub rank: Rank,
    pub agent: AgentIx,
    pub group: usize,
    /// One is on its way down there, and has to be gone first.
    pub after_another: bool,
    /// The last one there failed: nothing ends for another.
    pub again: bool,
    /// A replica waits for it there.
    pub awaited: bool,
}

/// All bases that are wanted ahead, and how they stand.
#[derive(Default)]
pub(super) struct Bases<'a> {
    /// In order of their keys.
    groups: Vec<Group<'a>>,
    /// For each group, its state on each agent.
    states: Vec<State>,
    agents: usize,
    sizes: (Resources, Resources),
    /// Where the last one failed.
    failed: BTreeSet<(AgentIx, usize)>,
    /// The room of what is missing is set aside.
    pub aside: bool,
    /// Those to be put on agents, the most important first.
    pub missing: Vec<Missing>,
    /// Where this decision has found room that is not in hand yet, and how soon it is.
    pub awaited: Vec<(AgentIx, Level)>,
    /// Some are wanted for which there is no room.
    pub short: bool,
    /// Some are wanted for which nobody can make room within the pool's limits.
    pub over_limits: bool,
    /// When one that failed may be tried again.
    pub wake_at: Option<Millis>,
}

impl<'a> Bases<'a> {
    /// `declared` tells which apps count.
    pub fn of(world: &'a World, claims: &'a [Claim<'a>], declared: impl Fn(&Claim) -> bool, now: Millis) -> Self {
        let groups = groups(claims, declared);
        if groups.is_empty() {
            return Self::default();
        }
        let sizes = (world.executor_size + FIRST_TASK, FETCHING);
        let states = vec![State::Unwanted; groups.len() * world.agents.len()];
        let mut bases = Self { groups, states, agents: world.agents.len(), sizes, ..Self::default() };
        let images = bases.groups.iter().any(|group| group.kind == BaseKind::Image);
        let (along, awaited) = (bases.along(claims), bases.awaited_by(claims));
        let mut found = vec![None; bases.groups.len()];
        for (agent, ix) in world.agents.iter().zip(0..).filter(|(agent, _)| agent.is_open()) {
            found.fill(None);
            bases.find_on(agent, images, &mut found);
            for (_, group) in along.range((AgentIx(ix), 0)..(AgentIx(ix + 1), 0)) {
                found[*group] = found[*group].max(Some(Standing::Coming));
            }
            for (group, found) in found.iter().enumerate() {
                bases.judge(group, AgentIx(ix), agent, *found, now);
            }
        }
        bases.missing.iter_mut().for_each(|missing| missing.awaited = awaited.contains(&(missing.agent, missing.group)));
        bases.missing.sort_unstable();
        bases
    }

    /// Images that come with replicas which are starting: they are not seen before one runs.
    fn along(&self, claims: &[Claim]) -> BTreeSet<(AgentIx, usize)> {
        let group = |claim: &Claim| self.of_app(claim.app).filter(|group| self.groups[*group].kind == BaseKind::Image);
        let all = claims.iter().filter_map(|claim| Some((claim, group(claim)?)));
        let along = all.flat_map(|(claim, group)| {
            let is_new = |task: &&Task| task.phase == TaskPhase::Starting && task.version == Some(claim.app.version);
            claim.tasks.iter().filter(is_new).map(move |task| (task.agent, group))
        });
        along.collect()
    }

    /// Where replicas waited for room that their executors need, too.
    fn awaited_by(&self, claims: &[Claim]) -> BTreeSet<(AgentIx, usize)> {
        let waiting = claims.iter().filter(|claim| !claim.waited.is_empty() && claim.ceiling() > claim.tally.live());
        let all = waiting.filter_map(|claim| Some((claim, self.of_app(claim.app)?)));
        let executors = all.filter(|(_, group)| self.groups[*group].kind == BaseKind::Executor);
        executors.flat_map(|(claim, group)| claim.waited.iter().map(move |agent| (*agent, group))).collect()
    }

    /// The best that is on the agent of each group.
    fn find_on(&self, agent: &Agent, images: bool, found: &mut [Option<Standing>]) {
        let mut guess = 0;
        // There may be many images, and mostly none is wanted ahead. An executor that failed has no id any more.
        let matters = |fitted: &&Fitted| images || fitted.executor.is_some() || matches!(fitted.phase, BasePhase::Failed { .. });
        for fitted in agent.bases.iter().filter(matters) {
            let Some(key) = &fitted.key else { continue };
            // Agents tend to have the same ones in the same order.
            let expected = self.groups.get(guess).is_some_and(|group| *group.key == **key);
            if let Some(group) = if expected { Some(guess) } else { self.find(key) } {
                found[group] = found[group].max(Some(Standing::of(fitted)));
                guess = group + 1;
            }
        }
    }

    fn judge(&mut self, group: usize, ix: AgentIx, agent: &Agent, found: Option<Standing>, now: Millis) {
        let (state, again) = match found {
            Some(Standing::Ready) => (State::Ready, false),
            Some(Standing::Coming) => (State::Coming, false),
            Some(Standing::Leaving) => (State::Leaving, false),
            Some(Standing::Failed { until }) if until > now => (State::Failed, true),
            Some(Standing::Failed { .. }) => (State::Missing, true),
            None => (State::Missing, false),
        };
        let wanted = if matches!(state, State::Ready | State::Coming) { None } else { self.groups[group].best(agent) };
        if let Some(app) = wanted {
            let (rank, after_another) = (Rank::of(app.priority), state == State::Leaving);
            self.missing.push(Missing { rank, agent: ix, group, after_another, again, awaited: false });
            if again && self.groups[group].kind == BaseKind::Executor {
                self.failed.insert((ix, group));
            }
            if let Some(Standing::Failed { until }) = found.filter(|_| state == State::Failed) {
                self.wake_at = self.wake_at.into_iter().chain([until]).min();
            }
        }
        let state = if state == State::Missing && wanted.is_none() { State::Unwanted } else { state };
        self.states[group * self.agents + ix.0 as usize] = state;
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.groups.binary_search_by(|group| group.key.cmp(key)).ok()
    }

    /// The base of this app, if it is wanted ahead.
    #[inline]
    pub fn of_app(&self, app: &App) -> Option<usize> {
        if self.groups.is_empty() {
            return None;
        }
        self.find(&app.base.as_ref()?.key)
    }

    /// Whether the base of this key stays where it is there on the agent.
    pub fn keeps(&self, key: &str, agent: &Agent) -> bool {
        self.find(key).is_some_and(|group| self.groups[group].keeps(agent))
    }

    pub fn group(&self, group: usize) -> &Group<'a> {
        &self.groups[group]
    }

    fn state(&self, group: usize, agent: AgentIx) -> State {
        self.states[group * self.agents + agent.0 as usize]
    }

    fn set(&mut self, group: usize, agent: AgentIx, state: State) {
        self.states[group * self.agents + agent.0 as usize] = state;
    }

    /// What this base needs on an agent where it is not.
    pub fn size(&self, group: usize) -> Resources {
        if self.groups[group].kind == BaseKind::Executor { self.sizes.0 } else { self.sizes.1 }
    }

    /// How the executor of this app stands on the agent; `None` for apps without one. They can start without their image.
    fn executor(&self, app: &App, agent: AgentIx) -> Option<State> {
        let group = self.of_app(app)?;
        (self.groups[group].kind == BaseKind::Executor).then(|| self.state(group, agent))
    }

    /// Whether no replica of the app may go to this agent now, because of its executor there.
    #[inline]
    pub fn bars(&self, app: &App, agent: AgentIx) -> bool {
        matches!(self.executor(app, agent), Some(State::Failed | State::Leaving))
    }

    /// Whether the executor is there, or has room, as soon as a replica at this level.
    pub fn opens(&self, app: &App, agent: AgentIx, level: Level) -> bool {
        match self.executor(app, agent) {
            Some(State::Placed(from)) => from <= level,
            Some(State::Failed | State::Leaving) => false,
            _ => true,
        }
    }

    /// What the executor of this app needs there that no room is set aside for: a replica brings it along.
    pub fn besides(&self, app: &App, agent: AgentIx) -> Resources {
        match self.executor(app, agent) {
            Some(State::Later) => self.sizes.0,
            Some(State::Missing) if !self.aside => self.sizes.0,
            _ => Resources::ZERO,
        }
    }

    /// Whether a replica of the app there would run in an executor of which the last one failed there, also if this decision tries
    /// another.
    pub fn is_risky(&self, app: &App, agent: AgentIx) -> bool {
        !self.failed.is_empty() && self.of_app(app).is_some_and(|group| self.failed.contains(&(agent, group)))
    }

    /// Whether the executor of this app is still to be put there, its room set aside.
    pub fn lacks(&self, app: &App, agent: AgentIx) -> bool {
        self.executor(app, agent) == Some(State::Missing)
    }

    /// Whether it is still to be put there, ahead of need.
    pub fn is_missing(&self, group: usize, agent: AgentIx) -> bool {
        self.state(group, agent) == State::Missing
    }

    /// Whether a replica has to bring it along.
    pub fn is_later(&self, group: usize, agent: AgentIx) -> bool {
        self.state(group, agent) == State::Later
    }

    /// Whether its room is to be set aside: nothing has been found for it yet.
    pub fn is_owed(&self, missing: &Missing) -> bool {
        matches!(self.state(missing.group, missing.agent), State::Missing | State::Failed | State::Leaving)
    }

    /// Whether it goes there because of this decision, and not with a replica.
    pub fn is_placed(&self, group: usize, agent: AgentIx) -> bool {
        matches!(self.state(group, agent), State::Placed(_))
    }

    /// A replica brings it along.
    pub fn comes_along(&mut self, group: usize, agent: AgentIx) {
        self.set(group, agent, State::Along);
    }

    /// Its room was found. One that another has to leave first stays barred until then.
    pub fn placed(&mut self, group: usize, agent: AgentIx, level: Level) {
        if self.is_missing(group, agent) || self.is_later(group, agent) {
            self.set(group, agent, State::Placed(level));
        }
        if level != Level::Now {
            self.awaited.push((agent, level));
        }
    }

    /// There is enough on the agent, or in the pool, that goes ahead of need.
    pub fn leave_to_replicas(&mut self, missing: &Missing) {
        if self.is_missing(missing.group, missing.agent) {
            self.set(missing.group, missing.agent, State::Later);
        }
    }

    /// It cannot ever go there: the agent is too small.
    pub fn give_up(&mut self, missing: &Missing) {
        self.set(missing.group, missing.agent, State::Failed);
    }
}

/// What is there of a base, the more useful the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Failed { until: Millis },
    Leaving,
    Coming,
    Ready,
}

impl Standing {
    fn of(fitted: &Fitted) -> Self {
        match fitted.phase {
            BasePhase::Ready => Self::Ready,
            BasePhase::Coming => Self::Coming,
            BasePhase::Leaving => Self::Leaving,
            BasePhase::Failed { until, .. } => Self::Failed { until },
        }
    }
}

/// How far the agent is from having the base of this app; the nearest first.
pub(super) fn distance(app: &App, agent: &Agent, now: Millis) -> u8 {
    let Some(base) = &app.base else { return 0 };
    let here = agent.bases.iter().filter(|fitted| fitted.key.as_ref() == Some(&base.key));
    let far = |fitted: &Fitted| match fitted.phase {
        BasePhase::Ready => 0,
        BasePhase::Coming => 1,
        BasePhase::Failed { until, .. } if until > now => 3,
        BasePhase::Leaving | BasePhase::Failed { .. } => 2,
    };
    here.map(far).min().unwrap_or(2)
}
