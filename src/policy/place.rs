//! Where replicas can go: the room of each agent, the conditions of an app, packing and spreading.

use super::claim::{Claim, is_live};
use super::plan::Reason;
use super::resources::Resources;
use super::world::{Agent, AgentIx, AppView, Millis, Task, TaskPhase, World};
use crate::api::template::{Operator, Requirement};
use crate::api::validated::Spread;

/// A task that has not ended so long after its grace period will not soon: its agent is out of reach.
const LATE_MS: u64 = 10_000;
/// The grace period of tasks whose spec is gone.
const UNKNOWN_GRACE_MS: u64 = 30_000;

/// Importance of a replica: its app's priority (1 is the most important), or [`Rank::REMAINDER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(pub i64);

impl Rank {
    /// Of replicas beyond what is wanted: everything that is wanted comes before them.
    pub const REMAINDER: Self = Self(i64::MAX);
    /// Before everything.
    pub const FIRST: Self = Self(i64::MIN);

    pub fn of(priority: i32) -> Self {
        Self(priority.into())
    }
}

/// How soon a replica can start in some room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// At once, in held room.
    Now,
    /// When room that is believed free has been asked for.
    Free,
    /// When tasks have ended that are on their way down.
    Soon,
}

pub(super) const LEVELS: [Level; 3] = [Level::Now, Level::Free, Level::Soon];

/// Three amounts of room, each containing the one before it, and what of the last is spoken for.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    now: Resources,
    free: Resources,
    soon: Resources,
    /// Waits of the last plan whose turn has not yet come in this one.
    kept: Vec<(Rank, Resources)>,
}

impl Room {
    /// The room that a replica of this rank may count on in the end. What is kept for a replica yields only to a more important one.
    pub fn open(&self, rank: Rank) -> Resources {
        self.kept.iter().filter(|(keeper, _)| *keeper <= rank).fold(self.soon, |room, (_, size)| room - *size)
    }

    /// Whether a replica fits. Even what starts at once has to fit what is open in the end, or it would slip into another's room.
    pub fn fits(&self, size: Resources, level: Level, rank: Rank) -> bool {
        let there = match level {
            Level::Now => size.fits(self.now),
            Level::Free => size.fits(self.free),
            Level::Soon => true,
        };
        there && size.fits(if self.kept.is_empty() { self.soon } else { self.open(rank) })
    }

    fn take(&mut self, size: Resources, level: Level) {
        self.soon -= size;
        if level != Level::Soon {
            self.free -= size;
        }
        if level == Level::Now {
            self.now -= size;
        }
    }

    fn let_go(&mut self, rank: Rank, size: Resources) {
        if let Some(at) = self.kept.iter().position(|kept| *kept == (rank, size)) {
            self.kept.swap_remove(at);
        }
    }
}

/// The room of a pool during one decision.
pub(super) struct Rooms<'a> {
    pub agents: &'a [Agent],
    by_agent: Vec<Room>,
    /// The pool's limits act as one more agent that every replica passes through.
    pub limits: Room,
    /// Room that will be open on all agents together.
    pub spare: Resources,
    /// All that the pool's agents have, or its limits where they are lower: the whole of which shares are taken.
    pub total: Resources,
    /// At least as much as is open on any one agent, in each dimension: what does not fit here need not be sought.
    largest: Resources,
    /// What each agent has altogether, used or not.
    sizes: Vec<Resources>,
    /// Present agents, those with least room first: packing fills them in this order.
    order: Vec<AgentIx>,
    /// Agents on which room came free during this decision.
    grown: Vec<AgentIx>,
    /// Agents on which a task should have ended by now and has not: none is ended there to make room.
    pub stuck: Vec<AgentIx>,
    /// When the next task should have ended.
    pub overdue_at: Option<Millis>,
}

