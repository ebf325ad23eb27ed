//! Whose room is taken: the fewest and least important replicas that make the winner fit, on one agent.
//!
//! Order and reverse pruning as in Kueue's classic pre-emption and Aurora's `PreemptionVictimFilter`; strictly lower priority only, as
//! in Borg (Verma et al., EuroSys 2015, 2.5), which keeps one eviction from setting off another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::claim::{is_live, is_ready};
use super::place::age;
use super::resources::Resources;
use super::rollout::is_old;
use super::rooms::{Rank, Rooms, share};
use super::seat::Seat;
use super::sparing::{Guarded, Winner, protected_until};
use super::world::{AgentIx, Millis};

/// So many agents are looked at before a good choice is taken for the best.
const LOOK_AT: usize = 32;

/// A running replica that may have to give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    /// Least important first.
    rank: Reverse<Rank>,
    /// What is still protected comes last: only a minimum takes it.
    protected: bool,
    /// Where nothing is lost, first.
    loses: bool,
    /// Large ones first, which makes fewer.
    share: Reverse<u64>,
    /// Old templates, then what does not serve yet.
    kept_for: (bool, bool),
    /// The youngest first: it loses the least work.
    lost_ms: u64,
    pub app: u32,
    pub task: u32,
    pub agent: AgentIx,
    size: Resources,
}

impl Candidate {
    pub fn rank(&self) -> Rank {
        self.rank.0
    }

    pub fn is_protected(&self) -> bool {
        self.protected
    }

    pub fn is_ready(&self) -> bool {
        self.kept_for.1
    }
}

/// All replicas that may have to give way, by agent. Made when the first is needed, and sorted where it is.
pub(super) struct Victims {
    now: Millis,
    /// For each agent, where its tasks begin in `tasks`.
    begins: Vec<u32>,
    /// App and task, as their places among the seats and in the claim.
    tasks: Vec<(u32, u32)>,
    sorted: Vec<Option<Box<[Candidate]>>>,
    /// The same in one order over all agents; made when the pool's limits or headroom need it.
    everywhere: Option<Box<[Candidate]>>,
    /// The least important rank that was found.
    lowest: Rank,
    /// Some that would lose nothing are of that rank.
    lossless: bool,
    pub guarded: Vec<Guarded>,
}

impl Victims {
    pub fn of(seats: &[Seat], rooms: &Rooms, now: Millis) -> Self {
        let agents = rooms.agents.len();
        let losing = || seats.iter().zip(0..).filter(|(seat, _)| losable(seat).next().is_some());
        let each = |visit: &mut dyn FnMut(usize, (u32, u32))| {
            for (seat, app) in losing() {
                for (task, at) in seat.claim.tasks.iter().zip(0..).filter(|(task, _)| is_live(task)) {
                    if (task.agent.0 as usize) < agents {
                        visit(task.agent.0 as usize, (app, at));
                    }
                }
            }
        };
        // Counted, then filed: one allocation for all agents.
        let mut begins = vec![0; agents + 1];
        each(&mut |agent, _| begins[agent + 1] += 1);
        for agent in 0..agents {
            begins[agent + 1] += begins[agent];
        }
        let mut tasks = vec![(0, 0); begins[agents] as usize];
        let mut next = begins.clone();
        each(&mut |agent, task| {
            tasks[next[agent] as usize] = task;
            next[agent] += 1;
        });
        let lowest = losing().flat_map(|(seat, _)| losable(seat)).max().unwrap_or(Rank::FIRST);
        let lossless =
            losing().any(|(seat, _)| seat.claim.app.protection.checkpointed && losable(seat).any(|rank| rank == lowest));
        let guarded = losing().filter_map(|(seat, app)| Guarded::of(seat, app as usize, now)).collect();
        Self { now, begins, tasks, sorted: vec![None; agents], everywhere: None, lowest, lossless, guarded }
    }

    /// The least important rank that there is.
    pub fn lowest(&self) -> Rank {
        self.lowest
    }

