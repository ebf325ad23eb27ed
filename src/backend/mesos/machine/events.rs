//! Events: what they change in the world.

use super::super::ledger::Out;
use super::super::wire::{Call, Event as WireEvent, Failure, InverseOffer, Offer, TaskStatus, Unavailability};
use super::{DEPARTING_SECONDS, Machine};
use crate::policy::world::{Millis, World};

impl Machine {
    pub(super) fn event(&mut self, event: WireEvent, world: &mut World, now: Millis, out: &mut Out) {
        match event {
            WireEvent::Offers(offers) => self.offered(offers, world, now, out),
            WireEvent::Rescind(id) => {
                self.offers.rescind(&id, world);
                out.applied.decide = true;
            }
            WireEvent::InverseOffers(asked) => {
                for InverseOffer { id, agent_id, unavailability } in asked {
                    let Some(agent) = agent_id else { continue };
                    let ix = self.offers.agent(world, &agent.value);
                    self.maintenance.asked(ix, unavailability.begins_in(), id.value, now);
                }
            }
            WireEvent::RescindInverse(id) => self.maintenance.withdrawn(&id),
            WireEvent::Update(status) if self.reconcile.is_last(&status.task_id.value) => out.applied.decide = true,
            WireEvent::Update(status) => self.update(&status, world, now, out),
            WireEvent::Failure(failure) if failure.executor_id.is_some() => {
                self.bases.failure(&failure, world, &mut self.offers, now, out);
                self.revive.news(now);
            }
            WireEvent::Failure(Failure { agent_id: Some(agent), .. }) => {
                if let Some(ix) = self.offers.known(&agent.value) {
                    out.warn("AgentGone", format!("agent {} ({}) is gone", world.agents[ix.0 as usize].hostname, agent.value));
                    // It may only be unreachable: what it says when it is back tells what is still there.
                    world.agents[ix.0 as usize].present = false;
                    self.offers.void(ix, world);
                    out.applied.decide = true;
                }
            }
            WireEvent::Message(message) => self.bases.message(&message, world, &mut self.offers, now, out),
            _ => {}
        }
    }

    fn offered(&mut self, offers: Vec<Offer>, world: &mut World, now: Millis, out: &mut Out) {
        let agents = world.agents.len();
        for offer in &offers {
            let ix = self.offers.agent(world, &offer.agent_id.value);
            let begins_in = offer.unavailability.as_ref().map(Unavailability::begins_in);
            self.maintenance.offered(ix, begins_in, now);
        }
        self.leave(world, now, out);
        let mut useless = Vec::new();
        for offer in offers {
            let ix = self.offers.agent(world, &offer.agent_id.value);
            self.bases.offered(ix, &offer.executor_ids, world, &mut self.offers, now, out);
            useless.extend(self.offers.receive(offer, world));
        }
        if !useless.is_empty() {
            out.calls.push(Call::decline(useless, DEPARTING_SECONDS));
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

    fn update(&mut self, status: &TaskStatus, world: &mut World, now: Millis, out: &mut Out) {
        tracing::debug!(task = %status.task_id.value, state = ?status.state, reason = ?status.reason, "update");
        let endings = out.applied.endings.len();
        // Before the end of the task is booked, which may be all that tells of its executor.
        let executor = self.bases.subject(status, world, &mut self.offers);
        if !self.bases.prepared(status, world, &mut self.offers, now, out) {
            self.ledger.update(status, world, &mut self.offers, now, out);
        }
        self.bases.heard(executor, status, world, &mut self.offers, now, out);
        if out.applied.endings.len() > endings {
            self.revive.news(now);
        }
    }
}
