//! The room: an exact table of the offers in our hands, and beliefs about room that is free but not in our hands.
//!
//! A belief arises when room leaves our hands or a task ends: what an ACCEPT left over, what was declined, what a task used. All of it
//! comes back only after a REVIVE or with the master's next batch. What has not come back a while after a REVIVE has gone to somebody
//! else, and is believed no longer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::carve::{self, Stock};
use super::wire::{self, Offer, Resource};
use crate::policy::resources::Resources;
use crate::policy::world::{Agent, AgentIx, Millis, World};

/// An answer to REVIVE takes about 2 ms; it may fall into a pause of the allocator, is then repeated after 50 ms, and the load may be high.
const BELIEVED_AFTER_REVIVE_MS: u64 = 500;
/// The room of a task that has ended is offered with the master's next batch (once a second) at the latest, if to us at all.
const FREED_BELIEVED_MS: u64 = 2000;
/// How long nothing more is freed for us when freed room went to somebody else: at first, and at the most.
const FUTILE_MS: u64 = 5000;
const MAX_FUTILE_MS: u64 = 60_000;
/// After a change of the master agents come back one by one.
const BELIEVED_AFTER_SUBSCRIBED_MS: u64 = 10_000;
/// What was declined and is wanted by the same breath (as the room that is wanted has to be larger) is not asked for at once again.
const DECLINED_FOR_MS: u64 = 100;

/// The room on all agents.
#[derive(Debug, Default)]
pub struct Offers {
    agents: HashMap<Arc<str>, AgentIx>,
    outstanding: HashMap<Arc<str>, AgentIx>,
    rooms: Vec<Room>,
    believed_until: Millis,
    next_expiry: Option<Millis>,
    futile: Futile,
}

/// How often freed room went to somebody else, lately.
#[derive(Debug, Default)]
struct Futile {
    since: Millis,
    /// The last wait; 0: freed room has come to us since.
    wait_ms: u64,
}

#[derive(Debug, Default)]
struct Room {
    held: Vec<Held>,
    beliefs: Vec<Belief>,
    /// Where the search for free ports goes on.
    next_port: u64,
}

#[derive(Debug)]
struct Held {
    id: Arc<str>,
    resources: Vec<Resource>,
    room: Resources,
}

#[derive(Clone, Copy, Debug)]
struct Belief {
    room: Resources,
    /// Dropped then; unset until a REVIVE has been sent after it arose.
    expires: Option<Millis>,
    origin: Origin,
}

/// How room came to be free and not in our hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// An ACCEPT left it over, or the connection on which it was held is gone.
    Left,
    /// It was of no use and given back then.
    Declined(Millis),
    /// A task has ended then.
    Freed(Millis),
}

/// The room that was held on an agent, to be used in one ACCEPT.
pub struct Taken {
    pub offers: Vec<Arc<str>>,
    pub stock: Stock,
    pub next_port: u64,
}

impl Offers {
    /// The agent's place in the world, where it is entered if need be.
    pub fn agent(&mut self, world: &mut World, id: &Arc<str>) -> AgentIx {
        if let Some(ix) = self.agents.get(id) {
            return *ix;
        }
        let ix = AgentIx(u32::try_from(world.agents.len()).unwrap_or(u32::MAX));
        world.agents.push(Agent { id: id.clone(), ..Agent::default() });
        self.agents.insert(id.clone(), ix);
        ix
    }

    pub fn known(&self, id: &str) -> Option<AgentIx> {
        self.agents.get(id).copied()
    }

    /// Takes an offer into the table. Returns its id when it is of no use and has to be declined: the agent is about to go.
    pub fn receive(&mut self, offer: Offer, world: &mut World) -> Option<Arc<str>> {
        let ix = self.agent(world, &offer.agent_id.value);
        let agent = &mut world.agents[ix.0 as usize];
        agent.hostname = offer.hostname;
        agent.attributes = wire::attributes(&offer.attributes);
        agent.present = true;
        if agent.departs {
            self.void(ix, world);
            return Some(offer.id.value);
        }
        if self.outstanding.insert(offer.id.value.clone(), ix).is_none() {
            let room = carve::room(&offer.resources);
            agent.gpus |= room.gpu > 0;
            let place = self.room(ix);
            let freed = place.consume(room);
            place.held.push(Held { id: offer.id.value, resources: offer.resources, room });
            if freed {
                self.futile.wait_ms = 0;
            }
        }
        self.publish(ix, world);
        None
    }

    /// Forgets an offer that the master has withdrawn.
    pub fn rescind(&mut self, id: &str, world: &mut World) {
        if let Some(ix) = self.outstanding.remove(id) {
            self.room(ix).held.retain(|held| &*held.id != id);
            self.publish(ix, world);
        }
    }

