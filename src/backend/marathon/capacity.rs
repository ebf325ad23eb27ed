//! How much room there is: that of the agents as Mesos shows them, or so much as the pool's spec says.
//!
//! What our own apps use is known from their tasks, sooner than Mesos' pages are read again. So of these only what others use is taken:
//! all that is used there, without the tasks of our apps that the same page shows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::wire::app_of;
use crate::api::validated::RoomOf;
use crate::backend::mesos::agents::Agent as Page;
use crate::policy::resources::Resources;
use crate::policy::world::{Agent, AgentIx, TaskPhase, World};

/// What one replica uses where replicas are counted: one core, as it were.
const ONE: Resources = Resources { cpu: 1000, ..Resources::ZERO };

#[derive(Debug)]
pub struct Room {
    kind: RoomOf,
    by_id: HashMap<Arc<str>, AgentIx>,
    /// As last seen, by agent.
    pages: Vec<Seen>,
    /// Something has been seen, or nothing has to be.
    pub known: bool,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    total: Resources,
    used: Resources,
    /// Of what is used, by app.
    apps: BTreeMap<String, Resources>,
}

impl Room {
    pub fn new(kind: &RoomOf) -> Self {
        let known = !matches!(kind, RoomOf::Agents(_));
        Self { kind: kind.clone(), by_id: HashMap::new(), pages: Vec::new(), known }
    }

    /// Whether agents have to be asked for.
    pub fn is_of_agents(&self) -> bool {
        matches!(self.kind, RoomOf::Agents(_))
    }

    /// What counts of a replica's size.
    pub fn counted(&self, size: Resources) -> Resources {
        let only = |amount: i64, total: i64| if total > 0 { amount } else { 0 };
        match self.kind {
            RoomOf::Agents(_) => size,
            RoomOf::Instances(_) => ONE,
            RoomOf::Fixed(total) => Resources {
                cpu: only(size.cpu, total.cpu),
                memory: only(size.memory, total.memory),
                disk: only(size.disk, total.disk),
                gpu: only(size.gpu, total.gpu),
                ports: 0,
            },
        }
    }

    /// The agent's place in the world; all are one where room is only counted.
    pub fn agent(&mut self, world: &mut World, id: Option<&Arc<str>>, host: Option<&Arc<str>>) -> AgentIx {
        let whole: Arc<str> = "marathon".into();
        let id = id.filter(|_| self.is_of_agents()).unwrap_or(&whole);
        if let Some(ix) = self.by_id.get(id) {
            return *ix;
        }
        let ix = AgentIx(u32::try_from(world.agents.len()).unwrap_or(u32::MAX));
        let hostname = host.filter(|_| self.is_of_agents()).unwrap_or(id).clone();
        // One that no page has shown yet takes nothing new.
        let present = !self.is_of_agents();
        world.agents.push(Agent { id: id.clone(), hostname, present, ..Agent::default() });
        self.pages.push(Seen::default());
        self.by_id.insert(id.clone(), ix);
        ix
    }

    /// Takes over what the pages of Mesos show now.
    pub fn seen(&mut self, pages: Vec<Page>, world: &mut World) {
        world.agents.iter_mut().for_each(|agent| agent.present = false);
        for page in pages {
            let ix = self.agent(world, Some(&page.id), Some(&page.hostname)).0 as usize;
            let mut apps: BTreeMap<String, Resources> = BTreeMap::new();
            for (id, size) in &page.tasks {
                if let Some(app) = app_of(id) {
                    *apps.entry(app).or_default() += *size;
                }
            }
            let agent = &mut world.agents[ix];
            agent.present = page.active;
            agent.gpus = page.total.gpu > 0;
            (agent.hostname, agent.attributes) = (page.hostname, page.attributes);
            self.pages[ix] = Seen { total: page.total, used: page.used, apps };
        }
        self.known = true;
    }

    /// Puts into the world what is free: less than nothing where room is spoken for that has not come free yet.
    pub fn refresh(&mut self, world: &mut World, ours: &BTreeSet<&str>) {
        match self.kind {
            RoomOf::Agents(_) => {}
            RoomOf::Fixed(total) => self.whole(world, total),
            RoomOf::Instances(count) => self.whole(world, ONE * count),
        }
        for (agent, seen) in world.agents.iter_mut().zip(&self.pages) {
            let known: Resources = seen.apps.iter().filter(|(app, _)| ours.contains(app.as_str())).map(|(_, size)| *size).sum();
            agent.held = seen.total - seen.used.minus_floor(known);
        }
        let tasks = world.apps.values().flat_map(|view| &view.tasks).filter(|task| task.phase != TaskPhase::Unreachable);
        for task in tasks {
            if let Some(agent) = world.agents.get_mut(task.agent.0 as usize) {
                agent.held -= task.resources;
            }
        }
    }

