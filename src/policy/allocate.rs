//! Who gets the room: floors first, then wants by priority and fairly inside one priority, then spare room by weight.
//!
//! Fairness is weighted max-min by dominant share (Ghodsi et al., DRF, NSDI 2011): the next replica goes to the app with the smallest.
//! Everything is served in this one order, and whatever is served subtracts its room, so that nobody slips into another's.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::bases::Bases;
use super::budget::Tokens;
use super::claim::{Claim, is_live, is_ready};
use super::offers;
use super::plan::{Plan, Stop, StopReason};
use super::preempt::{Victims, freed, prune};
use super::resources::Resources;
use super::rollout;
use super::rooms::{Level, Rank, Rooms};
use super::seat::{Band, Seat, Turn};
use super::sparing::{Strength, Winner};
use super::world::{AgentIx, AppView, Millis, World};
use crate::api::validated::Key;

/// One decision in the making.
pub(super) struct Allocation<'a> {
    pub world: &'a World,
    pub now: Millis,
    pub seats: Vec<Seat<'a>>,
    pub rooms: Rooms<'a>,
    /// Made when the first room has to be taken.
    pub victims: Option<Victims>,
    /// How many replicas may have to give way, if there is a limit, and how many have to already.
    pub tokens: Option<Tokens>,
    pub taken: usize,
    queue: BinaryHeap<Reverse<Turn>>,
    /// When more can be done although nothing happens.
    pub wake_at: Option<Millis>,
    /// Starts, waits and stops, in the order in which they were settled.
    pub plan: Plan,
}

/// Hands out the room of the pool. `frozen` tells which apps are not to be touched.
pub(super) fn allocate<'a>(
    world: &'a World,
    claims: &'a [Claim<'a>],
    tokens: Option<Tokens>,
    frozen: impl Fn(&Claim) -> bool,
    now: Millis,
) -> Allocation<'a> {
    // An app that is merely observed wants nothing put anywhere, except in the rehearsal of what it would get.
    let bases = Bases::of(world, claims, |claim| !claim.app.observed_only || !frozen(claim), now);
    let rooms = Rooms::of(world, bases, now);
    let seats = claims.iter().map(|claim| Seat::new(claim, frozen(claim), &rooms)).collect();
    let (queue, plan) = (BinaryHeap::new(), Plan::default());
    let mut all = Allocation { world, now, seats, rooms, victims: None, tokens, taken: 0, queue, wake_at: None, plan };
    all.end_orphans();
    all.end_surplus();
    all.keep_turns();
    all.keep_within_limits();
    all.serve(Band::Floor);
    all.put_bases();
    all.restore_headroom();
    all.serve(Band::Remainder);
    all
}

impl<'a> Allocation<'a> {
    /// The plan, still without verdicts, and what each app got.
    pub fn finish(mut self) -> (Plan, Vec<Seat<'a>>) {
        self.leave_out_what_comes_along();
        offers::settle(&mut self.plan, &self.rooms, &self.seats, self.world.headroom);
        // What waits for tasks that do not end has to look elsewhere then.
        let bases = &self.rooms.bases;
        let waits = self.plan.waits.iter().any(|wait| !wait.free) || bases.awaited.iter().any(|(_, level)| *level == Level::Soon);
        let overdue = self.rooms.overdue_at.filter(|_| waits);
        self.plan.wake_at = self.wake_at.into_iter().chain(overdue).chain(bases.wake_at).min();
        (self.plan, self.seats)
    }

    /// Tasks of apps that were deleted end.
    fn end_orphans(&mut self) {
        let gone = |key: &Key, view: &AppView| {
            view.spec.is_none() && (view.deleted || self.world.end_orphans) && !self.world.spared.contains(key)
        };
        for (key, view) in self.world.apps.iter().filter(|(key, view)| gone(key, view)) {
            for task in view.tasks.iter().filter(|task| is_live(task)) {
                self.rooms.give(task.agent, task.resources);
                self.plan.stops.push(Stop { app: key.clone(), task: Arc::clone(&task.id), why: StopReason::Deleted });
            }
        }
    }

