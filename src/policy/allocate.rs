//! Who gets the room: floors first, then wants by priority and fairly inside one priority, then spare room by weight.
//!
//! Fairness is weighted max-min by dominant share (Ghodsi et al., DRF, NSDI 2011): the next replica goes to the app with the smallest.
//! Everything is served in this one order, and whatever is served subtracts its room, so that nobody slips into another's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::claim::{Claim, is_live, is_ready};
use super::offers;
use super::place::{LEVELS, Level, Rank, Rooms, Seeker, share};
use super::plan::{Plan, Reason, Start, Stop, StopReason, Wait};
use super::preempt::{Candidate, Hunt, Victims, freed, freed_on, prune};
use super::resources::Resources;
use super::rollout;
use super::world::{AgentIx, Millis, TaskPhase, World};

/// What an app gets in this decision.
pub(super) struct Seat<'a> {
    pub claim: &'a Claim<'a>,
    /// Nothing of it starts, ends or gives way.
    pub frozen: bool,
    /// Starting and running replicas that stay.
    pub kept: i64,
    /// Of these, from an old template.
    pub old: i64,
    pub starts: i64,
    pub waits: i64,
    /// Room kept for the next try of a template that fails.
    pub reserved: i64,
    /// Of the waits, those in the place of an old replica of its own.
    pub in_place: i64,
    /// Why it got no more.
    pub short: Option<Short>,
    /// Tasks that end, by their place in the claim; empty until the first one does.
    ends: Vec<bool>,
    /// Where it waited for room before, and as what.
    turns: VecDeque<(AgentIx, Rank)>,
    seeker: Option<Seeker<'a>>,
    hunt: Option<Hunt>,
    /// Dominant share of one replica, in thousand-millionths.
    share: u64,
    queued: bool,
}

/// Why an app got no more.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Short {
    Room,
    Limits,
    /// Spare room is kept as headroom.
    Headroom,
    /// No agent could ever take it.
    Hopeless(Reason),
}

/// The three claims on room, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Band {
    Floor,
    Want,
    Remainder,
}

/// An app's place in the order of service: by band, priority and share; the app's index decides what is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    band: Band,
    rank: Rank,
    share: u64,
    app: usize,
}

impl<'a> Seat<'a> {
    fn new(claim: &'a Claim<'a>, frozen: bool, rooms: &Rooms) -> Self {
        Self {
            claim,
            frozen,
            kept: claim.tally.live(),
            old: claim.tally.old,
            starts: 0,
            waits: 0,
            reserved: 0,
            in_place: 0,
            short: None,
            ends: Vec::new(),
            turns: VecDeque::new(),
            seeker: None,
            hunt: None,
            share: share(claim.app.size, rooms.total).max(1),
            queued: false,
        }
    }

    /// Replicas that this decision adds.
    pub fn placed(&self) -> i64 {
        self.starts + self.waits + self.reserved
    }

    /// All replicas that it has or will have; those that cannot be reached count while they are waited for.
    pub fn count(&self) -> i64 {
        self.kept + self.placed() + self.claim.tally.awaited
    }

    pub fn ends(&self, task: u32) -> bool {
        self.ends.get(task as usize).copied().unwrap_or(false)
    }

    /// Whether it lacks replicas that demand asks for.
    pub fn is_below_want(&self) -> bool {
        !self.frozen && self.count() < self.claim.want
    }

    /// Whether one more replica of this rank may be taken away, besides some that already are.
    pub fn may_lose(&self, rank: Rank, already: usize) -> bool {
        let left = self.kept - i64::try_from(already).unwrap_or(i64::MAX);
        let keeps = if rank == Rank::REMAINDER { self.claim.want } else { self.claim.floor() };
        let has = rank != Rank::REMAINDER || self.claim.app.remainder.is_some();
        !self.frozen && has && left > keeps
    }

