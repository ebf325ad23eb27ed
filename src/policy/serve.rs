//! One replica is served: the ways in which it may come to its room, best first.

use std::collections::BTreeMap;

use super::allocate::Allocation;
use super::claim::{Claim, is_ready};
use super::place::{allows, hopeless};
use super::plan::{Start, StopReason, Wait};
use super::preempt::{Candidate, Hunt, Victims, freed, freed_on, prune};
use super::resources::Resources;
use super::rollout;
use super::rooms::{LEVELS, Level, Rank};
use super::seat::{Band, Short};
use super::sparing::{Winner, Withheld};
use super::world::AgentIx;

impl Allocation<'_> {
    /// Places the app's next replica in the best way there is: in its turn, in room that is there, in room that is taken.
    pub fn place_one(&mut self, app: usize, band: Band) -> Result<(), Short> {
        let seat = &self.seats[app];
        let rank = seat.rank(band);
        if band == Band::Remainder && !self.world.headroom.fits(self.rooms.spare - seat.claim.app.size) {
            self.leave_turns(app);
            return if self.replace_in_place(app, rank) { Ok(()) } else { Err(Short::Headroom) };
        }
        if self.seats[app].claim.retry_at.is_some() {
            return self.reserve(app, rank);
        }
        let placed =
            self.resume(app, rank) || self.settle(app, rank) || self.take_room(app, band) || self.replace_in_place(app, rank);
        if placed { Ok(()) } else { Err(self.why_short(app, rank)) }
    }

    /// Keeps the room of a replica that must not start yet, so that its next try need not drive others out again.
    fn reserve(&mut self, app: usize, rank: Rank) -> Result<(), Short> {
        let seat = &mut self.seats[app];
        let Some(agent) = seat.find(&self.rooms, Level::Soon, rank) else {
            return Err(self.why_short(app, rank));
        };
        seat.reserved += 1;
        let need = self.rooms.need(seat.claim.app, agent);
        self.rooms.take(agent, need, Level::Soon);
        Ok(())
    }

    /// Takes the turn where it waited before, unless it can start somewhere at once.
    fn resume(&mut self, app: usize, rank: Rank) -> bool {
        let seat = &mut self.seats[app];
        let spec = seat.claim.app;
        while let Some((agent, kept_as)) = seat.turns.pop_front() {
            self.rooms.let_go(agent, kept_as, spec.size);
            let limits = |level: Level| self.rooms.limits.fits(spec.size, level, rank);
            let takes = |level: Level| limits(level) && self.rooms.takes(spec, agent, level, rank);
            let found = if !allows(seat.claim, &self.rooms, agent) {
                None
            } else if takes(Level::Now) {
                Some((agent, Level::Now))
            } else if let Some(other) = seat.find(&self.rooms, Level::Now, rank) {
                Some((other, Level::Now))
            } else {
                LEVELS.into_iter().find(|level| takes(*level)).map(|level| (agent, level))
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
        let seat = &mut self.seats[app];
        let found = LEVELS.into_iter().find_map(|level| Some((seat.find(&self.rooms, level, rank)?, level)));
        if let Some((agent, level)) = found {
            self.place(app, agent, level);
        }
        found.is_some()
    }

    /// Takes room from less important replicas, if that helps.
    fn take_room(&mut self, app: usize, band: Band) -> bool {
        let winner = Winner::of(&self.seats[app], band);
        if band == Band::Remainder || self.world.unsurveyed {
            return false;
        }
        let Some((agent, victims)) = self.choose_victims(app, winner) else {
            self.seats[app].withheld = self.withheld(winner);
            return false;
        };
        if !self.afford(winner, victims.len()) {
            self.seats[app].withheld = self.out_of_budget();
            return false;
        }
        if self.is_futile() {
            self.try_again_later();
            self.seats[app].withheld = Some(Withheld::Futile);
            return false;
        }
        self.make_way(app, agent, victims);
        true
    }

    /// The agent to take and the victims there; where the pool's limits stand in the way, victims anywhere besides.
    fn choose_victims(&mut self, app: usize, winner: Winner) -> Option<(AgentIx, Vec<Candidate>)> {
        let rank = winner.rank;
        let spec = self.seats[app].claim.app;
        let victims = self.victims.get_or_insert_with(|| Victims::of(&self.seats, &self.rooms, self.now));
        if victims.lowest() <= rank {
            return None;
        }
        let seat = &mut self.seats[app];
        // Nothing ends for an executor that may go on to fail for ever.
        let is_risky = |agent: AgentIx| self.rooms.bases.is_risky(spec, agent);
        let open = seat.seeker(&self.rooms).find(&self.rooms, Level::Soon, rank).filter(|agent| !is_risky(*agent));
        let (agent, chosen) = if let Some(agent) = open {
            (agent, Vec::new())
        } else {
            let mut hunt = seat.hunt.take().unwrap_or_else(|| {
                let stuck = &self.rooms.stuck;
                Hunt::over(seat.seeker(&self.rooms).agents().filter(|agent| !stuck.contains(agent) && !is_risky(*agent)))
            });
            let best = hunt.best(victims, &self.seats, &self.rooms, winner, |agent| self.rooms.need(spec, agent));
            self.seats[app].hunt = Some(hunt);
            best?
        };
        self.within_limits(agent, winner, self.rooms.need(spec, agent), chosen).map(|chosen| (agent, chosen))
    }

    /// Adds victims anywhere, where the pool's limits stand in the way of room on this agent.
    pub fn within_limits(
        &mut self,
        agent: AgentIx,
        winner: Winner,
        size: Resources,
        mut chosen: Vec<Candidate>,
    ) -> Option<Vec<Candidate>> {
        let (room, limits) = (self.rooms.at(agent).open(winner.rank), self.rooms.limits.open(winner.rank));
        if !size.fits(limits + freed(&chosen)) {
            let victims = self.victims.get_or_insert_with(|| Victims::of(&self.seats, &self.rooms, self.now));
            if !victims.anywhere((&self.seats, &self.rooms), winner, size, limits, |_| true, &mut chosen) {
                return None;
            }
            chosen.sort_unstable();
            prune(&mut chosen, |left| size.fits(room + freed_on(left, agent)) && size.fits(limits + freed(left)));
        }
        Some(chosen)
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

    /// Lets one of the app's own old replicas end so that a new one can have its place; several, where the new one needs more room.
    fn replace_in_place(&mut self, app: usize, rank: Rank) -> bool {
        if self.world.unsurveyed || !rollout::may_go_first(&self.seats[app]) {
            return false;
        }
        let Some(tasks) = self.choose_own(app, rank) else { return false };
        let ready = tasks.iter().filter(|at| is_ready(&self.seats[app].claim.tasks[**at])).count();
        if ready > 0 && !self.seats[app].may_disrupt(ready) {
            self.seats[app].over_budget = true;
            return false;
        }
        if self.is_futile() {
            self.try_again_later();
            return false;
        }
        let agent = self.seats[app].claim.tasks[tasks[0]].agent;
        tasks.into_iter().for_each(|task| self.end(app, task, StopReason::Replaced));
        self.seats[app].in_place += 1;
        self.place(app, agent, Level::Soon);
        true
    }

    /// The fewest of the app's old replicas on one agent that make room for a new one there.
    fn choose_own(&self, app: usize, rank: Rank) -> Option<Vec<usize>> {
        let seat = &self.seats[app];
        let Claim { tasks, app: spec, .. } = seat.claim;
        let headroom = if rank == Rank::REMAINDER { self.world.headroom } else { Resources::ZERO };
        let enough = |agent: AgentIx, freed: Resources| {
            let need = self.rooms.need(spec, agent);
            need.fits(self.rooms.at(agent).open(rank) + freed)
                && need.fits(self.rooms.limits.open(rank) + freed)
                && (headroom.is_zero() || headroom.fits(self.rooms.spare + freed - need))
        };
        let mut by_agent: BTreeMap<AgentIx, (Vec<usize>, Resources)> = BTreeMap::new();
        let mut best: Option<Vec<usize>> = None;
        for at in seat.in_order_of_leaving().into_iter().filter(|at| rollout::is_old(&tasks[*at], spec)) {
            let agent = tasks[at].agent;
            let risky = self.rooms.bases.is_risky(spec, agent);
            if risky || self.rooms.stuck.contains(&agent) || !allows(seat.claim, &self.rooms, agent) {
                continue;
            }
            // The first that is enough by itself need not wait for a better one.
            if enough(agent, tasks[at].resources) {
                return Some(vec![at]);
            }
            let (chosen, freed) = by_agent.entry(agent).or_default();
            let fewer = best.as_ref().is_none_or(|best| chosen.len() + 1 < best.len());
            if fewer {
                chosen.push(at);
                *freed += tasks[at].resources;
                if enough(agent, *freed) {
                    best = Some(chosen.clone());
                }
            }
        }
        best
    }

    fn place(&mut self, app: usize, agent: AgentIx, level: Level) {
        self.bring_base(app, agent, level);
        let seat = &mut self.seats[app];
        self.rooms.take(agent, seat.claim.app.size, level);
        if let Some(seeker) = &mut seat.seeker {
            seeker.placed(&self.rooms, agent);
        }
        let app = seat.claim.key.clone();
        if level == Level::Now {
            seat.starts += 1;
            self.plan.starts.push(Start { app, agent });
        } else {
            seat.waits += 1;
            self.plan.waits.push(Wait { app, agent, free: level == Level::Free });
        }
    }

    /// What was kept for the app is open to all again, once it will not be used.
    pub fn leave_turns(&mut self, app: usize) {
        let seat = &mut self.seats[app];
        if seat.short.is_some() || seat.missing(Band::Remainder) <= 0 {
            for (agent, rank) in std::mem::take(&mut seat.turns) {
                self.rooms.let_go(agent, rank, seat.claim.app.size);
            }
        }
    }

    fn why_short(&self, app: usize, rank: Rank) -> Short {
        let seat = &self.seats[app];
        if let Some(reason) = hopeless(seat.claim, &self.rooms) {
            Short::Hopeless(reason)
        } else if !self.rooms.limits.fits(seat.claim.app.size, Level::Soon, rank) {
            Short::Limits
        } else if let Some(withheld) = seat.withheld {
            Short::Withheld(withheld)
        } else {
            Short::Room
        }
    }
}