    fn candidates(&self, seats: &[Seat], rooms: &Rooms, range: std::ops::Range<usize>) -> Box<[Candidate]> {
        let ranked = self.tasks[range].iter().flat_map(|(app, at)| {
            let claim = seats[*app as usize].claim;
            let task = &claim.tasks[*at as usize];
            losable(&seats[*app as usize]).map(move |rank| Candidate {
                rank: Reverse(rank),
                protected: protected_until(task, claim.app) > self.now,
                loses: !claim.app.protection.checkpointed,
                share: Reverse(share(task.resources, rooms.total)),
                kept_for: (!is_old(task, claim.app), is_ready(task)),
                lost_ms: if claim.app.protection.checkpointed { 0 } else { age(task, self.now) },
                app: *app,
                task: *at,
                agent: task.agent,
                size: task.resources,
            })
        });
        let mut all: Box<[Candidate]> = ranked.collect();
        all.sort_unstable();
        all
    }

    fn on(&mut self, seats: &[Seat], rooms: &Rooms, agent: AgentIx) -> &[Candidate] {
        let ix = agent.0 as usize;
        if self.sorted[ix].is_none() {
            let range = self.begins[ix] as usize..self.begins[ix + 1] as usize;
            self.sorted[ix] = Some(self.candidates(seats, rooms, range));
        }
        self.sorted[ix].as_deref().unwrap_or_default()
    }

    fn everywhere(&mut self, seats: &[Seat], rooms: &Rooms) -> &[Candidate] {
        if self.everywhere.is_none() {
            self.everywhere = Some(self.candidates(seats, rooms, 0..self.tasks.len()));
        }
        self.everywhere.as_deref().unwrap_or_default()
    }

    /// Victims below `winner` on this agent that give `need` room; `None` when they cannot.
    pub fn plan(
        &mut self,
        seats: &[Seat],
        rooms: &Rooms,
        agent: AgentIx,
        winner: Winner,
        need: Resources,
    ) -> Option<Vec<Candidate>> {
        let room = rooms.at(agent).open(winner.rank);
        let mut chosen = Vec::new();
        if !choose(self.on(seats, rooms, agent).iter(), seats, winner, need, room, &mut chosen) {
            return None;
        }
        prune(&mut chosen, |left| need.fits(room + freed(left)));
        Some(chosen)
    }

    /// Adds victims, on whichever of these agents, until `need` is met beside `room` and the room of those already chosen. Whether it
    /// is met.
    pub fn anywhere(
        &mut self,
        (seats, rooms): (&[Seat], &Rooms),
        winner: Winner,
        need: Resources,
        room: Resources,
        on: impl Fn(AgentIx) -> bool,
        chosen: &mut Vec<Candidate>,
    ) -> bool {
        let candidates = self.everywhere(seats, rooms).iter().filter(|victim| on(victim.agent));
        choose(candidates, seats, winner, need, room, chosen)
    }
}

/// The ranks of which the app may lose a replica.
pub(super) fn losable(seat: &Seat) -> impl Iterator<Item = Rank> {
    let ranks = [Rank::of(seat.claim.app.priority), Rank::REMAINDER];
    ranks.into_iter().filter(|rank| seat.may_lose(*rank, 0))
}

/// Greedily takes candidates that help, least important first. Whether `need` is met in the end.
fn choose<'c>(
    from: impl Iterator<Item = &'c Candidate>,
    seats: &[Seat],
    winner: Winner,
    need: Resources,
    room: Resources,
    chosen: &mut Vec<Candidate>,
) -> bool {
    let mut room = chosen.iter().fold(room, |room, victim| room + victim.size);
    for victim in from.take_while(|victim| victim.rank() > winner.rank) {
        if need.fits(room) {
            return true;
        }
        let lacking = need.minus_floor(room.max(Resources::ZERO).min(need));
        let seat = &seats[victim.app as usize];
        let already = chosen.iter().filter(|other| other.app == victim.app).count();
        let is_new = || !chosen.iter().any(|other| other.app == victim.app && other.task == victim.task);
        let is_free = || !seat.ends(victim.task) && seat.may_lose(victim.rank(), already) && !winner.spares(victim, seat, chosen);
        if helps(victim.size, lacking) && is_free() && is_new() {
            room += victim.size;
            chosen.push(*victim);
        }
    }
    need.fits(room)
}

fn helps(size: Resources, lacking: Resources) -> bool {
    !size.min(lacking).is_zero()
}