    /// The agent is gone, and with it all room there.
    pub fn void(&mut self, ix: AgentIx, world: &mut World) {
        for held in std::mem::take(self.room(ix)).held {
            self.outstanding.remove(&held.id);
        }
        self.publish(ix, world);
    }

    /// All offers are void, as the connection is; their room is still there and will be offered again.
    pub fn disconnected(&mut self, world: &mut World) {
        self.outstanding.clear();
        for place in 0..self.rooms.len() {
            let room = &mut self.rooms[place];
            let held: Resources = room.held.drain(..).map(|held| held.room).sum();
            room.believe(held, Origin::Left);
            // What does not come back after a change of the master need not have gone to somebody else.
            room.beliefs.iter_mut().for_each(|belief| (belief.expires, belief.origin) = (None, Origin::Left));
            self.publish(AgentIx(u32::try_from(place).unwrap_or(u32::MAX)), world);
        }
        self.next_expiry = None;
    }

    /// A connection is made: room may take longer than usual to be offered.
    pub fn subscribed(&mut self, now: Millis) {
        self.believed_until = now + BELIEVED_AFTER_SUBSCRIBED_MS;
    }

    /// Takes all offers of the agent out of the table, to be accepted.
    pub fn take(&mut self, ix: AgentIx, world: &mut World) -> Taken {
        let place = self.room(ix);
        let (held, next_port) = (std::mem::take(&mut place.held), place.next_port);
        let mut stock = Stock::default();
        for held in &held {
            stock.add(&held.resources);
        }
        let offers: Vec<_> = held.into_iter().map(|held| held.id).collect();
        for id in &offers {
            self.outstanding.remove(id);
        }
        self.publish(ix, world);
        Taken { offers, stock, next_port }
    }

    /// Takes all offers of the agent out of the table, to be declined: their room is believed to be free.
    pub fn give_back(&mut self, ix: AgentIx, world: &mut World, now: Millis) -> Vec<Arc<str>> {
        let taken = self.take(ix, world);
        if world.agents[ix.0 as usize].present {
            self.room(ix).believe(taken.stock.room(), Origin::Declined(now));
            self.publish(ix, world);
        }
        taken.offers
    }

    /// Where the search for free ports on this agent goes on.
    pub fn ports_used(&mut self, ix: AgentIx, next: u64) {
        self.room(ix).next_port = next;
    }

    /// This room on the agent has come free and is not in our hands; `freed`: when the task ended that used it, if one did.
    pub fn believe(&mut self, ix: AgentIx, room: Resources, freed: Option<Millis>, world: &mut World) {
        if world.agents[ix.0 as usize].present {
            self.room(ix).believe(room, freed.map_or(Origin::Left, Origin::Freed));
            self.publish(ix, world);
        }
    }

    /// Whether there is room, believed to be free, for which no REVIVE has been sent. What was of no use counts only where it is awaited.
    pub fn unasked(&self, awaited: &[AgentIx], now: Millis) -> bool {
        let worth_asking = |place: usize, belief: &Belief| match belief.origin {
            _ if belief.expires.is_some() => false,
            Origin::Declined(at) => at + DECLINED_FOR_MS <= now && awaited.iter().any(|ix| ix.0 as usize == place),
            Origin::Left | Origin::Freed(_) => true,
        };
        let mut places = self.rooms.iter().enumerate();
        places.any(|(place, room)| room.beliefs.iter().any(|belief| worth_asking(place, belief)))
    }

    /// Whether a task's room has been asked for after its end and has not come.
    pub fn awaits_freed(&self) -> bool {
        let awaited = |belief: &Belief| belief.expires.is_some() && belief.missing().is_some();
        self.rooms.iter().flat_map(|room| &room.beliefs).any(awaited)
    }

    /// A REVIVE goes out.
    pub fn revived(&mut self, now: Millis) {
        for belief in self.rooms.iter_mut().flat_map(|room| &mut room.beliefs).filter(|belief| belief.expires.is_none()) {
            let freed = matches!(belief.origin, Origin::Freed(_));
            let patience = if freed { FREED_BELIEVED_MS } else { BELIEVED_AFTER_REVIVE_MS };
            let expires = self.believed_until.max(now + patience);
            belief.expires = Some(expires);
            self.next_expiry = Some(self.next_expiry.map_or(expires, |next| next.min(expires)));
        }
    }

