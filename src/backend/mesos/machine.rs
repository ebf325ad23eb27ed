//! The state machine: inputs and orders change the world, and calls come out. No I/O, no clock.

use std::sync::Arc;

use super::Input;
use super::bases::Bases;
use super::inventory::Inventory as Found;
use super::ledger::{Ledger, Out};
use super::maintenance::Maintenance;
use super::offers::Offers;
use super::reconcile::Reconcile;
use super::revive::{Ask, Revive};
use super::wire::Call;
use crate::api::validated::MesosPool;
use crate::backend::{Applied, Ending, Standing};
use crate::policy::world::{Agent, Millis, World};

mod events;
mod launch;

/// How long declined room is withheld from us: until a REVIVE, which comes with the next want.
const RELEASE_SECONDS: f64 = 300.0;
/// The same on agents that are about to go: the next offer would tell that they are not.
const DEPARTING_SECONDS: f64 = 15.0;
/// Time between two looks at the master's pages.
const INVENTORY_EVERY_MS: u64 = 10_000;
const INVENTORY_PATIENCE_MS: u64 = 5000;
/// A REVIVE that has brought no offers for so long says that there is no free room.
const SURVEY_MS: u64 = 50;
/// Longest wait for the orders that follow an event, so that room is asked for once and behind their ACCEPTs.
const ORDERS_MS: u64 = 5;

/// All that is known about the framework beside the world.
pub struct Machine {
    role: String,
    offers: Offers,
    ledger: Ledger,
    bases: Bases,
    maintenance: Maintenance,
    reconcile: Reconcile,
    revive: Revive,
    standing: Standing,
    inventory: Inventory,
    found: Option<Found>,
    /// While [`World::unsurveyed`] is set: when it ends though no offers came. Unset until a REVIVE has been sent.
    surveyed_at: Option<Millis>,
    /// Orders are about to come: room is not asked for before them, or this moment.
    orders_by: Millis,
    /// Launches that could not be made: told with the next step.
    dropped: Vec<Ending>,
    /// Calls to be written, in order.
    pub outbox: Vec<Call>,
}

/// Whether the master's pages have to be looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inventory {
    #[default]
    NotNeeded,
    Wanted,
    /// Being fetched; no orders until it is there or this moment has come.
    Awaited(Millis),
    /// Looked at; again at the earliest then.
    Done(Millis),
}

