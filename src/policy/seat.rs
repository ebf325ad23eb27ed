//! What one app gets in a decision, counted as it is handed out.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::claim::{Claim, is_live, is_ready};
use super::place::Seeker;
use super::plan::Reason;
use super::preempt::Hunt;
use super::rollout;
use super::rooms::{Level, Rank, Rooms, share};
use super::sparing::Withheld;
use super::world::{AgentIx, TaskPhase};

/// What an app gets in this decision.
pub(super) struct Seat<'a> {
    pub claim: &'a Claim<'a>,
    /// Nothing of it starts, ends or gives way.
    pub frozen: bool,
    /// Starting and running replicas that stay.
    pub kept: i64,
    /// Of these, the ones that others are to succeed.
    pub outgoing: i64,
    /// Of these in turn, the ones on agents that are about to go.
    pub displaced: i64,
    pub starts: i64,
    pub waits: i64,
    /// Room kept for the next try of a template that fails.
    pub reserved: i64,
    /// Of the waits, those in the place of an old replica of its own.
    pub in_place: i64,
    /// Others could give way, and yet they do not.
    pub withheld: Option<Withheld>,
    /// Replicas that have to give way by this decision.
    pub taken: usize,
    /// Ready replicas that end by it.
    pub ready_ends: i64,
    /// A rollout would go on if more of its replicas might be unready at a time.
    pub over_budget: bool,
    /// Why it got no more.
    pub short: Option<Short>,
    /// Tasks that end, by their place in the claim; empty until the first one does.
    pub ends: Vec<bool>,
    /// Where it waited for room before, and as what.
    pub turns: VecDeque<(AgentIx, Rank)>,
    pub seeker: Option<Seeker<'a>>,
    pub hunt: Option<Hunt>,
    /// Dominant share of one replica, in thousand-millionths.
    pub share: u64,
    pub queued: bool,
}

/// Why an app got no more.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Short {
    Room,
    /// Others could be made to give way, but not now.
    Withheld(Withheld),
    Limits,
    /// Spare room is kept as headroom.
    Headroom,
    /// No agent could ever take it.
    Hopeless(Reason),
}

/// The three claims on room, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Band {
    Floor,
    Want,
    Remainder,
}

/// An app's place in the order of service: by band, priority and weighted share; the app's index decides what is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub band: Band,
    rank: Rank,
    share: u64,
    pub app: usize,
}

impl<'a> Seat<'a> {
    pub fn new(claim: &'a Claim<'a>, frozen: bool, rooms: &Rooms) -> Self {
        Self {
            claim,
            frozen,
            kept: claim.tally.live(),
            outgoing: claim.tally.outgoing,
            displaced: claim.tally.displaced,
            starts: 0,
            waits: 0,
            reserved: 0,
            in_place: 0,
            withheld: None,
            taken: 0,
            ready_ends: 0,
            over_budget: false,
            short: None,
            ends: Vec::new(),
            turns: VecDeque::new(),
            seeker: None,
            hunt: None,
            share: share(claim.app.size, rooms.total).max(1),
            queued: false,
        }
    }

    /// Finds the best agent with room at this level.
    pub fn find(&mut self, rooms: &Rooms<'a>, level: Level, rank: Rank) -> Option<AgentIx> {
        let size = self.claim.app.size;
        let worth_it = rooms.may_fit(size) && rooms.limits.fits(size, level, rank);
        worth_it.then(|| self.seeker(rooms).find(rooms, level, rank)).flatten()
    }

    /// Made when it is first needed, which in a full pool is seldom.
    pub fn seeker(&mut self, rooms: &Rooms<'a>) -> &mut Seeker<'a> {
        let Self { claim, seeker, ends, .. } = self;
        let stays = |task: u32| !ends.get(task as usize).copied().unwrap_or(false);
        seeker.get_or_insert_with(|| Seeker::new(claim, rooms, stays))
    }

    /// Whether it has all that it is to have, and this decision changes nothing about it.
    pub fn is_at_rest(&self) -> bool {
        let tally = self.claim.tally;
        self.placed() == 0 && self.kept == tally.live() && self.outgoing == tally.outgoing && self.short.is_none()
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

    /// Whether so many more that are ready may end while it is not urgent, by its `maxUnavailable`. What it lives on spare room with is
    /// counted as it is; otherwise what is wanted has to be ready.
    pub fn may_disrupt(&self, ready: usize) -> bool {
        let Claim { app, tally, want, .. } = self.claim;
        let Some(most) = app.protection.max_unavailable else { return true };
        let expected = if app.remainder.is_some() { (tally.live() + tally.stopping).min(app.max) } else { *want };
        let unready = (expected - tally.ready + self.ready_ends).max(0);
        unready.saturating_add_unsigned(ready as u64) <= most.of(expected)
    }

    /// How many replicas beyond its ceiling it may have for now.
    pub fn surge(&self) -> i64 {
        rollout::surge(self.claim.app, self.outgoing, self.displaced)
    }

    /// Tasks in the order in which they are given up: those with successors to come first, then what does not serve yet, then the youngest.
    pub fn in_order_of_leaving(&self) -> Vec<usize> {
        let Claim { tasks, .. } = self.claim;
        let stays = |at: &usize| is_live(&tasks[*at]) && !self.ends.get(*at).copied().unwrap_or(false);
        let mut order: Vec<usize> = (0..tasks.len()).filter(stays).collect();
        order.sort_by_key(|at| {
            let task = &tasks[*at];
            (!self.claim.is_outgoing(task), task.phase == TaskPhase::Running, is_ready(task), Reverse(task.born), Reverse(*at))
        });
        order
    }

    /// Replicas that are missing up to the end of this band.
    pub fn missing(&self, band: Band) -> i64 {
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
        // Spare room gives successors to old templates, but what is wanted must not be without a host.
        if band == Band::Want && app.remainder.is_some() {
            return self.lacking();
        }
        if self.outgoing == 0 {
            return up_to - self.count();
        }
        // What goes does not count for good: each has a successor, though only so many at a time beyond what is wanted.
        let successors = up_to - (self.kept - self.outgoing) - self.placed();
        successors.min(up_to.saturating_add(self.surge()) - self.count())
    }

    /// Replicas that demand asks for and that it has not, or only where they cannot stay.
    pub fn lacking(&self) -> i64 {
        self.claim.want + self.displaced - self.count()
    }

    pub fn rank(&self, band: Band) -> Rank {
        if band == Band::Remainder { Rank::REMAINDER } else { Rank::of(self.claim.app.priority) }
    }

    pub fn turn(&self, band: Band, app: usize) -> Turn {
        let spec = self.claim.app;
        let weight = if band == Band::Remainder { spec.remainder.unwrap_or(1) } else { spec.weight };
        let held = self.share.saturating_mul(self.count().max(0).unsigned_abs());
        let share = held.saturating_mul(1000) / weight.max(1).unsigned_abs();
        Turn { band, rank: self.rank(band), share, app }
    }
}