impl<'a> Rooms<'a> {
    pub fn of(world: &'a World, now: Millis) -> Self {
        let mut rooms: Vec<Room> = world.agents.iter().map(Room::of).collect();
        let mut sizes: Vec<Resources> = rooms.iter().map(|room| room.free).collect();
        let mut limits = Room { now: world.limits, free: world.limits, soon: world.limits, kept: Vec::new() };
        let (mut stuck, mut overdue_at): (Vec<AgentIx>, Option<Millis>) = (Vec::new(), None);
        let tasks = world.apps.values().flat_map(|view| view.tasks.iter().map(move |task| (view, task)));
        for (view, task) in tasks.filter(|(_, task)| task.phase != TaskPhase::Unreachable) {
            let ix = task.agent.0 as usize;
            limits.now -= task.resources;
            limits.free -= task.resources;
            let ends_by = (task.phase == TaskPhase::Stopping).then(|| ends_by(view, task));
            let is_coming = ends_by.is_some_and(|at| at > now);
            if is_coming {
                overdue_at = overdue_at.into_iter().chain(ends_by).min();
            } else {
                limits.soon -= task.resources;
            }
            if !world.agents.get(ix).is_some_and(|agent| agent.present) {
                continue;
            }
            sizes[ix] += task.resources;
            if is_coming {
                rooms[ix].soon += task.resources;
            } else if ends_by.is_some() {
                stuck.push(task.agent);
            }
        }
        let total = sizes.iter().copied().sum::<Resources>().min(world.limits);
        let spare = rooms.iter().map(|room| room.soon).sum();
        let largest = rooms.iter().fold(Resources::ZERO, |largest, room| largest.max(room.soon));
        let present = world.agents.iter().zip(0..).filter(|(agent, _)| agent.present).map(|(_, ix)| AgentIx(ix));
        let mut order: Vec<AgentIx> = present.collect();
        order.sort_by_cached_key(|ix| (share(rooms[ix.0 as usize].soon, total), *ix));
        stuck.sort_unstable();
        stuck.dedup();
        let (agents, by_agent, grown) = (&*world.agents, rooms, Vec::new());
        Self { agents, by_agent, limits, spare, total, largest, sizes, order, grown, stuck, overdue_at }
    }

    pub fn at(&self, agent: AgentIx) -> &Room {
        &self.by_agent[agent.0 as usize]
    }

    /// Whether the replica fits both the agent and the limits.
    pub fn fits(&self, agent: AgentIx, size: Resources, level: Level, rank: Rank) -> bool {
        self.at(agent).fits(size, level, rank) && self.limits.fits(size, level, rank)
    }

    pub fn take(&mut self, agent: AgentIx, size: Resources, level: Level) {
        self.by_agent[agent.0 as usize].take(size, level);
        // Tasks on their way down count against the limits until they have ended: room is there at once, or only then.
        self.limits.take(size, if level == Level::Soon { Level::Soon } else { Level::Now });
        self.spare -= size;
    }

    /// A task is going to end.
    pub fn give(&mut self, agent: AgentIx, size: Resources) {
        self.limits.soon += size;
        if self.agents.get(agent.0 as usize).is_some_and(|agent| agent.present) {
            let room = &mut self.by_agent[agent.0 as usize];
            room.soon += size;
            self.largest = self.largest.max(room.soon);
            self.spare += size;
            self.grown.push(agent);
        }
    }

    /// Keeps the room for a replica that waited for it before, until its turn comes.
    pub fn keep(&mut self, agent: AgentIx, rank: Rank, size: Resources) {
        self.by_agent[agent.0 as usize].kept.push((rank, size));
        self.limits.kept.push((rank, size));
    }

    pub fn let_go(&mut self, agent: AgentIx, rank: Rank, size: Resources) {
        self.by_agent[agent.0 as usize].let_go(rank, size);
        self.limits.let_go(rank, size);
        self.grown.push(agent);
    }

    /// Room in held offers, as it was before this decision.
    pub fn offered(&self, agent: AgentIx) -> Resources {
        self.agents[agent.0 as usize].held
    }

    /// Whether an agent may have room for this in the end. If not, none has.
    pub fn may_fit(&self, size: Resources) -> bool {
        size.fits(self.largest)
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Room {
    fn of(agent: &Agent) -> Self {
        if !agent.present {
            return Self::default();
        }
        let free = agent.held + agent.expected;
        Self { now: agent.held, free, soon: free, kept: Vec::new() }
    }
}

/// A dominant share in thousand-millionths, so that shares compare exactly.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn share(part: Resources, total: Resources) -> u64 {
    (part.dominant_share(total) * 1e9) as u64
}

/// Seeks agents for the replicas of one app. Room only shrinks during a decision (agents where it grows are looked at again), so
/// that each agent is passed once, however many replicas are placed.
pub(super) struct Seeker<'a> {
    claim: &'a Claim<'a>,
    attribute: Option<&'a str>,
    groups: Vec<Group<'a>>,
    seen_grown: usize,
}

/// Agents with the same value of the attribute that replicas are spread over; one group of all when they are packed.
struct Group<'a> {
    value: Option<&'a str>,
    /// The app's replicas here.
    replicas: i64,
    agents: Vec<AgentIx>,
    /// For each level, the first agent that may still have room.
    at: [usize; 3],
}

