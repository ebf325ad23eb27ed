//! The state machine: inputs and orders change the world, and requests come out. No I/O, no clock, no randomness.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::advice::advice;
use super::capacity::Room;
use super::ledger::Managed;
use super::project::project;
use super::targets::Change;
use super::wire::{Event, Info, Snapshot};
use crate::api::validated::{Key, MarathonPool};
use crate::backend::mesos::agents::Agent;
use crate::backend::{Applied, Ending, Note, Standing};
use crate::policy::world::{AgentIx, Millis, World};

mod answers;
mod events;
mod orders;
mod read;
mod seats;
mod specs;
mod trouble;

/// Everything is read anew at least this often: events can be lost, and some things are in none.
const READ_EVERY_MS: u64 = 15_000;
/// As often while something takes longer than it should.
const LOOK_CLOSER_MS: u64 = 2000;
/// Not more often than this.
const READ_PAUSE_MS: u64 = 250;
/// How often Mesos is asked for its agents. What our own replicas use is known without that.
const AGENTS_EVERY_MS: u64 = 5000;

/// What happens to a [`Machine`].
#[derive(Debug)]
pub enum Input {
    Connected {
        leader: String,
        info: Box<Info>,
    },
    Wire(Event),
    Read {
        serial: u64,
        result: Result<Snapshot, String>,
    },
    Agents(Result<Vec<Agent>, String>),
    Answered {
        serial: u64,
        answer: Answer,
    },
    Disconnected {
        why: String,
        tries: u32,
    },
    /// Not connected, and a person has to act; it is tried again now and then.
    Blocked(String),
    /// Another process leads; who, in words.
    StandingBy(String),
}

/// What became of a request.
#[derive(Debug)]
pub enum Answer {
    /// It is carried out by this deployment.
    Done { deployment: Option<Arc<str>> },
    /// It is not what Marathon takes: nothing was changed.
    Refused { status: u16, message: String },
    /// Nothing was changed, but it may be later.
    Later { message: String, retry_in_ms: u64 },
    /// It may have been carried out, or not.
    Unknown { message: String, retry_in_ms: u64 },
}

/// What is asked of Marathon, or of Mesos.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// All apps with their tasks, and what waits for room.
    Read,
    Agents,
    /// So many instances of each, all or nothing.
    Scale(Vec<(Arc<str>, i64)>),
    /// These tasks end, and the numbers are lowered by them.
    Shrink(Vec<Arc<str>>),
    Create(Box<serde_json::Value>),
    Update(Arc<str>, Box<serde_json::Value>),
    Delete(Arc<str>),
    ResetDelay(Arc<str>),
    /// This task ends, and Marathon puts another in its place.
    Replace(Arc<str>),
}

/// A request on its way out.
#[derive(Debug)]
pub struct Outgoing {
    pub serial: u64,
    pub request: Request,
    /// How often in a row requests have failed: the next try waits longer.
    pub tries: u32,
    pub caused_at: Option<Instant>,
}

/// A request that has not been answered.
#[derive(Debug)]
struct Flight {
    request: Request,
    /// What it is to bring about.
    changes: Vec<(Key, Change)>,
    sent: Millis,
}

/// A reading that is under way, and what has happened since it was asked for: it may not know of that.
#[derive(Debug)]
struct Reading {
    serial: u64,
    since: Vec<Event>,
}

/// All that is known about the Marathon beside the world.
pub struct Machine {
    pool: Arc<MarathonPool>,
    apps: BTreeMap<Key, Managed>,
    by_id: HashMap<Arc<str>, Key>,
    room: Room,
    standing: Standing,
    version: String,
    framework: Option<String>,
    role: String,
    /// All has been read since the connection was made.
    has_read: bool,
    flights: BTreeMap<u64, Flight>,
    serial: u64,
    reading: Option<Reading>,
    read_at: Option<Millis>,
    last_read: Millis,
    agents_at: Option<Millis>,
    agents_asked: bool,
    /// After a failure no request before this.
    hold_until: Millis,
    tries: u32,
    /// Of several apps in one request that was refused, each is asked for by itself.
    alone: BTreeSet<Key>,
    /// Apps that differ from what the world shows.
    dirty: BTreeSet<Key>,
    room_changed: bool,
    pub outbox: Vec<Outgoing>,
    pub launches: Vec<Duration>,
    caused_at: Option<Instant>,
}