    /// Drops the beliefs that have not come true. Tells whether there were any.
    pub fn expire(&mut self, world: &mut World, now: Millis) -> bool {
        if self.next_expiry.is_none_or(|next| next > now) {
            return false;
        }
        let mut changed = false;
        for place in 0..self.rooms.len() {
            let beliefs = &mut self.rooms[place].beliefs;
            let expired: Vec<_> = beliefs.extract_if(.., |belief| belief.expires.is_some_and(|at| at <= now)).collect();
            for belief in &expired {
                if let Some(at) = belief.missing() {
                    self.futile.strike(at, world, now);
                }
            }
            if !expired.is_empty() {
                changed = true;
                self.publish(AgentIx(u32::try_from(place).unwrap_or(u32::MAX)), world);
            }
        }
        self.next_expiry = self.rooms.iter().flat_map(|room| &room.beliefs).filter_map(|belief| belief.expires).min();
        changed
    }

    pub fn next_expiry(&self) -> Option<Millis> {
        self.next_expiry
    }

    /// Agents of which offers are held.
    pub fn holding(&self) -> Vec<AgentIx> {
        let with_offers = self.rooms.iter().enumerate().filter(|(_, room)| !room.held.is_empty());
        with_offers.filter_map(|(place, _)| u32::try_from(place).ok().map(AgentIx)).collect()
    }

    fn room(&mut self, ix: AgentIx) -> &mut Room {
        let place = ix.0 as usize;
        if self.rooms.len() <= place {
            self.rooms.resize_with(place + 1, Room::default);
        }
        &mut self.rooms[place]
    }

    fn publish(&mut self, ix: AgentIx, world: &mut World) {
        let room = self.room(ix);
        let agent = &mut world.agents[ix.0 as usize];
        agent.held = room.held.iter().map(|held| held.room).sum();
        agent.expected = room.beliefs.iter().map(|belief| belief.room).sum();
    }

    /// Attributes and hosts of agents of which no offer has come.
    pub fn describe(&mut self, world: &mut World, id: &Arc<str>, hostname: &str, attributes: BTreeMap<String, String>) {
        let Some(ix) = self.known(id) else { return };
        let agent = &mut world.agents[ix.0 as usize];
        if agent.hostname.is_empty() {
            agent.hostname = hostname.into();
            agent.attributes = attributes;
        }
    }
}

impl Belief {
    /// When the task ended whose room this is, unless that has come but for a rest that no task can use.
    fn missing(&self) -> Option<Millis> {
        match self.origin {
            Origin::Freed(at) if self.room.cpu > 0 && self.room.memory > 0 => Some(at),
            _ => None,
        }
    }
}

impl Futile {
    /// Room that came free at `freed` went to somebody else. All that had come free before the last strike belongs to it.
    fn strike(&mut self, freed: Millis, world: &mut World, now: Millis) {
        if self.wait_ms > 0 && freed <= self.since {
            return;
        }
        let again = self.wait_ms > 0 && now < world.futile_until + MAX_FUTILE_MS;
        self.wait_ms = if again { (self.wait_ms * 2).min(MAX_FUTILE_MS) } else { FUTILE_MS };
        (self.since, world.futile_until) = (now, now + self.wait_ms);
    }
}

impl Room {
    fn believe(&mut self, room: Resources, origin: Origin) {
        let room = room.max(Resources::ZERO);
        if room.is_zero() {
            return;
        }
        match self.beliefs.last_mut().filter(|belief| belief.expires.is_none() && belief.origin == origin) {
            Some(belief) => belief.room += room,
            None => self.beliefs.push(Belief { room, expires: None, origin }),
        }
    }

