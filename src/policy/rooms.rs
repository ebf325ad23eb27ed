//! The room of each agent during one decision: what is there, what comes free, and what of it is spoken for.

use super::ahead::Ahead;
use super::bases::{Bases, Missing};
use super::resources::Resources;
use super::standing;
use super::world::{Agent, AgentIx, AppView, BasePhase, Millis, Task, TaskPhase, World};
use crate::api::validated::{App, BaseKind};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Set aside for what is still to be put here before replicas start, one sum for each rank.
    aside: Vec<(Rank, Resources)>,
}

impl Room {
    /// The room that a replica of this rank may count on in the end. What is kept for a replica yields only to a more important one,
    /// and so does what is set aside.
    pub fn open(&self, rank: Rank) -> Resources {
        let kept = self.kept.iter().filter(|(keeper, _)| *keeper <= rank);
        kept.fold(self.soon, |room, (_, size)| room - *size) - self.aside(rank)
    }

    fn aside(&self, rank: Rank) -> Resources {
        self.aside.iter().filter(|(keeper, _)| *keeper <= rank).map(|(_, size)| *size).sum()
    }

    /// Whether a replica fits. Even what starts at once has to fit what is open in the end, or it would slip into another's room.
    pub fn fits(&self, size: Resources, level: Level, rank: Rank) -> bool {
        let is_there = |aside: Resources| match level {
            Level::Now => size.fits(self.now - aside),
            Level::Free => size.fits(self.free - aside),
            Level::Soon => true,
        };
        // Mostly nothing is spoken for, and this is asked more often than all else.
        if self.kept.is_empty() && self.aside.is_empty() {
            return is_there(Resources::ZERO) && size.fits(self.soon);
        }
        is_there(self.aside(rank)) && size.fits(self.open(rank))
    }

    /// Whether what is set aside is there by then: an executor may need what its replicas do not.
    fn holds_aside(&self, level: Level, rank: Rank) -> bool {
        self.aside(rank).fits(match level {
            Level::Now => self.now,
            Level::Free => self.free,
            Level::Soon => self.soon,
        })
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

    fn set_aside(&mut self, rank: Rank, size: Resources) {
        match self.aside.iter_mut().find(|(keeper, _)| *keeper == rank) {
            Some((_, sum)) => *sum += size,
            None => self.aside.push((rank, size)),
        }
    }

    fn use_aside(&mut self, rank: Rank, size: Resources) {
        self.set_aside(rank, size * -1);
        self.aside.retain(|(_, sum)| !sum.is_zero());
    }
}

/// The room of a pool during one decision.
pub(super) struct Rooms<'a> {
    pub agents: &'a [Agent],
    /// What replicas build on, and what of it is still to be put on agents.
    pub bases: Bases<'a>,
    pub now: Millis,
    /// What an executor uses by itself.
    executor: Resources,
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
    pub grown: Vec<AgentIx>,
    /// Agents on which a task should have ended by now and has not: none is ended there to make room.
    pub stuck: Vec<AgentIx>,
    /// When the next task should have ended.
    pub overdue_at: Option<Millis>,
}