/// What comes of an input beside changes of state.
#[derive(Debug, Default)]
struct Out {
    applied: Applied,
}

impl Out {
    fn end(&mut self, ending: Ending) {
        self.applied.decide = true;
        self.applied.endings.push(ending);
    }

    fn note(&mut self, warning: bool, reason: &'static str, message: String) {
        self.applied.notes.push(Note { warning, reason, message });
    }
}

impl Machine {
    pub fn new(pool: &Arc<MarathonPool>) -> Self {
        let message = format!("connecting to {}", pool.marathon.urls.join(", "));
        Self {
            pool: pool.clone(),
            apps: BTreeMap::new(),
            by_id: HashMap::new(),
            room: Room::new(&pool.room),
            standing: Standing { message, ..Standing::default() },
            version: String::new(),
            framework: None,
            role: "*".to_owned(),
            has_read: false,
            flights: BTreeMap::new(),
            serial: 0,
            reading: None,
            read_at: None,
            last_read: 0,
            agents_at: None,
            agents_asked: false,
            hold_until: 0,
            tries: 0,
            alone: BTreeSet::new(),
            dirty: BTreeSet::new(),
            room_changed: true,
            outbox: Vec::new(),
            launches: Vec::new(),
            caused_at: None,
        }
    }

    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The id of Marathon's framework and its role, for whoever asks Mesos.
    pub fn framework(&self) -> (Option<String>, String) {
        (self.framework.clone(), self.role.clone())
    }

    pub fn apply(&mut self, input: Input, world: &mut World, now: Millis) -> Applied {
        let mut out = Out::default();
        match input {
            Input::Connected { leader, info } => self.connected(leader, &info, now, &mut out),
            Input::Wire(event) => self.heard(event, world, now, &mut out),
            Input::Read { serial, result } => self.read(serial, result, world, now, &mut out),
            Input::Agents(result) => self.agents(result, world, now, &mut out),
            Input::Answered { serial, answer } => self.answered(serial, answer, now, &mut out),
            Input::Disconnected { why, tries } => {
                let message = if tries > 1 { format!("{why} (tried {tries} times)") } else { why };
                self.disconnected(message, false, &mut out);
            }
            Input::Blocked(why) => self.disconnected(why, true, &mut out),
            Input::StandingBy(leader) => self.disconnected(format!("standing by: {leader}"), false, &mut out),
        }
        // The world follows with the next tick, once for all that has come.
        out.applied.decide |= !self.dirty.is_empty() || self.room_changed;
        out.applied
    }

    /// Retries, looks, and what time alone brings about.
    pub fn tick(&mut self, world: &mut World, now: Millis) -> (Applied, Option<Millis>) {
        let mut out = Out::default();
        self.follow(world, now, &mut out);
        let late: Vec<_> = self.apps.values_mut().filter_map(|app| app.reprieve(now)).collect();
        if self.standing.connected {
            self.look(now);
            self.give_back(world, now, &mut out);
        }
        self.settle(world, now, &mut out);
        (out.applied, self.next(late.into_iter().min(), now))
    }

    /// Asks for what is due.
    fn look(&mut self, now: Millis) {
        if self.apps.values().any(|app| app.waiting.iter().any(|waiting| waiting.since + LOOK_CLOSER_MS <= now)) {
            self.read_by(self.last_read + LOOK_CLOSER_MS);
        }
        if self.reading.is_none() && self.read_at.is_some_and(|at| at <= now) {
            self.serial += 1;
            (self.reading, self.read_at) = (Some(Reading { serial: self.serial, since: Vec::new() }), None);
            self.last_read = now;
            self.send(Request::Read);
        }
        if self.room.is_of_agents() && !self.agents_asked && self.agents_at.is_some_and(|at| at <= now) {
            self.agents_asked = true;
            self.send(Request::Agents);
        }
    }

    fn next(&self, late: Option<Millis>, now: Millis) -> Option<Millis> {
        if !self.standing.connected {
            return None;
        }
        let read = self.read_at.filter(|_| self.reading.is_none());
        let agents = self.agents_at.filter(|_| self.room.is_of_agents() && !self.agents_asked);
        let hold = Some(self.hold_until).filter(|at| *at > now);
        let conflict = self.apps.values().map(|app| app.conflict.not_before).filter(|at| *at > now).min();
        let closer = self.apps.values().any(|app| !app.waiting.is_empty()).then(|| now + LOOK_CLOSER_MS);
        [read, agents, hold, conflict, late, closer].into_iter().flatten().map(|at| at.max(now + 1)).min()
    }

