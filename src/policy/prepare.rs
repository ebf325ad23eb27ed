//! Executors and images get to agents before they are needed there.
//!
//! Everything that is wanted is served first, with their room set aside from what is less important; then each gets its room in the
//! best way there is, before headroom and spare replicas.

use super::allocate::Allocation;
use super::bases::Missing;
use super::plan::{Prepare, StopReason};
use super::preempt::Victims;
use super::rooms::{LEVELS, Level};
use super::seat::Band;
use super::world::AgentIx;
use crate::api::validated::BaseKind;

impl Allocation<'_> {
    /// Finds the room of all bases that are still to be put on agents.
    pub fn put_bases(&mut self) {
        let bases = &self.rooms.bases;
        let left = |missing: &&Missing| missing.after_another || bases.is_missing(missing.group, missing.agent);
        let missing: Vec<Missing> = bases.missing.iter().filter(left).copied().collect();
        if missing.is_empty() {
            return;
        }
        // Of several that do not all fit, the first ones still do.
        missing.iter().for_each(|missing| self.rooms.use_aside(missing));
        let ended = self.plan.stops.len();
        let without: Vec<Missing> =
            missing.into_iter().filter(|missing| !self.put(missing) && !self.make_room(missing)).collect();
        without.iter().for_each(|missing| self.rooms.set_aside(missing));
        self.rooms.bases.short = !without.is_empty();
        if self.plan.stops.len() > ended {
            // Those that gave way may find room elsewhere.
            self.serve(Band::Floor);
        }
    }

    /// Takes the room of this base if there is some, as soon as can be.
    fn put(&mut self, missing: &Missing) -> bool {
        let Missing { rank, agent, group, after_another } = *missing;
        let size = self.rooms.bases.size(group);
        let levels = if after_another { &[Level::Soon][..] } else { &LEVELS };
        let found = levels.iter().find(|level| self.rooms.fits(agent, size, **level, rank));
        if let Some(level) = found {
            self.hold(missing, *level);
        }
        found.is_some()
    }

    fn hold(&mut self, missing: &Missing, level: Level) {
        let Missing { agent, group, .. } = *missing;
        self.rooms.take(agent, self.rooms.bases.size(group), level);
        self.rooms.bases.placed(group, agent, level);
        if level == Level::Now {
            self.plan.prepare.push(Prepare { app: self.rooms.bases.group(group).app.clone(), agent });
        }
    }

    /// Takes its room from replicas that are less important than the most important app that wants it.
    fn make_room(&mut self, missing: &Missing) -> bool {
        let Missing { rank, agent, group, after_another } = *missing;
        if after_another || self.world.unsurveyed || self.rooms.stuck.contains(&agent) {
            return false;
        }
        let victims = self.victims.get_or_insert_with(|| Victims::of(&self.seats, &self.rooms, self.now));
        if victims.lowest() <= rank {
            return false;
        }
        let size = self.rooms.bases.size(group);
        if self.rooms.bases.over_limits && !size.fits(self.rooms.limits.open(rank)) {
            return false;
        }
        let Some(chosen) = victims.plan(&self.seats, &self.rooms, agent, rank, size) else { return false };
        let Some(chosen) = self.within_limits(agent, rank, size, chosen) else {
            self.rooms.bases.over_limits = true;
            return false;
        };
        if self.is_futile() {
            self.try_again_later();
            return false;
        }
        let winner = self.rooms.bases.group(group).app;
        for victim in chosen {
            self.end(victim.app as usize, victim.task as usize, StopReason::GivesWayTo(winner.clone()));
        }
        self.hold(missing, Level::Soon);
        true
    }

    /// A replica is about to be placed: what it builds on comes along, or goes ahead of it.
    pub fn bring_base(&mut self, app: usize, agent: AgentIx, level: Level) {
        let Some(group) = self.rooms.bases.of_app(self.seats[app].claim.app) else { return };
        let starts = level == Level::Now;
        if starts && self.rooms.bases.is_placed(group, agent) {
            self.rooms.bases.comes_along(group, agent);
        }
        let is_executor = self.rooms.bases.group(group).kind == BaseKind::Executor;
        // A replica that waits has no use of an image before it starts.
        if !self.rooms.bases.is_missing(group, agent) || !(is_executor || starts) {
            return;
        }
        let missing = Missing { rank: self.rooms.bases.group(group).rank, agent, group, after_another: false };
        self.rooms.use_aside(&missing);
        if !starts {
            if !self.put(&missing) {
                self.hold(&missing, Level::Soon);
            }
            return;
        }
        if is_executor {
            self.rooms.take(agent, self.rooms.bases.size(group), Level::Now);
        }
        self.rooms.bases.comes_along(group, agent);
    }

    /// What starts with a replica need not be put there before.
    pub fn leave_out_what_comes_along(&mut self) {
        let (world, bases) = (self.world, &self.rooms.bases);
        self.plan.prepare.retain(|prepare| {
            let group = world.apps[&prepare.app].spec.as_ref().and_then(|app| bases.of_app(app));
            group.is_some_and(|group| bases.is_placed(group, prepare.agent))
        });
    }
}