impl<'a> Seeker<'a> {
    pub fn new(claim: &'a Claim<'a>, rooms: &Rooms<'a>, stays: impl Fn(u32) -> bool) -> Self {
        let attribute = match &claim.app.spread {
            Spread::Pack => None,
            Spread::Over(attribute) => Some(attribute.as_str()),
        };
        let mut seeker = Self { claim, attribute, groups: Vec::new(), seen_grown: rooms.grown.len() };
        for ix in rooms.order.iter().copied().filter(|ix| allows(claim, rooms, *ix)) {
            seeker.group(rooms, ix).agents.push(ix);
        }
        if attribute.is_some() {
            let here = |task: &Task| is_live(task) && (task.agent.0 as usize) < rooms.agents.len();
            for (task, _) in claim.tasks.iter().zip(0..).filter(|(task, at)| here(task) && stays(*at)) {
                seeker.group(rooms, task.agent).replicas += 1;
            }
        }
        seeker
    }

    fn group(&mut self, rooms: &Rooms<'a>, ix: AgentIx) -> &mut Group<'a> {
        let value = self.attribute.and_then(|name| attribute(&rooms.agents[ix.0 as usize], name));
        // Agents without the attribute come last.
        let order = |group: &Group| (group.value.is_none(), group.value).cmp(&(value.is_none(), value));
        let at = self.groups.binary_search_by(order).unwrap_or_else(|at| {
            self.groups.insert(at, Group { value, replicas: 0, agents: Vec::new(), at: [0; 3] });
            at
        });
        &mut self.groups[at]
    }

    /// Agents on which the app may run at all.
    pub fn agents(&self) -> impl Iterator<Item = AgentIx> {
        self.groups.iter().flat_map(|group| group.agents.iter().copied())
    }

    /// The best agent on which the replica fits at this level: the group with the fewest replicas, the fullest agent in it. The
    /// pool's limits are another matter.
    pub fn find(&mut self, rooms: &Rooms<'a>, level: Level, rank: Rank) -> Option<AgentIx> {
        self.catch_up(rooms);
        let size = self.claim.app.size;
        loop {
            let group = (self.groups.iter_mut())
                .filter(|group| group.at[level as usize] < group.agents.len())
                .min_by_key(|group| (group.value.is_none(), group.replicas))?;
            let at = &mut group.at[level as usize];
            while let Some(agent) = group.agents.get(*at) {
                if rooms.at(*agent).fits(size, level, rank) {
                    return Some(*agent);
                }
                *at += 1;
            }
        }
    }

    /// A replica goes to this agent.
    pub fn placed(&mut self, rooms: &Rooms<'a>, agent: AgentIx) {
        if self.attribute.is_some() {
            self.group(rooms, agent).replicas += 1;
        }
    }

    fn catch_up(&mut self, rooms: &Rooms<'a>) {
        while let Some(agent) = rooms.grown.get(self.seen_grown).copied() {
            self.seen_grown += 1;
            if allows(self.claim, rooms, agent) {
                self.group(rooms, agent).agents.push(agent);
            }
        }
    }
}

/// When a task that was told to end should have ended: its app's grace period, and some time for the messages.
fn ends_by(view: &AppView, task: &Task) -> Millis {
    let grace = view.spec.as_ref().map(|app| app.template.grace_period_milliseconds);
    let grace_ms = grace.map_or(UNKNOWN_GRACE_MS, |ms| u64::try_from(ms).unwrap_or(0));
    task.since.saturating_add(grace_ms).saturating_add(LATE_MS)
}

/// Why no agent could ever take a replica of the app, if that is so.
pub(super) fn hopeless(claim: &Claim, rooms: &Rooms) -> Option<Reason> {
    let size = claim.app.size;
    let mut agents = rooms.order.iter().filter(|agent| allows(claim, rooms, **agent)).peekable();
    if rooms.order.is_empty() {
        Some(Reason::NoAgents)
    } else if agents.peek().is_none() {
        Some(Reason::NoAgentMatches)
    } else if !agents.any(|agent| size.fits(rooms.sizes[agent.0 as usize])) {
        Some(Reason::NoAgentLargeEnough { size })
    } else {
        None
    }
}

/// Whether the app may run on this agent at all.
pub(super) fn allows(claim: &Claim, rooms: &Rooms, ix: AgentIx) -> bool {
    let allows = |agent: &Agent| claim.app.requirements.iter().all(|requirement| meets(agent, requirement));
    let kept_for_gpus = |agent: &Agent| agent.gpus && claim.app.size.gpu == 0;
    let open = |agent: &Agent| agent.present && !kept_for_gpus(agent) && !claim.barred.contains(&ix) && allows(agent);
    rooms.agents.get(ix.0 as usize).is_some_and(open)
}

fn attribute<'a>(agent: &'a Agent, name: &str) -> Option<&'a str> {
    match agent.attributes.get(name) {
        Some(value) => Some(value),
        None if name == "hostname" => Some(&agent.hostname),
        None => None,
    }
}