    /// What is no longer wanted ends, and what has its successors.
    fn end_surplus(&mut self) {
        for app in 0..self.seats.len() {
            let seat = &self.seats[app];
            if seat.frozen {
                continue;
            }
            let surplus = seat.kept - seat.claim.ceiling().saturating_add(seat.surge());
            if surplus > 0 {
                let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
                for task in seat.in_order_of_leaving().into_iter().take(surplus) {
                    self.end(app, task, StopReason::ScaledDown);
                }
            }
            if self.seats[app].outgoing > 0 {
                for (task, why) in rollout::done_with(&self.seats[app]) {
                    self.end(app, task, why);
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
                if self.world.is_open(*agent) {
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
            let winner = Winner { rank: Rank::FIRST, strength: Strength::Firm };
            self.end_some(winner, over, Resources::ZERO, |_| true, &StopReason::OverLimits);
        }
    }

    /// If wants have used the headroom, spare replicas end.
    fn restore_headroom(&mut self) {
        let (headroom, spare) = (self.world.headroom, self.rooms.spare);
        if headroom.fits(spare) || self.world.unsurveyed {
            return;
        }
        if self.is_futile() {
            self.try_again_later();
            return;
        }
        // Everything wanted ranks before this.
        let (world, stuck) = (self.world, self.rooms.stuck.clone());
        let open = |agent: AgentIx| world.is_open(agent) && !stuck.contains(&agent);
        let winner = Winner { rank: Rank(Rank::REMAINDER.0 - 1), strength: Strength::Reserve };
        if !self.end_some(winner, headroom, spare, open, &StopReason::Headroom) {
            self.withheld(winner);
        }
    }

    /// Whether room that is freed goes elsewhere, as it did of late.
    pub fn is_futile(&self) -> bool {
        self.now < self.world.futile_until
    }

    /// Nothing is freed now, but it may be then.
    pub fn try_again_later(&mut self) {
        self.wake(self.world.futile_until);
    }

    pub fn wake(&mut self, at: Millis) {
        self.wake_at = self.wake_at.into_iter().chain([at]).min();
    }

    /// Ends replicas less important than `winner` until there is as much room as needed, or as near to it as can be. Whether there is.
    fn end_some(
        &mut self,
        winner: Winner,
        need: Resources,
        room: Resources,
        on: impl Fn(AgentIx) -> bool,
        why: &StopReason,
    ) -> bool {
        let mut chosen = Vec::new();
        let victims = self.victims.get_or_insert_with(|| Victims::of(&self.seats, &self.rooms, self.now));
        let mut is_met = victims.anywhere((&self.seats, &self.rooms), winner, need, room, on, &mut chosen);
        if is_met {
            prune(&mut chosen, |left| need.fits(room + freed(left)));
        }
        while !self.afford(winner, chosen.len()) {
            chosen.pop();
            self.out_of_budget(1);
            is_met = false;
        }
        for victim in chosen {
            self.end(victim.app as usize, victim.task as usize, why.clone());
        }
        is_met
    }

    /// This task ends.
    pub fn end(&mut self, app: usize, task: usize, why: StopReason) {
        let seat = &mut self.seats[app];
        let Claim { key, tasks, .. } = seat.claim;
        seat.ends.resize(tasks.len(), false);
        seat.ends[task] = true;
        seat.kept -= 1;
        seat.ready_ends += i64::from(is_ready(&tasks[task]));
        seat.taken += usize::from(why.is_preemption());
        self.taken += usize::from(why.is_preemption());
        seat.outgoing -= i64::from(seat.claim.is_outgoing(&tasks[task]));
        seat.displaced -= i64::from(seat.claim.is_displaced(&tasks[task]));
        self.rooms.give(tasks[task].agent, tasks[task].resources);
        self.plan.stops.push(Stop { app: (*key).clone(), task: Arc::clone(&tasks[task].id), why });
    }

    /// Serves everything from this band on (wants come with floors), one replica at a time, in the one order.
    pub fn serve(&mut self, first: Band) {
        for app in 0..self.seats.len() {
            self.enqueue(app, first);
        }
        while let Some(Reverse(Turn { band, app, .. })) = self.queue.pop() {
            self.seats[app].queued = false;
            if band != Band::Floor {
                self.rooms.set_all_aside();
            }
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
    pub fn enqueue(&mut self, app: usize, first: Band) {
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
}