    /// Tasks in the order in which they are given up: old templates first, then what does not serve yet, then the youngest.
    pub fn in_order_of_leaving(&self) -> Vec<usize> {
        let Claim { tasks, app, .. } = self.claim;
        let stays = |at: &usize| is_live(&tasks[*at]) && !self.ends.get(*at).copied().unwrap_or(false);
        let mut order: Vec<usize> = (0..tasks.len()).filter(stays).collect();
        order.sort_by_key(|at| {
            let task = &tasks[*at];
            (!rollout::is_old(task, app), task.phase == TaskPhase::Running, is_ready(task), Reverse(task.born), Reverse(*at))
        });
        order
    }

    /// Replicas that are missing up to the end of this band.
    fn missing(&self, band: Band) -> i64 {
        let Claim { app, want, .. } = self.claim;
        if self.frozen {
            return 0;
        }
        let up_to = match band {
            Band::Floor => return self.claim.floor() - self.count(),
            Band::Want => *want,
            Band::Remainder if app.remainder.is_some() => app.max,
            Band::Remainder => return 0,
        };
        let is_last = band == Band::Remainder || app.remainder.is_none();
        if self.old == 0 || !is_last {
            return up_to - self.count();
        }
        // Old replicas do not count for good: each has a successor, though only so many at a time beyond what is wanted.
        let successors = up_to - (self.kept - self.old) - self.placed();
        successors.min(up_to.saturating_add(app.max_surge) - self.count())
    }

    fn rank(&self, band: Band) -> Rank {
        if band == Band::Remainder { Rank::REMAINDER } else { Rank::of(self.claim.app.priority) }
    }

    fn turn(&self, band: Band, app: usize) -> Turn {
        let held = self.share.saturating_mul(self.count().max(0).unsigned_abs());
        match band {
            Band::Remainder => {
                let weight = self.claim.app.remainder.unwrap_or(1).max(1).unsigned_abs();
                Turn { band, rank: Rank::REMAINDER, share: held.saturating_mul(1000) / weight, app }
            }
            _ => Turn { band, rank: self.rank(band), share: held, app },
        }
    }
}

/// One decision in the making.
pub(super) struct Allocation<'a> {
    world: &'a World,
    now: Millis,
    pub seats: Vec<Seat<'a>>,
    rooms: Rooms<'a>,
    victims: Option<Victims>,
    queue: BinaryHeap<Reverse<Turn>>,
    starts: Vec<Start>,
    waits: Vec<Wait>,
    stops: Vec<Stop>,
}

/// Hands out the room of the pool. `frozen` tells which apps are not to be touched.
pub(super) fn allocate<'a>(
    world: &'a World,
    claims: &'a [Claim<'a>],
    frozen: impl Fn(&Claim) -> bool,
    now: Millis,
) -> Allocation<'a> {
    let rooms = Rooms::of(world);
    let seats = claims.iter().map(|claim| Seat::new(claim, frozen(claim), &rooms)).collect();
    let (queue, victims) = (BinaryHeap::new(), None);
    let mut all =
        Allocation { world, now, seats, rooms, victims, queue, starts: Vec::new(), waits: Vec::new(), stops: Vec::new() };
    all.end_orphans();
    all.end_surplus();
    all.keep_turns();
    all.keep_within_limits();
    all.serve(Band::Floor);
    all.restore_headroom();
    all.serve(Band::Remainder);
    all
}

impl<'a> Allocation<'a> {
    /// The plan, still without verdicts, and what each app got.
    pub fn plan(self) -> (Plan, Vec<Seat<'a>>) {
        let Self { starts, waits, stops, .. } = self;
        let mut plan = Plan { starts, waits, stops, ..Plan::default() };
        offers::settle(&mut plan, &self.rooms, &self.seats, self.world.headroom);
        (plan, self.seats)
    }

    /// Tasks of apps that were deleted end.
    fn end_orphans(&mut self) {
        for (key, view) in self.world.apps.iter().filter(|(_, view)| self.world.end_orphans && view.spec.is_none()) {
            for task in view.tasks.iter().filter(|task| is_live(task)) {
                self.rooms.give(task.agent, task.resources);
                self.stops.push(Stop { app: key.clone(), task: Arc::clone(&task.id), why: StopReason::Deleted });
            }
        }
    }

