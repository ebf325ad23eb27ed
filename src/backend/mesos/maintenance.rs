//! Planned maintenance: when agents are to be left, and the answers to the master's inverse offers.
//!
//! The master names the time in what it offers of an agent, and where we have tasks, in an inverse offer: it asks for the room back. That
//! is held while something of ours is there, as it is withdrawn when the plan is changed or dropped, which nothing else would tell of a
//! full agent; and it is accepted once the agent is left, so that whoever planned it sees that it may begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::policy::world::{Agent, AgentIx, BasePhase, Millis, TaskPhase, World};

/// So long ahead of its maintenance an agent is left: enough for replicas to become ready elsewhere and for others to end in peace.
/// Aurora takes 6 minutes (`unavailability_threshold`).
const AHEAD: Duration = Duration::from_mins(10);
/// After a change of the master agents come back one by one.
const TOLD_AFTER_SUBSCRIBED_MS: u64 = 10_000;

/// The plans that are known, by agent.
#[derive(Debug, Default)]
pub struct Maintenance {
    plans: BTreeMap<AgentIx, Planned>,
    /// Agents that have been left.
    left: BTreeSet<AgentIx>,
}

#[derive(Debug)]
struct Planned {
    leave_at: Millis,
    /// The master's inverse offer, as long as it is not answered.
    asked: Option<Arc<str>>,
    /// The master, which may be another one, has not told of it since we subscribed: it is dropped then.
    drop_at: Option<Millis>,
}

impl Maintenance {
    /// An offer says when maintenance of its agent begins, or that none is planned.
    pub fn offered(&mut self, agent: AgentIx, begins_in: Option<Duration>, now: Millis) {
        match begins_in {
            Some(begins_in) => self.plan(agent, begins_in, now),
            None => drop(self.plans.remove(&agent)),
        }
    }

    /// The master asks for the room that we use there.
    pub fn asked(&mut self, agent: AgentIx, begins_in: Duration, id: Arc<str>, now: Millis) {
        self.plan(agent, begins_in, now);
        self.plans.entry(agent).and_modify(|planned| planned.asked = Some(id));
    }

    fn plan(&mut self, agent: AgentIx, begins_in: Duration, now: Millis) {
        let wait = u64::try_from(begins_in.saturating_sub(AHEAD).as_millis()).unwrap_or(u64::MAX);
        let leave_at = now.saturating_add(wait);
        let asked = self.plans.remove(&agent).and_then(|planned| planned.asked);
        self.plans.insert(agent, Planned { leave_at, asked, drop_at: None });
    }

    /// The master withdraws what it asked: the plan is dropped, or comes anew.
    pub fn withdrawn(&mut self, id: &str) {
        self.plans.retain(|_, planned| planned.asked.as_deref() != Some(id));
    }

    /// What was planned may have been dropped meanwhile; what still holds is told again.
    pub fn subscribed(&mut self, now: Millis) {
        let drop_at = Some(now + TOLD_AFTER_SUBSCRIBED_MS);
        self.plans.values_mut().for_each(|planned| (planned.asked, planned.drop_at) = (None, drop_at));
    }

    /// Brings the world up to date; each tick does. Gives the agents that are to be left from now on, and those that are no longer.
    pub fn review(&mut self, world: &mut World, now: Millis) -> (Vec<AgentIx>, Vec<AgentIx>) {
        self.plans.retain(|_, planned| planned.drop_at.is_none_or(|at| at > now));
        let due: BTreeSet<_> = self.plans.iter().filter(|(_, planned)| planned.leave_at <= now).map(|(ix, _)| *ix).collect();
        let left: Vec<_> = due.difference(&self.left).copied().collect();
        let kept: Vec<_> = self.left.difference(&due).copied().collect();
        left.iter().for_each(|ix| world.agents[ix.0 as usize].departs = true);
        kept.iter().for_each(|ix| world.agents[ix.0 as usize].departs = false);
        self.left = due;
        (left, kept)
    }

    /// When the next agent is to be left, or the next plan to be dropped.
    pub fn next(&self, now: Millis) -> Option<Millis> {
        let times = self.plans.values().flat_map(|planned| [Some(planned.leave_at), planned.drop_at]);
        times.flatten().filter(|at| *at > now).min()
    }