    /// Everything is to be read anew by then.
    fn read_by(&mut self, at: Millis) {
        let at = at.max(self.last_read + READ_PAUSE_MS);
        self.read_at = Some(self.read_at.map_or(at, |before| before.min(at)));
    }

    fn send(&mut self, request: Request) {
        let (serial, tries) = (self.serial, self.tries);
        self.outbox.push(Outgoing { serial, request, tries, caused_at: None });
    }

    fn connected(&mut self, leader: String, info: &Info, now: Millis, out: &mut Out) {
        let advice = advice(&info.config);
        if !advice.is_empty() && self.standing.advice.as_ref() != Some(&advice) {
            out.note(true, "SlowFlags", advice.clone());
        }
        (self.framework, self.standing.advice) = (info.framework_id.clone(), Some(advice));
        self.role = info.config.mesos_role.clone().unwrap_or_else(|| "*".to_owned());
        self.standing.master = Some(leader);
        (self.standing.connected, self.standing.stalled) = (true, false);
        self.version.clone_from(&info.version);
        self.standing.message = self.greeting();
        (self.has_read, self.reading, self.read_at, self.agents_at) = (false, None, Some(now), Some(now));
        (self.agents_asked, self.last_read, self.hold_until, self.tries) = (false, 0, 0, 0);
        out.note(false, "Subscribed", self.standing.message.clone());
        self.look(now);
    }

    fn greeting(&self) -> String {
        format!("connected to Marathon {}", self.version)
    }

    /// What is known stays as it was; nothing is done before all has been read again.
    fn disconnected(&mut self, why: String, stalled: bool, out: &mut Out) {
        if self.standing.connected || self.standing.stalled != stalled {
            out.note(true, "Disconnected", why.clone());
            out.applied.decide = true;
        }
        (self.standing.connected, self.standing.ready, self.standing.stalled) = (false, false, stalled);
        self.standing.message = why;
        (self.has_read, self.reading, self.read_at, self.agents_at) = (false, None, None, None);
    }

    fn agents(&mut self, result: Result<Vec<Agent>, String>, world: &mut World, now: Millis, out: &mut Out) {
        self.agents_asked = false;
        match result {
            Ok(pages) => {
                self.room.seen(pages, world);
                (self.room_changed, out.applied.decide) = (true, true);
                self.agents_at = Some(now + AGENTS_EVERY_MS);
                if self.standing.connected {
                    self.standing.message = self.greeting();
                }
            }
            Err(why) => {
                self.standing.message = format!("{}; the agents cannot be read: {why}", self.greeting());
                self.agents_at = Some(now + LOOK_CLOSER_MS);
            }
        }
    }

    /// Brings the world in line with what is known, asks for what is wanted, and tells what is new.
    fn settle(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        let ready = self.standing.connected && self.has_read && self.room.known;
        if ready && !self.standing.ready {
            (self.standing.ready, out.applied.decide) = (true, true);
        }
        self.judge(world, now, out);
        self.ask(now);
        self.show(world, now, out);
    }

    /// The tasks of what has changed, and the room that is left.
    fn show(&mut self, world: &mut World, now: Millis, out: &mut Out) {
        // Nothing has a place before the agents are known.
        if !self.room.known || (self.dirty.is_empty() && !self.room_changed) {
            return;
        }
        out.applied.decide = true;
        let likeliest = self.likeliest(world);
        for key in std::mem::take(&mut self.dirty) {
            let Some(app) = self.apps.get_mut(&key) else { continue };
            app.settle_waiting(likeliest, now);
            let size = app.fitted.as_ref().map(|spec| spec.size);
            let size = size.or_else(|| app.known.as_ref().map(|known| self.room.counted(known.size))).unwrap_or_default();
            let tasks = project(app, size, now);
            if world.apps.contains_key(&key) || !tasks.is_empty() {
                world.apps.entry(key).or_default().tasks = tasks;
            }
        }
        let ours: BTreeSet<&str> = self.apps.values().map(|app| &*app.id).collect();
        self.room.refresh(world, &ours);
        self.reseat(world);
        self.room_changed = false;
    }

    fn likeliest(&mut self, world: &mut World) -> AgentIx {
        self.room.likeliest(world)
    }

    fn touch(&mut self, key: &Key) {
        self.dirty.insert(key.clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