/// Drops every victim that is not needed, the most important first.
pub(super) fn prune(chosen: &mut Vec<Candidate>, enough: impl Fn(&[Candidate]) -> bool) {
    for at in (0..chosen.len()).rev() {
        let victim = chosen.remove(at);
        if !enough(chosen) {
            chosen.insert(at, victim);
        }
    }
}

/// The room of these victims altogether.
pub(super) fn freed(chosen: &[Candidate]) -> Resources {
    chosen.iter().map(|victim| victim.size).sum()
}

/// The room of those on one agent.
pub(super) fn freed_on(chosen: &[Candidate], agent: AgentIx) -> Resources {
    chosen.iter().filter(|victim| victim.agent == agent).map(|victim| victim.size).sum()
}

/// What it costs to take room on an agent; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// The most important of the victims.
    rank: Reverse<Rank>,
    protected: usize,
    /// Those that lose their work.
    losers: usize,
    count: usize,
    /// What is freed beyond need.
    surplus: u64,
    lost_ms: u64,
    agent: AgentIx,
}

/// The search of one app for the agent where taking room costs least. Costs only rise while room is taken, so that an agent is looked
/// at again only when it seems to be the best.
pub(super) struct Hunt {
    agents: Vec<AgentIx>,
    seen: usize,
    best: BinaryHeap<Reverse<Cost>>,
}

impl Hunt {
    pub fn over(agents: impl Iterator<Item = AgentIx>) -> Self {
        let mut agents: Vec<AgentIx> = agents.collect();
        agents.sort_unstable();
        agents.dedup();
        Self { agents, seen: 0, best: BinaryHeap::new() }
    }

    pub fn best(
        &mut self,
        victims: &mut Victims,
        seats: &[Seat],
        rooms: &Rooms,
        winner: Winner,
        need: impl Fn(AgentIx) -> Resources,
    ) -> Option<(AgentIx, Vec<Candidate>)> {
        let (lowest, most_losers) = (victims.lowest, usize::from(!victims.lossless));
        let mut judge = |agent: AgentIx| {
            let chosen = victims.plan(seats, rooms, agent, winner, need(agent))?;
            Some((Cost::of(&chosen, rooms, agent), chosen))
        };
        let is_good = |cost: &Cost| cost.count == 1 && cost.rank.0 == lowest && cost.protected == 0 && cost.losers <= most_losers;
        let good = |best: Option<&Reverse<Cost>>| best.is_some_and(|cost| is_good(&cost.0));
        loop {
            while self.seen < self.agents.len() && (self.seen < LOOK_AT || !good(self.best.peek())) {
                self.best.extend(judge(self.agents[self.seen]).map(|(cost, _)| Reverse(cost)));
                self.seen += 1;
            }
            let Reverse(cost) = self.best.pop()?;
            let Some((cost_now, chosen)) = judge(cost.agent) else { continue };
            self.best.push(Reverse(cost_now));
            if cost_now <= cost {
                return Some((cost.agent, chosen));
            }
        }
    }
}