    /// Inverse offers to be accepted, as nothing of ours is there any more. Each is given once.
    pub fn done(&mut self, world: &World) -> Vec<Arc<str>> {
        let asked = self.plans.iter_mut().filter(|(ix, planned)| planned.asked.is_some() && is_left(world, **ix));
        asked.filter_map(|(_, planned)| planned.asked.take()).collect()
    }
}

fn is_left(world: &World, ix: AgentIx) -> bool {
    let Some(agent) = world.agents.get(ix.0 as usize).filter(|agent| agent.departs) else { return false };
    let mut tasks = world.apps.values().flat_map(|view| &view.tasks);
    !has_executors(agent) && !tasks.any(|task| task.agent == ix && task.phase != TaskPhase::Unreachable)
}

fn has_executors(agent: &Agent) -> bool {
    let is_there = |phase: &BasePhase| !matches!(phase, BasePhase::Failed { .. });
    agent.bases.iter().any(|fitted| fitted.executor.is_some() && is_there(&fitted.phase))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const A: AgentIx = AgentIx(0);
    const HOUR: Duration = Duration::from_hours(1);

    fn world() -> World {
        World { agents: vec![Agent { present: true, ..Agent::default() }], ..World::default() }
    }

    #[test]
    fn an_agent_is_left_in_time_and_used_until_then() {
        let (mut maintenance, mut world) = (Maintenance::default(), world());
        maintenance.offered(A, Some(HOUR), 1000);
        let leave_at = 1000 + 50 * 60_000;
        assert_eq!(maintenance.review(&mut world, leave_at - 1), (vec![], vec![]));
        assert_eq!(maintenance.next(leave_at - 1), Some(leave_at));
        assert_eq!(maintenance.review(&mut world, leave_at), (vec![A], vec![]));
        assert!(world.agents[0].departs && !world.agents[0].is_open());
        assert_eq!((maintenance.review(&mut world, leave_at), maintenance.next(leave_at)), ((vec![], vec![]), None));
        maintenance.offered(A, None, leave_at);
        assert_eq!(maintenance.review(&mut world, leave_at), (vec![], vec![A]));
    }

    #[test]
    fn what_the_master_asks_is_accepted_once_and_when_the_agent_is_left() {
        let (mut maintenance, mut world) = (Maintenance::default(), world());
        maintenance.asked(A, HOUR, "1".into(), 0);
        maintenance.review(&mut world, 0);
        assert!(maintenance.done(&world).is_empty(), "it is an hour until then");
        maintenance.asked(A, Duration::ZERO, "2".into(), 0);
        maintenance.review(&mut world, 0);
        let executor =
            |phase| crate::policy::world::Fitted { key: None, executor: Some("x".into()), phase, since: 0, limits: None };
        world.agents[0].bases = vec![executor(BasePhase::Leaving)];
        assert!(maintenance.done(&world).is_empty(), "an executor is still there");
        world.agents[0].bases = vec![executor(BasePhase::Failed { until: 9, tries: 1, why: "so".into() })];
        assert_eq!(maintenance.done(&world), ["2".into()] as [Arc<str>; 1]);
        assert!(maintenance.done(&world).is_empty() && world.agents[0].departs);
    }

    #[test]
    fn what_is_not_told_again_after_a_change_of_the_master_is_dropped() {
        let (mut maintenance, mut world) = (Maintenance::default(), world());
        world.agents.push(Agent::default());
        maintenance.asked(A, Duration::ZERO, "1".into(), 0);
        maintenance.asked(AgentIx(1), Duration::ZERO, "2".into(), 0);
        maintenance.review(&mut world, 0);
        maintenance.subscribed(100);
        maintenance.asked(A, Duration::ZERO, "3".into(), 200);
        assert_eq!((maintenance.review(&mut world, 10_099), maintenance.next(10_099)), ((vec![], vec![]), Some(10_100)));
        assert_eq!(maintenance.review(&mut world, 10_100), (vec![], vec![AgentIx(1)]));
        assert_eq!(maintenance.done(&world), ["3".into()] as [Arc<str>; 1]);
    }

    #[test]
    fn what_is_withdrawn_is_no_longer_planned() {
        let (mut maintenance, mut world) = (Maintenance::default(), world());
        maintenance.asked(A, Duration::ZERO, "1".into(), 0);
        maintenance.review(&mut world, 0);
        maintenance.withdrawn("another");
        assert_eq!(maintenance.review(&mut world, 0), (vec![], vec![]));
        maintenance.withdrawn("1");
        assert_eq!(maintenance.review(&mut world, 0), (vec![], vec![A]));
    }
}
