//! The state machine: inputs and orders change the world, and calls come out. No I/O, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::inventory::Inventory as Found;
use super::ledger::{Ledger, Out};
use super::offers::{Offers, Taken};
use super::reconcile::Reconcile;
use super::revive::{Ask, Revive};
use super::wire::{Accept, Call, Event as WireEvent, Failure, Filters, LaunchTasks, Operation, TaskInfo, Value};
use super::{Input, task};
use crate::api::validated::Pool;
use crate::backend::{Applied, End, Ending, Launch, Orders, Standing};
use crate::policy::world::{AgentIx, Millis, World};

/// How long declined room is withheld from us: until a REVIVE, which comes with the next want.
const RELEASE_SECONDS: f64 = 300.0;
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
    pub fn new(pool: &Arc<Pool>) -> Self {
        let masters = pool.mesos.masters.join(", ");
        Self {
            role: pool.mesos.role.clone(),
            offers: Offers::default(),
            ledger: Ledger::default(),
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
        (self.standing.connected, self.standing.stalled) = (true, false);
        "connected".clone_into(&mut self.standing.message);
        if new {
            self.reconcile.nothing_to_ask(now);
        } else {
            out.calls.extend(self.reconcile.connected(&mut self.ledger, world, now));
            self.ledger.reconnected(now);
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

    fn event(&mut self, event: WireEvent, world: &mut World, now: Millis, out: &mut Out) {
        match event {
            WireEvent::Offers(offers) => {
                let agents = world.agents.len();
                let useless: Vec<_> = offers.into_iter().filter_map(|offer| self.offers.receive(offer, world)).collect();
                if !useless.is_empty() {
                    out.calls.push(Call::decline(useless, RELEASE_SECONDS));
                }
                self.revive.offered(self.offers.awaits_freed(), now);
                if world.agents.len() > agents {
                    self.revive.hopeful(now);
                }
                if self.surveyed_at.take().is_some() {
                    world.unsurveyed = false;
                }
                out.applied.decide = true;
            }
            WireEvent::Rescind(id) => {
                self.offers.rescind(&id, world);
                out.applied.decide = true;
            }
            WireEvent::Update(status) if self.reconcile.is_last(&status.task_id.value) => out.applied.decide = true,
            WireEvent::Update(status) => {
                tracing::debug!(task = %status.task_id.value, state = ?status.state, reason = ?status.reason, "update");
                let endings = out.applied.endings.len();
                self.ledger.update(&status, world, &mut self.offers, now, out);
                if out.applied.endings.len() > endings {
                    self.revive.news(now);
                }
            }
            WireEvent::Failure(Failure { agent_id: Some(agent), executor_id: None }) => {
                if let Some(ix) = self.offers.known(&agent.value) {
                    out.warn("AgentGone", format!("agent {} ({}) is gone", world.agents[ix.0 as usize].hostname, agent.value));
                    world.agents[ix.0 as usize].present = false;
                    self.offers.void(ix, world);
                    out.applied.decide = true;
                }
            }
            _ => {}
        }
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
            }
            out.applied.decide |= self.offers.expire(world, now);
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
        (self.settle(out, now), self.next())
    }

    fn next(&self) -> Option<Millis> {
        if !self.standing.connected {
            return None;
        }
        let patience = if let Inventory::Awaited(until) = self.inventory { Some(until) } else { None };
        let timer = self.ledger.next_timer().filter(|_| self.settled());
        let asking = self.revive.next().map(|at| at.max(self.orders_by));
        let times = [patience, timer, self.reconcile.next(), self.offers.next_expiry(), asking, self.surveyed_at];
        times.into_iter().flatten().min()
    }

    pub fn dispatch(&mut self, orders: &Orders, world: &mut World, now: Millis) {
        let mut out = Out::default();
        self.orders_by = 0;
        for kill in &orders.kills {
            out.calls.extend(self.ledger.kill(world, kill, now));
        }
        if !self.standing.ready {
            // Written to nobody: the kills are repeated once orders can be given, the launches are told to have failed.
            self.dropped.extend(orders.launches.iter().map(|launch| dropped(launch, "not connected")));
            return;
        }
        self.launch(&orders.launches, world, now, &mut out);
        let declined: Vec<_> = orders.release.iter().flat_map(|ix| self.offers.give_back(*ix, world, now)).collect();
        if !declined.is_empty() {
            out.calls.push(Call::decline(declined, RELEASE_SECONDS));
            self.revive.declined(now);
        }
        if !orders.launches.is_empty() {
            self.revive.hopeful(now);
        }
        let quiet = orders.quiet && !orders.recall;
        if quiet && !self.revive.suppressed {
            self.revive.suppressed = true;
            self.unsurveyed(world);
            out.calls.push(Call::suppress(&self.role));
        }
        self.revive.want(orders.recall, self.offers.unasked(&orders.awaited, now), now);
        if !quiet && !orders.recall && self.revive.suppressed {
            // Agents may have joined of which no offer has come, and one of them may fit what no other does.
            self.revive.sent(now);
            self.send_revive(world, now, &mut out);
        }
        self.ask(world, now, &mut out);
        self.outbox.append(&mut out.calls);
    }

    fn launch(&mut self, launches: &[Launch], world: &mut World, now: Millis, out: &mut Out) {
        let mut by_agent: BTreeMap<AgentIx, Vec<&Launch>> = BTreeMap::new();
        for launch in launches {
            by_agent.entry(launch.agent).or_default().push(launch);
        }
        for (agent, launches) in by_agent {
            self.launch_on(agent, &launches, world, now, out);
        }
    }

    /// One ACCEPT of all offers of an agent, so that crumbs add up. What is left over comes back with the next REVIVE.
    fn launch_on(&mut self, agent: AgentIx, launches: &[&Launch], world: &mut World, now: Millis, out: &mut Out) {
        let agent_id = world.agents[agent.0 as usize].id.clone();
        let Taken { offers, mut stock, mut next_port } = self.offers.take(agent, world);
        let mut task_infos: Vec<TaskInfo> = Vec::new();
        for launch in launches {
            let Some(cut) = stock.cut(launch.app.size, next_port) else {
                self.dropped.push(dropped(launch, "the offer is gone"));
                continue;
            };
            next_port = cut.ports.last().map_or(next_port, |port| port + 1);
            self.ledger.launched(world, launch, now);
            task_infos.push(task::task_info(&launch.id, &launch.app, &agent_id, cut));
        }
        if offers.is_empty() {
            return;
        }
        self.offers.ports_used(agent, next_port);
        self.offers.believe(agent, stock.room(), None, world);
        let launch = (!task_infos.is_empty()).then(|| Operation::Launch { launch: LaunchTasks { task_infos } });
        let operations = launch.into_iter().collect();
        let offer_ids = offers.into_iter().map(Value::from).collect();
        let filters = Filters { refuse_seconds: 0.0 };
        out.calls.push(Call::Accept { accept: Accept { offer_ids, operations, filters } });
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

fn dropped(launch: &Launch, why: &str) -> Ending {
    Ending {
        app: launch.app.key.clone(),
        task: launch.id.clone(),
        agent: launch.agent,
        version: Some(launch.app.version),
        how: End::Dropped,
        message: why.into(),
        ran_ms: 0,
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