impl Cost {
    fn of(chosen: &[Candidate], rooms: &Rooms, agent: AgentIx) -> Self {
        let rank = chosen.iter().map(Candidate::rank).min().unwrap_or(Rank::REMAINDER);
        let all = freed(chosen);
        let lost_ms = chosen.iter().map(|victim| victim.lost_ms).sum();
        let number = |of: fn(&Candidate) -> bool| chosen.iter().filter(|victim| of(victim)).count();
        let (protected, losers) = (number(Candidate::is_protected), number(|victim| victim.loses));
        Self { rank: Reverse(rank), protected, losers, count: chosen.len(), surplus: share(all, rooms.total), lost_ms, agent }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::plan::{Plan, StopReason};
    use super::super::resources::Resources;
    use super::super::testing::{agent, app, running};
    use super::super::world::{AgentIx, AppView, Task, TaskPhase, World};
    use super::super::{Memory, decide};
    use crate::api::validated::{Key, Version};

    /// Apps by name, spec and the agents on which their replicas run, oldest first; each agent has four cores.
    fn plan(agents: i64, apps: &[(&str, Value, &[u32])]) -> Plan {
        decide(&world(agents, apps), Memory::default(), 100).0
    }

    fn world(agents: i64, apps: &[(&str, Value, &[u32])]) -> World {
        let agents = (0..agents).map(|_| agent(4, &[])).collect();
        let mut world = World { limits: super::Resources::UNLIMITED, agents, ..World::default() };
        for (name, spec, on) in apps {
            let app = app(name, spec.clone());
            let tasks: Vec<_> = on.iter().zip(1..).map(|(agent, born)| running(&app, *agent, born)).collect();
            for task in &tasks {
                world.agents[task.agent.0 as usize].held -= task.resources;
            }
            world.apps.insert(app.key.clone(), AppView { spec: Some(Arc::new(app)), tasks, ..AppView::default() });
        }
        world
    }

    fn tasks<'w>(world: &'w mut World, app: &str) -> &'w mut Vec<Task> {
        &mut world.apps.get_mut(&Key::new("default", app)).expect("it is there").tasks
    }

    fn reason(plan: &Plan, app: &str) -> String {
        plan.verdicts[&Key::new("default", app)].reason()
    }

    fn victims(plan: &Plan) -> Vec<&str> {
        plan.stops.iter().filter(|stop| matches!(stop.why, StopReason::GivesWayTo(_))).map(|stop| &*stop.task).collect()
    }

    fn spec(priority: i32, replicas: i64, cpu: &str) -> Value {
        json!({"priority": priority, "replicas": replicas, "template": {"resources": {"cpu": cpu, "memory": "64Mi"}, "shell": "x"}})
    }

    #[test]
    fn spare_replicas_go_before_any_wanted_one_and_the_youngest_first() {
        let spare = json!({"priority": 1, "demand": [{"name": "rest", "remainder": {}}]});
        let plan = plan(1, &[("low", spec(9, 2, "1"), &[0, 0]), ("spare", spare, &[0, 0]), ("top", spec(1, 1, "1"), &[])]);
        assert_eq!(victims(&plan), ["spare-0-2"]);
        assert_eq!((plan.waits.len(), plan.waits[0].free), (1, false));
    }

    #[test]
    fn one_large_victim_rather_than_two_small_ones() {
        let apps = [("big", spec(5, 1, "2"), &[0][..]), ("small", spec(5, 2, "1"), &[0, 0]), ("top", spec(1, 1, "2"), &[])];
        assert_eq!(victims(&plan(1, &apps)), ["big-0-1"]);
    }

    #[test]
    fn the_less_important_agent_is_chosen_even_if_it_takes_more() {
        let apps = [("mid", spec(5, 1, "4"), &[0][..]), ("low", spec(9, 4, "1"), &[1; 4]), ("top", spec(1, 1, "4"), &[])];
        assert_eq!(victims(&plan(2, &apps)).len(), 4);
    }

    #[test]
    fn nobody_ends_when_it_would_not_help() {
        let apps = [("same", spec(1, 1, "1"), &[0][..]), ("low", spec(9, 3, "1"), &[0; 3]), ("top", spec(1, 1, "4"), &[])];
        assert_eq!(plan(1, &apps).stops, []);
    }

    #[test]
    fn nothing_is_taken_while_free_room_may_not_be_known() {
        let spare = json!({"priority": 1, "demand": [{"name": "rest", "remainder": {}}]});
        let apps = [("low", spec(9, 2, "1"), &[0; 2][..]), ("spare", spare, &[0; 2]), ("top", spec(1, 1, "1"), &[])];
        let world = World { unsurveyed: true, headroom: Resources::new(1000, 0), ..world(1, &apps) };
        let (plan, memory) = decide(&world, Memory::default(), 100);
        assert_eq!((&plan.stops[..], plan.recall), (&[][..], true));
        let (plan, _) = decide(&World { unsurveyed: false, ..world }, memory, 200);
        assert_eq!(plan.stops.len(), 2, "one for the winner, one for the headroom");
    }

    #[test]
    fn after_freed_room_went_to_others_nothing_is_freed_for_a_while() {
        let spare = json!({"priority": 1, "demand": [{"name": "rest", "remainder": {}}]});
        let apps = [("low", spec(9, 2, "1"), &[0; 2][..]), ("spare", spare, &[0; 2]), ("top", spec(1, 1, "1"), &[])];
        let world = World { futile_until: 5100, headroom: Resources::new(1000, 0), ..world(1, &apps) };
        let (plan, memory) = decide(&world, Memory::default(), 100);
        assert_eq!((&plan.stops[..], plan.recall, plan.wake_at), (&[][..], true, Some(5100)));
        let reason = reason(&plan, "top");
        assert!(reason.starts_with("freed room went to others; next try in 5 s"), "{reason}");
        assert_eq!(decide(&world, memory, 5100).0.stops.len(), 2);
        let (plan, _) = decide(&World { futile_until: 5100, ..self::world(2, &apps[..2]) }, Memory::default(), 100);
        assert_eq!((plan.wake_at, plan.stops.len()), (None, 0), "nobody is short");
    }

    #[test]
    fn room_that_does_not_come_free_in_time_is_not_waited_for() {
        let top = spec(1, 1, "4");
        let mut world = world(2, &[("low", spec(9, 2, "4"), &[0, 1]), ("top", top, &[])]);
        let task = &mut tasks(&mut world, "low")[0];
        (task.phase, task.since) = (TaskPhase::Stopping, 100);
        let grace =
            world.apps[&Key::new("default", "low")].spec.as_ref().expect("it is there").template.grace_period_milliseconds;
        let late = 100 + u64::try_from(grace).expect("positive") + 10_000;
        let (plan, memory) = decide(&world, Memory::default(), late - 1);
        assert_eq!((plan.stops.len(), plan.waits[0].agent, plan.wake_at), (0, AgentIx(0), Some(late)));
        let (plan, _) = decide(&world, memory, late);
        assert_eq!(victims(&plan), ["low-1-2"]);
        assert_eq!(plan.waits[0].agent, AgentIx(1));
    }

    /// The app's replicas that run an old template.
    fn outdate(world: &mut World, app: &str) {
        for task in tasks(world, app) {
            task.version = task.version.map(|version| Version(version.0 ^ 1));
        }
    }

    #[test]
    fn spare_room_rolls_over_beside_headroom() {
        let spare = json!({"priority": 1, "demand": [{"name": "rest", "remainder": {}}]});
        let mut world = World { headroom: Resources::new(2000, 0), ..world(1, &[("spare", spare, &[0; 2])]) };
        outdate(&mut world, "spare");
        let (plan, memory) = decide(&world, Memory::default(), 100);
        assert_eq!((plan.stops.len(), plan.waits.len(), plan.starts.len()), (1, 1, 0));
        assert_eq!(plan.stops[0].why, StopReason::Replaced);
        let ended = tasks(&mut world, "spare").pop().expect("there are two");
        world.agents[0].held += ended.resources;
        let (plan, _) = decide(&world, memory, 200);
        assert_eq!((plan.stops.len(), plan.starts.len()), (0, 1));
    }

    #[test]
    fn a_larger_successor_takes_the_place_of_several() {
        let mut world = world(2, &[("web", spec(1, 7, "1"), &[0, 1, 0, 1, 1, 0, 1]), ("other", spec(1, 1, "1"), &[0])]);
        outdate(&mut world, "web");
        let larger = app("web", spec(1, 7, "3"));
        world.apps.get_mut(&Key::new("default", "web")).expect("it is there").spec = Some(Arc::new(larger));
        let (plan, _) = decide(&world, Memory::default(), 100);
        let ended: Vec<_> = plan.stops.iter().map(|stop| (&*stop.task, &stop.why)).collect();
        assert_eq!(
            ended,
            [("web-1-7", &StopReason::Replaced), ("web-1-5", &StopReason::Replaced), ("web-1-4", &StopReason::Replaced)]
        );
        assert_eq!(plan.waits.iter().map(|wait| wait.agent).collect::<Vec<_>>(), [AgentIx(1)]);
    }

    #[test]
    fn floors_and_equals_are_safe() {
        let mut floor = spec(9, 3, "1");
        floor["minReplicas"] = json!(2);
        let plan = plan(1, &[("floor", floor, &[0; 3]), ("same", spec(1, 1, "1"), &[0]), ("top", spec(1, 3, "1"), &[])]);
        assert_eq!(victims(&plan), ["floor-0-3"]);
        let top = &plan.verdicts[&crate::api::validated::Key::new("default", "top")];
        assert_eq!((top.wanted, top.granted), (3, 1));
    }
}