/// As a node selector requirement of Kubernetes: `NotIn` and `DoesNotExist` are met where the attribute is absent.
pub(super) fn meets(agent: &Agent, requirement: &Requirement) -> bool {
    let value = attribute(agent, &requirement.attribute);
    let named = requirement.values.as_deref().unwrap_or_default();
    let compare = |than: fn(&f64, &f64) -> bool| {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let (mine, bound) = (value.and_then(number), named.first().and_then(|text| number(text)));
        mine.zip(bound).is_some_and(|(mine, bound)| than(&mine, &bound))
    };
    match requirement.operator {
        Operator::In => value.is_some_and(|value| named.iter().any(|name| name == value)),
        Operator::NotIn => !value.is_some_and(|value| named.iter().any(|name| name == value)),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => compare(f64::gt),
        Operator::Lt => compare(f64::lt),
    }
}

/// Work that ending this task loses, in milliseconds.
pub(super) fn age(task: &Task, now: Millis) -> u64 {
    now.saturating_sub(task.born)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::memory::AppMemory;
    use super::super::testing::{agent, app, running};
    use super::*;
    use crate::api::validated::App;

    fn requirement(attribute: &str, operator: Operator, values: &[&str]) -> Requirement {
        let values = (!values.is_empty()).then(|| values.iter().map(|value| (*value).to_owned()).collect());
        Requirement { attribute: attribute.to_owned(), operator, values }
    }

    #[test]
    fn conditions_are_those_of_kubernetes() {
        let host = agent(1, &[("rack", "x"), ("year", "2021")]);
        for (attribute, operator, values, expected) in [
            ("rack", Operator::In, &["x", "y"][..], true),
            ("rack", Operator::In, &["y"], false),
            ("zone", Operator::In, &["y"], false),
            ("rack", Operator::NotIn, &["y"], true),
            ("rack", Operator::NotIn, &["x"], false),
            ("zone", Operator::NotIn, &["x"], true),
            ("rack", Operator::Exists, &[], true),
            ("zone", Operator::Exists, &[], false),
            ("zone", Operator::DoesNotExist, &[], true),
            ("year", Operator::Gt, &["2020"], true),
            ("year", Operator::Gt, &["2021"], false),
            ("year", Operator::Lt, &["2021.5"], true),
            ("rack", Operator::Gt, &["1"], false),
            ("hostname", Operator::In, &["host"], true),
        ] {
            assert_eq!(meets(&host, &requirement(attribute, operator, values)), expected, "{attribute} {operator:?} {values:?}");
        }
    }

    /// Where the next replicas of the app go.
    fn agents_for(spec: App, tasks: Vec<Task>, agents: Vec<Agent>, count: usize) -> Vec<u32> {
        let key = spec.key.clone();
        let view = AppView { spec: Some(Arc::new(spec)), tasks, ..AppView::default() };
        let world = World { limits: Resources::UNLIMITED, agents, ..World::default() };
        let spec = view.spec.as_deref().expect("it has one");
        let claim = Claim::of(&key, spec, &view, &mut AppMemory::default(), 0);
        let mut rooms = Rooms::of(&world, 0);
        let mut seeker = Seeker::new(&claim, &rooms, |_| true);
        let next = || {
            let found = seeker.find(&rooms, Level::Now, Rank::of(1))?;
            rooms.take(found, spec.size, Level::Now);
            seeker.placed(&rooms, found);
            Some(found.0)
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn packing_fills_the_fullest_agent_first() {
        let agents = vec![agent(4, &[]), agent(2, &[]), agent(3, &[])];
        assert_eq!(agents_for(app("a", json!({})), vec![], agents, 9), [1, 1, 2, 2, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn spreading_goes_where_fewest_are_and_last_to_agents_without_the_attribute() {
        let racks = [("rack", "x"), ("rack", "y")];
        let agents = vec![agent(9, &[]), agent(2, &racks[..1]), agent(9, &racks[1..])];
        let spec = app("a", json!({"placement": {"spread": "rack"}}));
        let tasks = vec![running(&spec, 2, 0)];
        assert_eq!(agents_for(spec, tasks, agents, 6), [1, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn what_is_kept_yields_only_to_the_more_important() {
        let world = World { limits: Resources::UNLIMITED, agents: vec![agent(2, &[])], ..World::default() };
        let mut rooms = Rooms::of(&world, 0);
        let (one, here) = (Resources::new(1000, 1), AgentIx(0));
        rooms.keep(here, Rank(5), one);
        rooms.take(here, one, Level::Now);
        assert!(rooms.fits(here, one, Level::Now, Rank(4)));
        assert!(!rooms.fits(here, one, Level::Now, Rank(5)));
        assert!(!rooms.fits(here, one, Level::Now, Rank::REMAINDER));
        rooms.let_go(here, Rank(5), one);
        assert!(rooms.fits(here, one, Level::Now, Rank::REMAINDER));
    }
}
