//! Where replicas can go: the conditions of an app, packing and spreading.

use super::bases::distance;
use super::claim::{Claim, is_live};
use super::groups::suits;
use super::plan::Reason;
use super::rooms::{Level, Rank, Rooms};
use super::standing;
use super::world::{Agent, AgentIx, Millis, Task};
use crate::api::template::{Operator, Requirement};
use crate::api::validated::Spread;

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
        for ix in rooms.open().filter(|ix| allows(claim, rooms, *ix)) {
            seeker.group(rooms, ix).agents.push(ix);
        }
        if claim.app.base.is_some() {
            // Of equal standing, the order stays.
            let distance = |ix: &AgentIx| distance(claim.app, &rooms.agents[ix.0 as usize], rooms.now);
            seeker.groups.iter_mut().for_each(|group| group.agents.sort_by_cached_key(distance));
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

    /// The best agent on which the replica fits at this level: the group with the fewest replicas, the fullest agent in it, but where
    /// the app's base is before where it is not. The pool's limits are another matter.
    pub fn find(&mut self, rooms: &Rooms<'a>, level: Level, rank: Rank) -> Option<AgentIx> {
        self.catch_up(rooms);
        let app = self.claim.app;
        loop {
            let group = (self.groups.iter_mut())
                .filter(|group| group.at[level as usize] < group.agents.len())
                .min_by_key(|group| (group.value.is_none(), group.replicas))?;
            let at = &mut group.at[level as usize];
            while let Some(agent) = group.agents.get(*at) {
                if rooms.takes(app, *agent, level, rank) {
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

/// Why no agent can take a replica of the app, whatever ends, if that is so.
pub(super) fn hopeless(claim: &Claim, rooms: &Rooms) -> Option<Reason> {
    let app = claim.app;
    let executor = rooms.executor_of(app);
    let mut agents = rooms.open().filter(|agent| allows(claim, rooms, *agent)).peekable();
    if rooms.open().next().is_none() {
        Some(Reason::NoAgents)
    } else if agents.peek().is_none() {
        let barred = rooms.open().filter(|ix| claim.barred.contains(ix) && suits(app, &rooms.agents[ix.0 as usize])).count();
        Some(if rooms.open().any(|ix| is_open(claim, rooms, ix)) {
            without_executor(claim, rooms)
        } else if barred > 0 {
            Reason::AgentsBarred { agents: i64::try_from(barred).unwrap_or(i64::MAX) }
        } else {
            Reason::NoAgentMatches
        })
    } else if !agents.any(|agent| rooms.is_large_enough(agent, app.size, executor)) {
        Some(too_large(claim, rooms))
    } else {
        None
    }
}

/// Agents would do, but none has an executor or gets one.
fn without_executor(claim: &Claim, rooms: &Rooms) -> Reason {
    let app = claim.app;
    let leaving = || standing::is_leaving(app, rooms.agents).then_some(Reason::ExecutorsLeave);
    let agents: Vec<&Agent> = rooms.agents.iter().collect();
    let failing = standing::failing(app, &agents, rooms.now);
    failing.or_else(leaving).unwrap_or_else(|| too_large(claim, rooms))
}

/// The executor is named where the replica alone would fit.
fn too_large(claim: &Claim, rooms: &Rooms) -> Reason {
    let size = claim.app.size;
    let fits = rooms.open().any(|ix| is_open(claim, rooms, ix) && rooms.is_large_enough(ix, size, None));
    Reason::NoAgentLargeEnough { size, executor: rooms.executor_of(claim.app).filter(|_| fits) }
}

/// Whether a replica of the app may go to this agent.
pub(super) fn allows(claim: &Claim, rooms: &Rooms, ix: AgentIx) -> bool {
    is_open(claim, rooms, ix) && !rooms.bases.bars(claim.app, ix)
}

/// The same, whatever becomes of its executor there.
fn is_open(claim: &Claim, rooms: &Rooms, ix: AgentIx) -> bool {
    !claim.barred.contains(&ix) && rooms.agents.get(ix.0 as usize).is_some_and(|agent| suits(claim.app, agent))
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

    use super::super::bases::Bases;
    use super::super::memory::AppMemory;
    use super::super::resources::Resources;
    use super::super::testing::{agent, app, running};
    use super::super::world::{AppView, BasePhase, Fitted, World};
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
        let claim = Claim::of(&key, spec, &view, &world.agents, &mut AppMemory::default(), 0);
        let mut rooms = Rooms::of(&world, Bases::default(), 0);
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
    fn agents_that_are_not_tried_for_now_are_told_from_those_that_never_match() {
        let reason = |barred: &[u32], rack: &str| {
            let placement = json!({"where": [{"attribute": "rack", "operator": "In", "values": [rack]}]});
            let spec = app("a", json!({"replicas": 1, "placement": placement}));
            let world = World { agents: vec![agent(4, &[("rack", "x")]); 2], ..World::default() };
            let view = AppView { spec: Some(Arc::new(spec.clone())), ..AppView::default() };
            let mut claim = Claim::of(&spec.key, &spec, &view, &world.agents, &mut AppMemory::default(), 0);
            claim.barred = barred.iter().copied().map(AgentIx).collect();
            hopeless(&claim, &Rooms::of(&world, Bases::default(), 0))
        };
        assert_eq!(reason(&[0, 1], "x"), Some(Reason::AgentsBarred { agents: 2 }));
        assert_eq!((reason(&[0], "x"), reason(&[0, 1], "y")), (None, Some(Reason::NoAgentMatches)));
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
    fn agents_with_the_base_come_first_but_after_spreading() {
        let fitted = |phase| {
            let (key, executor) = (Some("mesos:x".into()), None);
            Agent { bases: vec![Fitted { key, executor, phase, since: 0, limits: None }], ..agent(2, &[]) }
        };
        let template = json!({"resources": {"cpu": "1", "memory": "64Mi"}, "shell": "x", "image": "x"});
        let failed = fitted(BasePhase::Failed { until: 9, tries: 1, why: "not found".into() });
        let agents = || vec![agent(1, &[]), fitted(BasePhase::Coming), fitted(BasePhase::Ready)];
        let packed = app("a", json!({"template": template}));
        assert_eq!(agents_for(packed.clone(), vec![], agents(), 9), [2, 2, 1, 1, 0]);
        assert_eq!(
            agents_for(packed, vec![], vec![failed, agent(3, &[])], 4),
            [1, 1, 1, 0],
            "last where it is not to be had yet"
        );
        let mut agents = agents();
        for (agent, host) in agents.iter_mut().zip(["a", "b", "c"]) {
            agent.hostname = host.into();
        }
        let spread = app("a", json!({"template": template, "placement": {"spread": "hostname"}}));
        assert_eq!(agents_for(spread, vec![], agents, 3), [0, 1, 2]);
    }

    #[test]
    fn what_is_kept_yields_only_to_the_more_important() {
        let world = World { limits: Resources::UNLIMITED, agents: vec![agent(2, &[])], ..World::default() };
        let mut rooms = Rooms::of(&world, Bases::default(), 0);
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