    /// What is no longer wanted ends, and old templates whose successors serve.
    fn end_surplus(&mut self) {
        for app in 0..self.seats.len() {
            let seat = &self.seats[app];
            if seat.frozen {
                continue;
            }
            let surplus = seat.kept - seat.claim.ceiling().saturating_add(rollout::surge(seat));
            if surplus > 0 {
                let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
                for task in seat.in_order_of_leaving().into_iter().take(surplus) {
                    self.end(app, task, StopReason::ScaledDown);
                }
            }
            if self.seats[app].old > 0 {
                for task in rollout::done_with(&self.seats[app]) {
                    self.end(app, task, StopReason::Replaced);
                }
            }
        }
    }

    /// Replicas that waited for room keep their turn there, as many as are still missing.
    fn keep_turns(&mut self) {
        for seat in self.seats.iter_mut().filter(|seat| !seat.claim.waited.is_empty() && seat.claim.retry_at.is_none()) {
            let wanted = seat.missing(Band::Want).max(0);
            let all = wanted.max(seat.missing(Band::Remainder));
            for (agent, nth) in seat.claim.waited.iter().zip(0..all) {
                let rank = seat.rank(if nth < wanted { Band::Want } else { Band::Remainder });
                if self.world.agents.get(agent.0 as usize).is_some_and(|agent| agent.present) {
                    self.rooms.keep(*agent, rank, seat.claim.app.size);
                    seat.turns.push_back((*agent, rank));
                }
            }
        }
    }

    /// If the pool's limits were lowered below what runs, the least important replicas end.
    fn keep_within_limits(&mut self) {
        let over = Resources::ZERO.minus_floor(self.rooms.limits.open(Rank::FIRST));
        if !over.is_zero() {
            self.end_some(Rank::FIRST, over, Resources::ZERO, &StopReason::OverLimits);
        }
    }

    /// If wants have used the headroom, spare replicas end.
    fn restore_headroom(&mut self) {
        let (headroom, spare) = (self.world.headroom, self.rooms.spare);
        if !headroom.fits(spare) {
            // Everything wanted ranks before this.
            self.end_some(Rank(Rank::REMAINDER.0 - 1), headroom, spare, &StopReason::Headroom);
        }
    }

    /// Ends replicas less important than `winner` until there is as much room as needed, or as near to it as can be.
    fn end_some(&mut self, winner: Rank, need: Resources, room: Resources, why: &StopReason) {
        let mut chosen = Vec::new();
        let victims = self.victims.get_or_insert_with(|| Victims::of(&self.seats, &self.rooms, self.now));
        if victims.anywhere(&self.seats, winner, need, room, &mut chosen) {
            prune(&mut chosen, |left| need.fits(room + freed(left)));
        }
        for victim in chosen {
            self.end(victim.app as usize, victim.task as usize, why.clone());
        }
    }

    fn end(&mut self, app: usize, task: usize, why: StopReason) {
        let seat = &mut self.seats[app];
        let Claim { key, tasks, app: spec, .. } = seat.claim;
        seat.ends.resize(tasks.len(), false);
        seat.ends[task] = true;
        seat.kept -= 1;
        seat.old -= i64::from(rollout::is_old(&tasks[task], spec));
        self.rooms.give(tasks[task].agent, tasks[task].resources);
        self.stops.push(Stop { app: (*key).clone(), task: Arc::clone(&tasks[task].id), why });
    }

    /// Serves everything from this band on (wants come with floors), one replica at a time, in the one order.
    fn serve(&mut self, first: Band) {
        for app in 0..self.seats.len() {
            self.enqueue(app, first);
        }
        while let Some(Reverse(Turn { band, app, .. })) = self.queue.pop() {
            self.seats[app].queued = false;
            if self.seats[app].missing(band) > 0 {
                self.seats[app].short = self.place_one(app, band).err();
            }
            self.enqueue(app, band);
        }
        for app in 0..self.seats.len() {
            self.leave_turns(app);
        }
    }