impl<'a> Rooms<'a> {
    pub fn of(world: &'a World, bases: Bases<'a>, now: Millis) -> Self {
        let mut rooms: Vec<Room> = world.agents.iter().map(Room::of).collect();
        let mut sizes: Vec<Resources> = rooms.iter().map(|room| room.free).collect();
        let mut limits = Room { now: world.limits, free: world.limits, soon: world.limits, ..Room::default() };
        count_bases(world, &mut rooms, &mut sizes, &mut limits, now);
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
            if !world.is_open(task.agent) {
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
        let open = world.agents.iter().zip(0..).filter(|(agent, _)| agent.is_open()).map(|(_, ix)| AgentIx(ix));
        let mut order: Vec<AgentIx> = open.collect();
        order.sort_by_cached_key(|ix| (share(rooms[ix.0 as usize].soon, total), *ix));
        stuck.sort_unstable();
        stuck.dedup();
        let (agents, by_agent, executor, grown) = (&*world.agents, rooms, world.executor_size, Vec::new());
        let mut rooms = Self {
            agents,
            bases,
            now,
            executor,
            by_agent,
            limits,
            spare,
            total,
            largest,
            sizes,
            order,
            grown,
            stuck,
            overdue_at,
        };
        rooms.sift(world);
        rooms
    }

    /// Tells apart what goes to agents ahead of need, the most important first, what only replicas bring along, and what cannot go.
    fn sift(&mut self, world: &World) {
        if self.bases.missing.is_empty() {
            return;
        }
        let mut ahead = Ahead::of(world, &self.sizes);
        for missing in std::mem::take(&mut self.bases.missing) {
            let (agent, size) = (missing.agent, self.bases.size(missing.group));
            if !size.fits(self.sizes[agent.0 as usize]) {
                self.bases.give_up(&missing);
            } else if missing.awaited || ahead.admits(agent, size) {
                self.bases.missing.push(missing);
            } else {
                self.bases.leave_to_replicas(&missing);
            }
        }
    }

    /// From now on, nothing slips into the room of what is still to be put on agents. Minimums come before that: they leave room only
    /// for what they need themselves.
    pub fn set_all_aside(&mut self) {
        if std::mem::replace(&mut self.bases.aside, true) {
            return;
        }
        let mut all = std::mem::take(&mut self.bases.missing);
        all.retain(|missing| self.bases.is_owed(missing));
        all.iter().for_each(|missing| self.set_aside(missing));
        self.bases.missing = all;
    }

    pub fn set_aside(&mut self, missing: &Missing) {
        let size = self.bases.size(missing.group);
        self.by_agent[missing.agent.0 as usize].set_aside(missing.rank, size);
        self.limits.set_aside(missing.rank, size);
    }

    /// What was set aside is going to be taken.
    pub fn use_aside(&mut self, missing: &Missing) {
        let size = self.bases.size(missing.group);
        self.by_agent[missing.agent.0 as usize].use_aside(missing.rank, size);
        self.limits.use_aside(missing.rank, size);
    }

    pub fn at(&self, agent: AgentIx) -> &Room {
        &self.by_agent[agent.0 as usize]
    }

    /// Whether the replica fits both the agent and the limits.
    pub fn fits(&self, agent: AgentIx, size: Resources, level: Level, rank: Rank) -> bool {
        self.at(agent).fits(size, level, rank) && self.limits.fits(size, level, rank)
    }

    /// Whether a replica of this app fits the agent, and has what it builds on by then. The pool's limits are another matter.
    pub fn takes(&self, app: &App, agent: AgentIx, level: Level, rank: Rank) -> bool {
        let (room, need) = (self.at(agent), self.need(app, agent));
        room.fits(need, level, rank)
            && (need == app.size || self.limits.fits(need, level, rank))
            && self.bases.opens(app, agent, level)
            && (room.aside.is_empty() || !self.bases.lacks(app, agent) || room.holds_aside(level, rank))
    }

    /// What a replica of this app needs there, with the executor that it has to bring along.
    pub fn need(&self, app: &App, agent: AgentIx) -> Resources {
        app.size + self.bases.besides(app, agent)
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
        if self.agents.get(agent.0 as usize).is_some_and(Agent::is_open) {
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

    /// What the agent has altogether, used or not.
    pub fn size(&self, agent: AgentIx) -> Resources {
        self.sizes[agent.0 as usize]
    }

    /// Whether an agent may have room for this in the end. If not, none has.
    pub fn may_fit(&self, size: Resources) -> bool {
        size.fits(self.largest)
    }

    /// Whether the agent is large enough for this, and for the executor of its own that a replica may need besides.
    pub fn is_large_enough(&self, agent: AgentIx, size: Resources, executor: Option<Resources>) -> bool {
        (size + executor.unwrap_or_default()).fits(self.sizes[agent.0 as usize])
    }

    /// What the executor of a replica of this app uses, if it runs in one.
    pub fn executor_of(&self, app: &App) -> Option<Resources> {
        app.base.as_ref().is_some_and(|base| base.kind == BaseKind::Executor).then_some(self.executor)
    }

    /// Agents on which something may be placed, those with least room first.
    pub fn open(&self) -> impl Iterator<Item = AgentIx> {
        self.order.iter().copied()
    }
}

impl Room {
    fn of(agent: &Agent) -> Self {
        if !agent.is_open() {
            return Self::default();
        }
        let free = agent.held + agent.expected;
        Self { now: agent.held, free, soon: free, ..Self::default() }
    }
}

/// A dominant share in thousand-millionths, so that shares compare exactly.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn share(part: Resources, total: Resources) -> u64 {
    (part.dominant_share(total) * 1e9) as u64
}

/// When a task that was told to end should have ended: its app's grace period, and some time for the messages.
fn ends_by(view: &AppView, task: &Task) -> Millis {
    let grace = view.spec.as_ref().map(|app| app.template.grace_period_milliseconds);
    let grace_ms = grace.map_or(UNKNOWN_GRACE_MS, |ms| u64::try_from(ms).unwrap_or(0));
    task.since.saturating_add(grace_ms).saturating_add(LATE_MS)
}

/// Executors, and images on their way, use room beside the tasks: the agent is larger by it, and the pool's limits hold it, too.
fn count_bases(world: &World, rooms: &mut [Room], sizes: &mut [Resources], limits: &mut Room, now: Millis) {
    for (ix, agent) in world.agents.iter().enumerate().filter(|(_, agent)| agent.present) {
        for fitted in &agent.bases {
            let used = standing::used(fitted, world);
            if used.is_zero() {
                continue;
            }
            limits.now -= used;
            limits.free -= used;
            let ends_by = fitted.since.saturating_add(UNKNOWN_GRACE_MS).saturating_add(LATE_MS);
            let is_coming = fitted.phase == BasePhase::Leaving && ends_by > now;
            if !is_coming {
                limits.soon -= used;
            }
            if agent.is_open() {
                sizes[ix] += used;
                rooms[ix].soon += if is_coming { used } else { Resources::ZERO };
            }
        }
    }
}