    /// Room that has been offered is not believed any longer, oldest first. It may be less than what was believed: the offer may have
    /// crossed the call that gave rise to the latest belief. Tells whether some of it is what a task has freed.
    fn consume(&mut self, mut offered: Resources) -> bool {
        let mut freed = false;
        for belief in &mut self.beliefs {
            let part = belief.room.min(offered);
            freed |= matches!(belief.origin, Origin::Freed(_)) && part.cpu.max(part.memory) > 0;
            (belief.room, offered) = (belief.room - part, offered - part);
        }
        // Crumbs without processor or memory are of no use to any task.
        self.beliefs.retain(|belief| belief.room.cpu > 0 || belief.room.memory > 0);
        freed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::offer;
    use super::*;

    const A: AgentIx = AgentIx(0);

    fn cores(n: i64) -> Resources {
        Resources::new(n * 1000, n * 1024)
    }

    fn with_offer() -> (Offers, World) {
        let (mut offers, mut world) = (Offers::default(), World::default());
        assert_eq!(offers.receive(offer("O1", "A", 4), &mut world), None);
        (offers, world)
    }

    #[test]
    fn offers_are_room_once() {
        let (mut offers, mut world) = with_offer();
        offers.receive(offer("O1", "A", 4), &mut world);
        offers.receive(offer("O2", "A", 1), &mut world);
        assert_eq!(world.agents[0].held, cores(5));
        assert_eq!((&*world.agents[0].hostname, world.agents[0].attributes["rack"].as_str()), ("host-A", "r1"));
        offers.rescind("O1", &mut world);
        offers.rescind("O1", &mut world);
        assert_eq!(world.agents[0].held, cores(1));
        assert_eq!(offers.take(A, &mut world).offers, [Arc::from("O2")]);
        assert!(world.agents[0].held.is_zero());
    }

    #[test]
    fn a_belief_lasts_until_its_room_comes_or_a_revive_brings_nothing() {
        let (mut offers, mut world) = with_offer();
        offers.give_back(A, &mut world, 0);
        assert_eq!((world.agents[0].held, world.agents[0].expected), (cores(0), cores(4)));
        assert!(!offers.unasked(&[A], 99), "it has just been declined");
        assert!(!offers.unasked(&[], 100), "nobody waits for it");
        assert!(offers.unasked(&[A], 100) && !offers.expire(&mut world, 1 << 40));
        offers.revived(100);
        assert!(!offers.unasked(&[A], 100) && !offers.expire(&mut world, 599));
        offers.receive(offer("O2", "A", 3), &mut world);
        assert_eq!((world.agents[0].held, world.agents[0].expected), (cores(3), cores(1)));
        offers.believe(A, cores(2), None, &mut world);
        assert!(offers.expire(&mut world, 600));
        assert_eq!(world.agents[0].expected, cores(2), "what arose after the REVIVE is still believed");
    }

    #[test]
    fn freed_room_that_goes_elsewhere_is_a_warning() {
        let (mut offers, mut world) = with_offer();
        offers.take(A, &mut world);
        let mut expired = |offers: &mut Offers, freed: &[Millis], asked: Millis| {
            freed.iter().for_each(|at| offers.believe(A, cores(1), Some(*at), &mut world));
            offers.revived(asked);
            assert!(!offers.expire(&mut world, asked + 1999), "the master's next batch is waited for");
            assert!(offers.expire(&mut world, asked + 2000));
            world.futile_until
        };
        assert_eq!(expired(&mut offers, &[5, 8], 10), 2010 + 5000, "all that was freed at once is one");
        assert_eq!(expired(&mut offers, &[2000], 2000), 7010, "freed before that was known");
        assert_eq!(expired(&mut offers, &[8000], 8000), 10_000 + 10_000);
        let long: Vec<_> = (1..5).map(|n| expired(&mut offers, &[n * 30_000], n * 30_000) - n * 30_000 - 2000).collect();
        assert_eq!(long, [20_000, 40_000, 60_000, 60_000]);
        assert_eq!(expired(&mut offers, &[999_000], 999_000), 1_001_000 + 5000, "long ago");
        assert_eq!(expired(&mut offers, &[1_010_000], 1_010_000), 1_012_000 + 10_000);
        offers.believe(A, cores(1), Some(1_020_000), &mut world);
        offers.revived(1_020_000);
        assert!(offers.awaits_freed());
        offers.receive(offer("O2", "A", 1), &mut world);
        assert!(!offers.awaits_freed());
        offers.believe(A, cores(1), Some(1_030_000), &mut world);
        offers.revived(1_030_000);
        offers.expire(&mut world, 1_032_000);
        assert_eq!(world.futile_until, 1_032_000 + 5000, "some has come to us meanwhile");
    }

    #[test]
    fn ports_go_on_where_they_ended() {
        let (mut offers, mut world) = with_offer();
        offers.ports_used(A, 31_001);
        assert_eq!(offers.take(A, &mut world).next_port, 31_001);
    }

    #[test]
    fn a_lost_agent_has_no_room() {
        let (mut offers, mut world) = with_offer();
        offers.believe(A, cores(1), None, &mut world);
        world.agents[0].present = false;
        offers.void(A, &mut world);
        offers.believe(A, cores(1), None, &mut world);
        assert!(world.agents[0].held.is_zero() && world.agents[0].expected.is_zero());
        offers.receive(offer("O2", "A", 4), &mut world);
        assert!(world.agents[0].present);
    }

    #[test]
    fn a_lost_connection_makes_held_room_expected() {
        let (mut offers, mut world) = with_offer();
        offers.disconnected(&mut world);
        assert_eq!((world.agents[0].held, world.agents[0].expected), (cores(0), cores(4)));
        offers.subscribed(1000);
        offers.revived(1000);
        assert!(!offers.expire(&mut world, 10_999), "agents may take seconds to come back");
        assert!(offers.expire(&mut world, 11_000));
    }

    #[test]
    fn room_on_agents_that_are_about_to_go_is_not_held() {
        let (mut offers, mut world) = with_offer();
        world.agents[0].departs = true;
        assert_eq!(offers.receive(offer("O2", "A", 4), &mut world), Some("O2".into()));
        assert!(world.agents[0].present && world.agents[0].held.is_zero());
    }
}