    /// Queues the app for its next missing replica, in this band or the one after it.
    fn enqueue(&mut self, app: usize, first: Band) {
        let seat = &mut self.seats[app];
        if seat.queued || seat.short.is_some() {
            return;
        }
        let bands: &[Band] = if first == Band::Remainder { &[Band::Remainder] } else { &[Band::Floor, Band::Want] };
        if let Some(band) = bands.iter().find(|band| seat.missing(**band) > 0) {
            seat.queued = true;
            self.queue.push(Reverse(seat.turn(*band, app)));
        }
    }

    fn place_one(&mut self, app: usize, band: Band) -> Result<(), Short> {
        let seat = &mut self.seats[app];
        let rank = seat.rank(band);
        if seat.seeker.is_none() {
            seat.seeker = Some(Seeker::new(seat.claim, &self.rooms, |task| !seat.ends(task)));
        }
        if band == Band::Remainder && !self.world.headroom.fits(self.rooms.spare - seat.claim.app.size) {
            self.leave_turns(app);
            return Err(Short::Headroom);
        }
        if self.seats[app].claim.retry_at.is_some() {
            return self.reserve(app, rank);
        }
        let placed =
            self.resume(app, rank) || self.settle(app, rank) || self.take_room(app, rank) || self.replace_in_place(app, rank);
        if placed { Ok(()) } else { Err(self.why_short(app, rank)) }
    }

    /// Keeps the room of a replica that must not start yet, so that its next try need not drive others out again.
    fn reserve(&mut self, app: usize, rank: Rank) -> Result<(), Short> {
        let seat = &mut self.seats[app];
        let Some(agent) = seat.seeker.as_mut().and_then(|seeker| seeker.find(&self.rooms, Level::Soon, rank)) else {
            return Err(self.why_short(app, rank));
        };
        seat.reserved += 1;
        self.rooms.take(agent, seat.claim.app.size, Level::Soon);
        Ok(())
    }

    /// Takes the turn where it waited before, unless it can start somewhere at once.
    fn resume(&mut self, app: usize, rank: Rank) -> bool {
        let seat = &mut self.seats[app];
        let Some(seeker) = &mut seat.seeker else { return false };
        let size = seat.claim.app.size;
        while let Some((agent, kept_as)) = seat.turns.pop_front() {
            self.rooms.let_go(agent, kept_as, size);
            let found = if !seeker.allows(&self.rooms, agent) {
                None
            } else if self.rooms.fits(agent, size, Level::Now, rank) {
                Some((agent, Level::Now))
            } else if let Some(other) = seeker.find(&self.rooms, Level::Now, rank) {
                Some((other, Level::Now))
            } else {
                LEVELS.into_iter().find(|level| self.rooms.fits(agent, size, *level, rank)).map(|level| (agent, level))
            };
            if let Some((agent, level)) = found {
                self.place(app, agent, level);
                return true;
            }
        }
        false
    }

    /// Finds room that is there or comes free anyway.
    fn settle(&mut self, app: usize, rank: Rank) -> bool {
        let Some(seeker) = &mut self.seats[app].seeker else { return false };
        let found = LEVELS.into_iter().find_map(|level| Some((seeker.find(&self.rooms, level, rank)?, level)));
        if let Some((agent, level)) = found {
            self.place(app, agent, level);
        }
        found.is_some()
    }

    /// Takes room from less important replicas, if that helps.
    fn take_room(&mut self, app: usize, rank: Rank) -> bool {
        if rank == Rank::REMAINDER {
            return false;
        }
        let Some((agent, victims)) = self.choose_victims(app, rank) else { return false };
        self.make_way(app, agent, victims);
        true
    }

