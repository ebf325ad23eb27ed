//! What replicas build on: which executors and images are wanted where, which are there, and which are still to be put.
//!
//! The room of what is missing is set aside before anything is placed, for those that rank like the most important app that wants it
//! or below, so that nothing slips into it and a replica of a pooled app finds room for its executor, too.

use std::collections::BTreeMap;

use super::claim::Claim;
use super::place::meets;
use super::resources::Resources;
use super::rooms::{Level, Rank};
use super::standing::FETCHING;
use super::world::{Agent, AgentIx, BasePhase, Fitted, Millis, World};
use crate::api::validated::{App, BaseKind, Key};

/// An executor starts with a task that does nothing, and Mesos knows no task without resources.
const FIRST_TASK: Resources = Resources { cpu: 1, ..Resources::ZERO };

/// A base that some declared apps want on agents before it is needed there.
pub(super) struct Group<'a> {
    pub key: &'a str,
    pub kind: BaseKind,
    /// Of the most important of its apps.
    pub rank: Rank,
    /// The most important of them.
    pub app: &'a Key,
    /// One of them may run on any agent that has no graphics processors.
    everywhere: bool,
    /// The others, one for each way of choosing agents.
    choosy: Vec<&'a App>,
}

/// How a base stands on one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody wants it there ahead, and it is not there.
    Unwanted,
    Ready,
    Coming,
    /// It failed, and is not tried again yet.
    Failed,
    Leaving,
    /// Wanted, and neither there nor on its way.
    Missing,
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
        let mut found = vec![None; bases.groups.len()];
        for (agent, ix) in world.agents.iter().zip(0..).filter(|(agent, _)| agent.present) {
            found.fill(None);
            bases.find_on(agent, images, now, &mut found);
            for (group, found) in found.iter().enumerate() {
                bases.judge(group, AgentIx(ix), agent, *found);
            }
        }
        bases.missing.sort_unstable();
        bases
    }

    /// The best that is on the agent of each group.
    fn find_on(&self, agent: &Agent, images: bool, now: Millis, found: &mut [Option<Standing>]) {
        let mut guess = 0;
        // There may be many images, and mostly none is wanted ahead. An executor that failed has no id any more.
        let matters = |fitted: &&Fitted| images || fitted.executor.is_some() || matches!(fitted.phase, BasePhase::Failed { .. });
        for fitted in agent.bases.iter().filter(matters) {
            let Some(key) = &fitted.key else { continue };
            // Agents tend to have the same ones in the same order.
            let expected = self.groups.get(guess).is_some_and(|group| *group.key == **key);
            if let Some(group) = if expected { Some(guess) } else { self.find(key) } {
                found[group] = found[group].max(Standing::of(fitted, now));
                guess = group + 1;
            }
        }
    }

    fn judge(&mut self, group: usize, ix: AgentIx, agent: &Agent, found: Option<Standing>) {
        let wants = |bases: &Self| bases.groups[group].wants(agent);
        let missing = |bases: &mut Self, after_another| {
            let rank = bases.groups[group].rank;
            bases.missing.push(Missing { rank, agent: ix, group, after_another });
        };
        let state = match found {
            Some(Standing::Ready) => State::Ready,
            Some(Standing::Coming) => State::Coming,
            Some(Standing::Leaving) => {
                if wants(self) {
                    missing(self, true);
                }
                State::Leaving
            }
            Some(Standing::Failed { until }) => {
                if wants(self) {
                    self.wake_at = self.wake_at.into_iter().chain([until]).min();
                }
                State::Failed
            }
            None if wants(self) => {
                missing(self, false);
                State::Missing
            }
            None => State::Unwanted,
        };
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

    /// Whether some app of the group of this key may run on the agent.
    pub fn wanted(&self, key: &str, agent: &Agent) -> bool {
        self.find(key).is_some_and(|group| self.groups[group].wants(agent))
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

    /// Whether the executor of this app is still to be put there, its room set aside.
    pub fn lacks(&self, app: &App, agent: AgentIx) -> bool {
        self.executor(app, agent) == Some(State::Missing)
    }

    /// Whether it is still to be put there, its room set aside.
    pub fn is_missing(&self, group: usize, agent: AgentIx) -> bool {
        self.state(group, agent) == State::Missing
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
        if self.is_missing(group, agent) {
            self.set(group, agent, State::Placed(level));
        }
        if level != Level::Now {
            self.awaited.push((agent, level));
        }
    }

    /// It cannot ever go there: the agent is too small.
    pub fn give_up(&mut self, missing: &Missing) {
        self.set(missing.group, missing.agent, State::Failed);
    }
}

/// The bases that are wanted ahead.
fn groups<'a>(claims: &'a [Claim<'a>], declared: impl Fn(&Claim) -> bool) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for claim in claims.iter().filter(|claim| claim.app.base.as_ref().is_some_and(|base| base.ahead) && declared(claim)) {
        let (app, Some(base)) = (claim.app, &claim.app.base) else { continue };
        let rank = Rank::of(app.priority);
        let new = || Group { key: &base.key, kind: base.kind, rank, app: claim.key, everywhere: false, choosy: Vec::new() };
        let group = groups.entry(&base.key).or_insert_with(new);
        if rank < group.rank {
            (group.rank, group.app) = (rank, claim.key);
        }
        if app.requirements.is_empty() && app.size.gpu == 0 {
            group.everywhere = true;
        } else {
            let same = |other: &&App| other.requirements == app.requirements && (other.size.gpu > 0) == (app.size.gpu > 0);
            if !group.choosy.iter().any(same) {
                group.choosy.push(app);
            }
        }
    }
    groups.into_values().collect()
}

impl Group<'_> {
    /// Whether some app of the group may run there.
    pub fn wants(&self, agent: &Agent) -> bool {
        let chosen = |app: &&App| agent.gpus == (app.size.gpu > 0) && suits(app, agent);
        agent.present && ((self.everywhere && !agent.gpus) || self.choosy.iter().any(chosen))
    }
}

/// Whether the app's placement allows the agent.
#[inline]
pub(super) fn suits(app: &App, agent: &Agent) -> bool {
    let kept_for_gpus = agent.gpus && app.size.gpu == 0;
    agent.present && !kept_for_gpus && app.requirements.iter().all(|requirement| meets(agent, requirement))
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
    /// `None`: as if it had never been there.
    fn of(fitted: &Fitted, now: Millis) -> Option<Self> {
        match fitted.phase {
            BasePhase::Ready => Some(Self::Ready),
            BasePhase::Coming => Some(Self::Coming),
            BasePhase::Leaving => Some(Self::Leaving),
            BasePhase::Failed { until, .. } => (until > now).then_some(Self::Failed { until }),
        }
    }
}

/// How far the agent is from having the base of this app; the nearest first.
pub(super) fn distance(app: &App, agent: &Agent) -> u8 {
    let Some(base) = &app.base else { return 0 };
    let here = agent.bases.iter().filter(|fitted| fitted.key.as_ref() == Some(&base.key));
    let far = |fitted: &Fitted| match fitted.phase {
        BasePhase::Ready => 0,
        BasePhase::Coming => 1,
        BasePhase::Leaving | BasePhase::Failed { .. } => 2,
    };
    here.map(far).min().unwrap_or(2)
}
