//! Which offer takes which instance.

use super::constraints;
use super::definition::Definition;
use super::instance::{Condition, Instance};
use super::queue::{Launches, REASONS};
use super::time::Millis;
use super::{Call, Core, events, task_info};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is left of an offer.
pub(super) struct Room<'a> {
    pub offer: &'a Value,
    scalars: BTreeMap<&'static str, f64>,
    ports: Vec<u16>,
    tasks: Vec<Value>,
}

impl<'a> Room<'a> {
    fn new(offer: &'a Value) -> Self {
        let scalars =
            ["cpus", "mem", "disk", "gpus"].into_iter().map(|name| (name, microscaler_testbed::bare::scalar(offer, name)));
        let resources = offer["resources"].as_array().into_iter().flatten().filter(|resource| resource["name"] == "ports");
        let ranges = resources.flat_map(|resource| resource["ranges"]["range"].as_array().into_iter().flatten());
        let bound = |range: &Value, end: &str| range[end].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let ports = ranges.flat_map(|range| bound(range, "begin")..=bound(range, "end")).collect();
        Self { offer, scalars: scalars.collect(), ports, tasks: Vec::new() }
    }

    pub fn text(&self, name: &str) -> String {
        self.offer[name]["value"].as_str().or(self.offer[name].as_str()).unwrap_or_default().to_owned()
    }

    /// Takes the room for an instance; its ports, or the index of the reason why not.
    fn take(&mut self, definition: &Definition, is_constrained: bool) -> Result<Vec<u16>, usize> {
        let reason = |name: &str| REASONS.iter().position(|reason| *reason == name).unwrap_or(0);
        if is_constrained {
            return Err(reason("UnfulfilledConstraint"));
        }
        for (name, why) in [
            ("cpus", "InsufficientCpus"),
            ("mem", "InsufficientMemory"),
            ("disk", "InsufficientDisk"),
            ("gpus", "InsufficientGpus"),
        ] {
            // Sums of tenths are not exact.
            if definition.number(name) > self.scalars[name] + 1e-9 {
                return Err(reason(why));
            }
        }
        let ports = self.take_ports(definition).ok_or(reason("InsufficientPorts"))?;
        for (name, left) in &mut self.scalars {
            *left -= definition.number(name);
        }
        Ok(ports)
    }

    /// Any ports, as many as are defined; or exactly those, if the app requires them.
    fn take_ports(&mut self, definition: &Definition) -> Option<Vec<u16>> {
        let wanted = definition.list("portDefinitions");
        let is_fixed = definition.get("requirePorts") == true;
        let mut taken = Vec::new();
        for port in wanted {
            let exact = port["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|_| is_fixed);
            let index = match exact {
                Some(port) => self.ports.iter().position(|free| *free == port && !taken.contains(free))?,
                None => random_index(self.ports.len())?,
            };
            taken.push(self.ports.swap_remove(index));
        }
        Some(taken)
    }
}

fn random_index(length: usize) -> Option<usize> {
    let mut bytes = [0_u8; 4];
    // Four bytes never come short.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    usize::try_from(u32::from_ne_bytes(bytes)).ok()?.checked_rem(length)
}

impl Core {
    /// Those that wait for an offer and not for the end of a delay, by the age of their app's wait.
    pub(super) fn launchable(&self, now: Millis) -> impl Iterator<Item = &Instance> {
        let may_start = move |instance: &&Instance| {
            instance.waits_for_offer()
                && instance.scheduled_at <= now
                && self.state.apps.contains_key(&instance.app)
                && !self.queue.get(&instance.app).is_some_and(|launches| launches.is_delayed(now))
        };
        self.state.instances.values().filter(may_start)
    }

    /// Offers of Mesos, as JSON. While nothing waits for one, they are kept for a moment.
    pub fn on_offers(&mut self, offers: Vec<Value>, now: Millis) {
        let deadline = now + self.settings.offer_matching_timeout;
        self.held_offers.extend(offers.into_iter().map(|offer| (deadline, offer)));
        self.use_held_offers(now);
    }

    /// Mesos has taken one back.
    pub fn on_rescinded(&mut self, id: &str) {
        self.held_offers.retain(|(_, offer)| offer["id"]["value"] != id);
    }