    /// The agent to take and the victims there; where the pool's limits stand in the way, victims anywhere besides.
    fn choose_victims(&mut self, app: usize, rank: Rank) -> Option<(AgentIx, Vec<Candidate>)> {
        let size = self.seats[app].claim.app.size;
        let victims = self.victims.get_or_insert_with(|| Victims::of(&self.seats, &self.rooms, self.now));
        let seeker = self.seats[app].seeker.as_mut()?;
        let (agent, mut chosen) = if let Some(agent) = seeker.find_within_agents(&self.rooms, Level::Soon, rank) {
            (agent, Vec::new())
        } else {
            let mut hunt = self.seats[app].hunt.take().or_else(|| Some(Hunt::over(self.seats[app].seeker.as_ref()?.agents())))?;
            let best = hunt.best(victims, &self.seats, &self.rooms, rank, size);
            self.seats[app].hunt = Some(hunt);
            best?
        };
        let (room, limits) = (self.rooms.at(agent).open(rank), self.rooms.limits.open(rank));
        if !size.fits(limits + freed(&chosen)) {
            if !victims.anywhere(&self.seats, rank, size, limits, &mut chosen) {
                return None;
            }
            chosen.sort_unstable();
            prune(&mut chosen, |left| size.fits(room + freed_on(left, agent)) && size.fits(limits + freed(left)));
        }
        Some((agent, chosen))
    }

    fn make_way(&mut self, app: usize, agent: AgentIx, victims: Vec<Candidate>) {
        let winner = self.seats[app].claim.key;
        for victim in victims {
            let loser = victim.app as usize;
            self.end(loser, victim.task as usize, StopReason::GivesWayTo(winner.clone()));
            // It may find room elsewhere when its turn comes.
            if victim.rank() != Rank::REMAINDER {
                self.enqueue(loser, Band::Want);
            }
        }
        self.place(app, agent, Level::Soon);
    }

    /// Lets one of the app's own old replicas end so that a new one can have its place.
    fn replace_in_place(&mut self, app: usize, rank: Rank) -> bool {
        let seat = &self.seats[app];
        if !rollout::may_go_first(seat) {
            return false;
        }
        let Some(seeker) = &seat.seeker else { return false };
        let size = seat.claim.app.size;
        let makes_room = |at: &usize| {
            let task = &seat.claim.tasks[*at];
            rollout::is_old(task, seat.claim.app)
                && seeker.allows(&self.rooms, task.agent)
                && size.fits(self.rooms.at(task.agent).open(rank) + task.resources)
                && size.fits(self.rooms.limits.open(rank) + task.resources)
        };
        let Some(task) = seat.in_order_of_leaving().into_iter().find(makes_room) else { return false };
        let agent = seat.claim.tasks[task].agent;
        self.end(app, task, StopReason::Replaced);
        self.seats[app].in_place += 1;
        self.place(app, agent, Level::Soon);
        true
    }

    fn place(&mut self, app: usize, agent: AgentIx, level: Level) {
        let seat = &mut self.seats[app];
        self.rooms.take(agent, seat.claim.app.size, level);
        if let Some(seeker) = &mut seat.seeker {
            seeker.placed(&self.rooms, agent);
        }
        let app = seat.claim.key.clone();
        if level == Level::Now {
            seat.starts += 1;
            self.starts.push(Start { app, agent });
        } else {
            seat.waits += 1;
            self.waits.push(Wait { app, agent, free: level == Level::Free });
        }
    }

    fn leave_turns(&mut self, app: usize) {
        let seat = &mut self.seats[app];
        if seat.short.is_some() || seat.missing(Band::Remainder) <= 0 {
            for (agent, rank) in std::mem::take(&mut seat.turns) {
                self.rooms.let_go(agent, rank, seat.claim.app.size);
            }
        }
    }

    fn why_short(&self, app: usize, rank: Rank) -> Short {
        let seat = &self.seats[app];
        if let Some(reason) = seat.seeker.as_ref().and_then(|seeker| seeker.hopeless(&self.rooms)) {
            Short::Hopeless(reason)
        } else if !self.rooms.limits.fits(seat.claim.app.size, Level::Soon, rank) {
            Short::Limits
        } else {
            Short::Room
        }
    }
}