    fn whole(&mut self, world: &mut World, total: Resources) {
        let ix = self.agent(world, None, None).0 as usize;
        self.pages[ix].total = total;
    }

    /// Whether Mesos itself shows room for one such replica anywhere. Where it is not asked, nobody knows, and there may be.
    pub fn may_have(&self, size: Resources, world: &World) -> bool {
        let mut shown = world.agents.iter().zip(&self.pages).filter(|(agent, _)| agent.present);
        !self.is_of_agents() || shown.any(|(_, seen)| size.fits(seen.total - seen.used))
    }

    /// Where a replica is expected of which nobody has said where.
    pub fn likeliest(&mut self, world: &mut World) -> AgentIx {
        let present = world.agents.iter().zip(0..).filter(|(agent, _)| agent.present);
        let most = present.max_by_key(|(agent, ix)| (agent.held.cpu, agent.held.memory, std::cmp::Reverse(*ix)));
        match most.map(|(_, ix)| AgentIx(ix)) {
            Some(ix) => ix,
            // All are away for the time being.
            None if !world.agents.is_empty() => AgentIx(0),
            None => self.agent(world, None, None),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::validated::Key;
    use crate::policy::world::{AppView, Task};

    fn task(agent: u32, phase: TaskPhase, resources: Resources) -> Task {
        let (id, version, executor) = ("t".into(), None, None);
        Task { id, agent: AgentIx(agent), version, phase, ready: true, since: 0, born: 0, resources, executor }
    }

    fn world_with(tasks: Vec<Task>) -> World {
        let mut world = World::default();
        world.apps.insert(Key::new("default", "web"), AppView { tasks, ..AppView::default() });
        world
    }

    #[test]
    fn what_others_use_is_theirs_and_what_we_use_is_known_sooner() {
        let mut room = Room::new(&RoomOf::Agents(vec!["http://m:5050".to_owned()]));
        assert!(!room.known);
        let one = Resources::new(1000, 64);
        let page = Page {
            id: "A".into(),
            total: Resources::new(8000, 1024),
            used: one * 4,
            active: true,
            tasks: vec![("web.instance-1._app.1".into(), one), ("other.instance-2._app.1".into(), one)],
            ..Page::default()
        };
        // Of ours, one is on the page; another has begun since.
        let mut world = world_with(vec![task(0, TaskPhase::Running, one), task(0, TaskPhase::Starting, one)]);
        room.seen(vec![page], &mut world);
        room.refresh(&mut world, &BTreeSet::from(["/web"]));
        assert_eq!((world.agents[0].held, world.agents[0].present), (Resources::new(3000, 704), true));
        assert!(room.may_have(one * 4, &world) && !room.may_have(one * 5, &world));
        room.seen(Vec::new(), &mut world);
        assert!(!world.agents[0].present, "it is gone");
    }

    #[test]
    fn room_that_has_to_come_free_is_less_than_none() {
        let one = Resources::new(1000, 64);
        let mut room = Room::new(&RoomOf::Fixed(Resources::new(2000, 0)));
        let counted = room.counted(one);
        assert_eq!(counted, Resources::new(1000, 0), "memory is not named, and so not counted");
        let phases = [TaskPhase::Running, TaskPhase::Stopping, TaskPhase::Starting];
        let mut world = world_with(phases.map(|phase| task(0, phase, counted)).to_vec());
        room.refresh(&mut world, &BTreeSet::new());
        assert_eq!(world.agents[0].held, Resources::new(-1000, 0));
    }

    #[test]
    fn replicas_can_be_counted_alone() {
        let mut room = Room::new(&RoomOf::Instances(3));
        let counted = room.counted(Resources::new(1, 100_000));
        let mut world = world_with(vec![task(0, TaskPhase::Running, counted)]);
        room.refresh(&mut world, &BTreeSet::new());
        assert_eq!(world.agents[0].held.holds(counted), 2);
    }
}