    /// What has been kept is for what waits now; or is declined, if nothing has come in time.
    pub(super) fn use_held_offers(&mut self, now: Millis) {
        if self.held_offers.is_empty() {
            return;
        }
        if self.tokens > 0 && self.launchable(now).next().is_some() {
            let offers: Vec<Value> = std::mem::take(&mut self.held_offers).into_iter().map(|(_, offer)| offer).collect();
            self.match_offers(&offers, now);
        }
        let refuse = self.settings.decline_offer_duration;
        let (kept, over): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held_offers).into_iter().partition(|(deadline, _)| now < *deadline);
        self.held_offers = kept;
        self.calls.extend(over.iter().map(|(_, offer)| Call::Decline { offer: Room::new(offer).text("id"), refuse }));
    }

    /// Each is accepted or declined; they are filled in turn.
    fn match_offers(&mut self, offers: &[Value], now: Millis) {
        let mut rooms: Vec<Room> = offers.iter().map(Room::new).collect();
        let mut waiting: Vec<(Millis, u64, String)> = self
            .launchable(now)
            .map(|instance| (self.queue.get(&instance.app).map_or(0, Launches::since), instance.order, instance.id.clone()))
            .collect();
        waiting.sort();
        let mut open: Vec<usize> = (0..rooms.len()).collect();
        while !open.is_empty() {
            open.retain(|index| self.fill(&mut rooms[*index], &mut waiting, now));
        }
        for room in rooms {
            let offer = room.text("id");
            self.calls.push(if room.tasks.is_empty() {
                Call::Decline { offer, refuse: self.settings.decline_offer_duration }
            } else {
                Call::Accept { offer, tasks: room.tasks }
            });
        }
        let idle = self
            .queue
            .iter_mut()
            .filter(|(app, _)| !self.state.instances.values().any(|one| one.app == **app && one.waits_for_offer()));
        idle.for_each(|(_, launches)| launches.end());
    }

    /// Puts one instance into the room; false if none fits or no more may.
    fn fill(&mut self, room: &mut Room, waiting: &mut Vec<(Millis, u64, String)>, now: Millis) -> bool {
        if room.tasks.len() >= self.settings.max_instances_per_offer || self.tokens == 0 {
            return false;
        }
        let mut refused: Option<String> = None;
        for index in 0..waiting.len() {
            let Some(instance) = self.state.instances.get(&waiting[index].2) else { continue };
            // What does not fit for one instance of an app does not for the others.
            if refused.as_ref() == Some(&instance.app) {
                continue;
            }
            let Some(definition) = self.definition_of(instance).cloned() else { continue };
            let is_constrained = !constraints::are_met(&definition, &instance.app, room.offer, self.state.instances.values());
            let app = instance.app.clone();
            let taken = room.take(&definition, is_constrained);
            self.queue.entry(app.clone()).or_default().note_offer(room.offer, taken.as_ref().err().copied(), now);
            match taken {
                Ok(ports) => {
                    let (_, _, id) = waiting.remove(index);
                    self.provision(&id, &definition, room, ports, now);
                    return true;
                }
                Err(_) => refused = Some(app),
            }
        }
        false
    }

    fn provision(&mut self, id: &str, definition: &Definition, room: &mut Room, ports: Vec<u16>, now: Millis) {
        self.tokens -= 1;
        let Some(instance) = self.state.instances.get_mut(id) else { return };
        instance.condition = Condition::Provisioned;
        instance.incarnation += 1;
        instance.agent = Some(room.text("agent_id"));
        instance.host = Some(room.text("hostname"));
        instance.attributes = constraints::attributes(room.offer).to_vec();
        instance.ports = ports;
        instance.staged_at = Some(now);
        let info = task_info::task_info(instance, definition, room.offer);
        room.tasks.push(match &self.settings.testbed_pretender {
            Some(program) => task_info::pretended(info, program, room.offer),
            None => info,
        });
        let changed = events::instance_changed(instance, now);
        self.publish(changed);
    }

    /// After a subscription, with the id that Mesos has given.
    pub fn on_subscribed(&mut self, framework_id: &str, now: Millis) {
        self.state.framework_id = Some(framework_id.to_owned());
        self.is_dirty = true;
        self.reviver.on_subscribed();
        self.held_offers.clear();
        self.kill_doomed_again(now);
    }
}