impl Machine {
    pub fn new(pool: &Arc<MesosPool>) -> Self {
        let masters = pool.mesos.masters.join(", ");
        Self {
            role: pool.mesos.role.clone(),
            offers: Offers::default(),
            ledger: Ledger::default(),
            bases: Bases::new(pool),
            maintenance: Maintenance::default(),
            reconcile: Reconcile::default(),
            revive: Revive::default(),
            standing: Standing { message: format!("connecting to {masters}"), ..Standing::default() },
            inventory: Inventory::default(),
            found: None,
            surveyed_at: None,
            orders_by: 0,
            dropped: Vec::new(),
            outbox: Vec::new(),
        }
    }

    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether there is something to tell without an event.
    pub fn has_news(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Whether the master's pages should be looked at now. Says so once.
    pub fn wants_inventory(&mut self, now: Millis) -> bool {
        let again = matches!(self.inventory, Inventory::Done(at) if at <= now) && self.ledger.has_unsized();
        let wanted = self.standing.connected && (self.inventory == Inventory::Wanted || again);
        if wanted {
            self.inventory = Inventory::Awaited(now + INVENTORY_PATIENCE_MS);
        }
        wanted
    }

    pub fn apply(&mut self, input: Input, world: &mut World, now: Millis) -> Applied {
        let mut out = self.out();
        match input {
            Input::News => {}
            Input::Subscribed(link) => {
                let new = link.new;
                self.standing.framework_id = Some(link.framework_id.to_string());
                self.standing.master = Some(link.leader.origin().ascii_serialization());
                self.subscribed(new, world, now, &mut out);
            }
            Input::Disconnected { why, tries } => {
                let message = if tries > 1 { format!("{why} ({})", ordinal(tries)) } else { why };
                self.disconnected(message, false, world, &mut out);
            }
            Input::Blocked(why) | Input::Stalled(why) => self.disconnected(why, true, world, &mut out),
            Input::StandingBy(leader) => self.disconnected(format!("standing by: {leader}"), false, world, &mut out),
            Input::Wire(event) => self.event(event, world, now, &mut out),
            Input::Inventory(found) => {
                self.inventory = Inventory::Done(now + INVENTORY_EVERY_MS);
                self.found = Some(found);
            }
        }
        self.take_in(world, &mut out);
        self.settle(out, now)
    }

    /// A link is up: everything held before is void, and what runs has to be found out before anything else is done.
    pub fn subscribed(&mut self, new: bool, world: &mut World, now: Millis, out: &mut Out) {
        self.offers.disconnected(world);
        self.offers.subscribed(now);
        self.maintenance.subscribed(now);
        (self.standing.connected, self.standing.stalled) = (true, false);
        "connected".clone_into(&mut self.standing.message);
        if new {
            self.reconcile.nothing_to_ask(now);
        } else {
            out.calls.extend(self.reconcile.connected(&mut self.ledger, world, now));
            self.ledger.reconnected(now);
            out.calls.extend(self.bases.connected(world, now));
            if self.inventory == Inventory::NotNeeded {
                self.inventory = Inventory::Wanted;
            }
        }
        self.unsurveyed(world);
        self.revive.sent(now);
        self.send_revive(world, now, out);
        out.tell("Subscribed", if new { "subscribed as a new framework".to_owned() } else { "subscribed".to_owned() });
        out.applied.decide = true;
    }

    fn disconnected(&mut self, why: String, stalled: bool, world: &mut World, out: &mut Out) {
        let news = self.standing.connected || self.standing.stalled != stalled;
        if news {
            out.warn("Disconnected", why.clone());
        }
        (self.standing.connected, self.standing.ready, self.standing.stalled) = (false, false, stalled);
        self.standing.message = why;
        self.offers.disconnected(world);
        self.reconcile.disconnected();
        if matches!(self.inventory, Inventory::Awaited(_)) {
            self.inventory = Inventory::Wanted;
        }
        out.applied.decide = true;
    }

    /// What the master's pages say is of use once the tasks are known that it is about.
    fn take_in(&mut self, world: &mut World, out: &mut Out) {
        if self.reconcile.pending() {
            return;
        }
        if let Some(found) = self.found.take() {
            for (id, hostname, attributes) in found.agents {
                self.offers.describe(world, &id, &hostname, attributes);
            }
            self.ledger.size(world, &found.sizes);
            out.applied.decide = true;
        }
    }

    pub fn tick(&mut self, world: &mut World, now: Millis) -> (Applied, Option<Millis>) {
        let mut out = self.out();
        if let Inventory::Awaited(until) = self.inventory
            && until <= now
        {
            self.inventory = Inventory::Done(now + INVENTORY_EVERY_MS);
        }
        if self.standing.connected {
            out.calls.extend(self.reconcile.due(&mut self.ledger, world, now));
            if self.settled() {
                self.ledger.due(world, now, &mut out);
                self.bases.due(world, &mut self.offers, now, &mut out);
            }
            out.applied.decide |= self.offers.expire(world, now);
            self.leave(world, now, &mut out);
            if self.surveyed_at.is_some_and(|at| at <= now) {
                (self.surveyed_at, world.unsurveyed) = (None, false);
                out.applied.decide = true;
            }
            self.expect_orders(&out, now);
            if self.orders_by <= now {
                self.ask(world, now, &mut out);
            }
        }
        self.take_in(world, &mut out);
        (self.settle(out, now), self.next(now))
    }

    fn next(&self, now: Millis) -> Option<Millis> {
        if !self.standing.connected {
            return None;
        }
        let patience = if let Inventory::Awaited(until) = self.inventory { Some(until) } else { None };
        let timers = [self.ledger.next_timer(), self.bases.next_timer()];
        let timer = timers.into_iter().flatten().min().filter(|_| self.settled());
        let asking = self.revive.next().map(|at| at.max(self.orders_by));
        let leaving = self.maintenance.next(now);
        let times = [patience, timer, self.reconcile.next(), self.offers.next_expiry(), leaving, asking, self.surveyed_at];
        times.into_iter().flatten().min()
    }

    /// Agents that are about to go are left, and the master is told where that is done.
    fn leave(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        let (left, kept) = self.maintenance.review(world, now);
        for ix in &left {
            let Agent { hostname, id, .. } = &world.agents[ix.0 as usize];
            out.tell("AgentDeparts", format!("maintenance of agent {hostname} ({id}) is about to begin; what runs there moves"));
        }
        out.applied.decide |= !kept.is_empty() || !left.is_empty();
        if !kept.is_empty() {
            self.revive.hopeful(now);
        }
        let room: Vec<_> = left.into_iter().flat_map(|ix| self.offers.give_back(ix, world, now)).collect();
        if !room.is_empty() {
            out.calls.push(Call::decline(room, DEPARTING_SECONDS));
        }
        let done = self.maintenance.done(world);
        if !done.is_empty() {
            out.calls.push(Call::accept_inverse(done));
        }
    }

    /// Asks for room if it is time to.
    fn ask(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        match self.revive.ask(now) {
            None => {}
            Some(Ask::Revive) => self.send_revive(world, now, out),
            Some(Ask::StartOver) => {
                let holding = self.offers.holding();
                let held: Vec<_> = holding.into_iter().flat_map(|ix| self.offers.give_back(ix, world, now)).collect();
                if !held.is_empty() {
                    out.calls.push(Call::decline(held, 0.0));
                }
                self.send_revive(world, now, out);
            }
        }
    }

    fn send_revive(&mut self, world: &World, now: Millis, out: &mut Out) {
        self.offers.revived(now);
        if world.unsurveyed && self.surveyed_at.is_none() {
            self.surveyed_at = Some(now + SURVEY_MS);
        }
        out.calls.push(Call::revive(&self.role));
    }

    /// From now on there may be room of which nothing is known.
    fn unsurveyed(&mut self, world: &mut World) {
        (self.surveyed_at, world.unsurveyed) = (None, true);
    }

    /// A REVIVE does not bring what an ACCEPT behind it leaves over. So when a decision follows, room is asked for with its orders.
    fn expect_orders(&mut self, out: &Out, now: Millis) {
        if self.standing.ready && (out.applied.decide || !out.applied.endings.is_empty()) {
            self.orders_by = now + ORDERS_MS;
        }
    }

    fn settled(&self) -> bool {
        let inventory = matches!(self.inventory, Inventory::NotNeeded | Inventory::Done(_));
        self.standing.connected && !self.reconcile.pending() && (inventory || self.standing.ready)
    }

    fn out(&mut self) -> Out {
        let endings = std::mem::take(&mut self.dropped);
        Out { applied: Applied { decide: !endings.is_empty(), endings, ..Applied::default() }, calls: Vec::new() }
    }

    fn settle(&mut self, mut out: Out, now: Millis) -> Applied {
        self.expect_orders(&out, now);
        self.outbox.append(&mut out.calls);
        if self.settled() && !self.standing.ready {
            self.standing.ready = true;
            out.applied.decide = true;
        }
        out.applied
    }
}

fn ordinal(n: u32) -> String {
    let suffix = match (n % 10, n % 100) {
        (1, h) if h != 11 => "st",
        (2, h) if h != 12 => "nd",
        (3, h) if h != 13 => "rd",
        _ => "th",
    };
    format!("{n}{suffix} try")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
