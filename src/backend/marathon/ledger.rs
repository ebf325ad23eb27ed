//! One app: what Marathon says of it, and what we want of it. Which of its replicas end is told here, as Marathon itself would choose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::targets::Change;
use super::wire::{AppDoc, KillSelection, Queued};
use crate::api::marathon::VictimChoice;
use crate::api::validated::{App, Key};
use crate::policy::resources::Resources;
use crate::policy::world::{AgentIx, Millis, Trouble};

/// Of the deployments that we have set off, so many are remembered.
const OURS: usize = 32;
/// A replica that should have ended and has not, so long after its grace period, is counted again.
const LATE_MS: u64 = 10_000;

/// The label of an app that we have made: the app's key, the pool's, and what its definition was made from.
pub const LABEL_APP: &str = "MICROSCALER_APP";
pub const LABEL_POOL: &str = "MICROSCALER_POOL";
pub const LABEL_VERSION: &str = "MICROSCALER_VERSION";

/// An app of ours on Marathon.
#[derive(Debug)]
pub struct Managed {
    pub key: Key,
    pub id: Arc<str>,
    /// We make it, change it and delete it. Otherwise only the number of its instances is ours.
    pub owned: bool,
    /// As its spec has it, and that with what Marathon says of it.
    pub given: Option<Arc<App>>,
    pub fitted: Option<Arc<App>>,
    /// Of one that is ours: what its definition is made from, or what of its spec Marathon cannot do.
    pub wording: Result<String, String>,
    /// It was looked for since its spec was first seen.
    pub sought: bool,
    /// `None`: it is not there.
    pub known: Option<Known>,
    /// Of its instances, which outlive it.
    pub grace_ms: u64,
    pub instances: BTreeMap<Arc<str>, Instance>,
    /// Replicas that are wanted and not there.
    pub waiting: Vec<Waiting>,
    /// So many instances are wanted.
    pub target: i64,
    /// A request about it is on its way.
    pub busy: bool,
    /// It is not known whether the last request was carried out: nothing more is asked before it is.
    pub uncertain: bool,
    /// The numbers that it may have come to by that: any other is somebody else's. `None`: any.
    pub likely: Option<RangeInclusive<i64>>,
    /// The last answer about it, by the count of requests: what was read before is older.
    pub answered: u64,
    pub deployments: BTreeSet<Arc<str>>,
    pub ours: VecDeque<Arc<str>>,
    /// Deployments that began while a request was on its way, so that nobody knows yet whether they are ours.
    pub unclaimed: Vec<Arc<str>>,
    pub queued: Option<Queued>,
    /// When replicas were asked for that do not run yet.
    pub asked_at: VecDeque<Millis>,
    pub conflict: Conflict,
    pub cures: Cures,
    /// Marathon does not take what we ask of it: why, and since when.
    pub refused: Option<(String, Millis)>,
    /// As last told.
    pub trouble: Option<Trouble>,
}

/// What happened when others changed the number of instances.
#[derive(Debug, Default)]
pub struct Conflict {
    /// How often it was put back, and when last.
    pub put_back: u32,
    pub last: Millis,
    /// Not put back before this.
    pub not_before: Millis,
    /// It is left to them while the spec is of this generation.
    pub yielded: Option<i64>,
}

/// What is tried when Marathon does not act. Each is tried only so often for one change of ours.
#[derive(Debug, Default)]
pub struct Cures {
    pub delays_reset: u32,
    pub nudges: u32,
    /// An instance more or less than wanted, to be asked for first: Marathon does nothing for a number that it has already.
    pub nudge: Option<i64>,
    /// Since when fewer run than asked for, and nothing is said to be going on.
    pub idle_since: Option<Millis>,
    /// Since when a rollover finds no room for its next instance, and how many old ones were left when one was last ended for it.
    pub cramped_since: Option<Millis>,
    pub old_left: Option<usize>,
}

/// An app as Marathon has it.
#[derive(Clone, Debug)]
pub struct Known {
    /// So many are asked for. We know it from our own requests before it is read again.
    pub instances: i64,
    pub size: Resources,
    pub kill_selection: KillSelection,
    pub grace_ms: i64,
    pub is_checked: bool,
    pub config_since: Option<Arc<str>>,
    /// Of those that we have made: app, pool, version.
    pub labels: Option<[String; 3]>,
}

/// A replica that Marathon has found a place for.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub task: Arc<str>,
    pub incarnation: u32,
    pub agent: AgentIx,
    pub state: State,
    pub healthy: Option<bool>,
    pub version: Option<Arc<str>>,
    /// When it began to run, as Marathon has it.
    pub active_since: Option<Arc<str>>,
    /// When it entered its state, and when it was first heard of.
    pub since: Millis,
    pub born: Millis,
    /// It is to end; Marathon does not know yet.
    pub chosen: bool,
    /// Marathon is ending it, or will have begun to, since then.
    pub doomed: Option<Millis>,
    pub unhealthy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Unreachable,
    Starting,
    Running,
}

/// A replica that waits for its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub id: Arc<str>,
    /// Where its room is expected.
    pub agent: AgentIx,
    pub since: Millis,
}

impl Known {
    #[allow(clippy::cast_possible_truncation)]
    pub fn of(doc: &AppDoc) -> Self {
        let milli = |amount: f64| (amount * 1000.0).round() as i64;
        let is_on_host = doc.networks.iter().all(|network| network.mode == "host");
        let ports = doc.port_definitions.as_ref().filter(|_| is_on_host).map_or(0, Vec::len);
        let label = |name: &str| doc.labels.get(name).cloned();
        Self {
            instances: doc.instances,
            size: Resources {
                cpu: milli(doc.cpus),
                memory: milli(doc.mem),
                disk: milli(doc.disk),
                gpu: doc.gpus,
                ports: i64::try_from(ports).unwrap_or(i64::MAX),
            },
            kill_selection: doc.kill_selection,
            grace_ms: milli(doc.task_kill_grace_period_seconds.unwrap_or(3.0)),
            is_checked: !doc.health_checks.is_empty(),
            config_since: doc.version_info.as_ref().map(|info| info.last_config_change_at.clone()),
            labels: label(LABEL_APP)
                .map(|app| [app, label(LABEL_POOL).unwrap_or_default(), label(LABEL_VERSION).unwrap_or_default()]),
        }
    }

    /// Started from a definition that has changed since.
    fn is_outdated(&self, instance: &Instance) -> bool {
        self.config_since.as_ref().zip(instance.version.as_ref()).is_some_and(|(config, version)| version < config)
    }
}

impl Managed {
    pub fn new(key: Key, id: Arc<str>, owned: bool) -> Self {
        Self {
            key,
            id,
            owned,
            given: None,
            fitted: None,
            wording: Ok(String::new()),
            sought: false,
            known: None,
            grace_ms: 0,
            instances: BTreeMap::new(),
            waiting: Vec::new(),
            target: 0,
            busy: false,
            uncertain: false,
            likely: None,
            answered: 0,
            deployments: BTreeSet::new(),
            ours: VecDeque::new(),
            unclaimed: Vec::new(),
            queued: None,
            asked_at: VecDeque::new(),
            conflict: Conflict::default(),
            cures: Cures::default(),
            refused: None,
            trouble: None,
        }
    }

    /// Instances that Marathon counts and has placed: all but those that it is ending.
    pub fn placed(&self) -> i64 {
        count(self.instances.values().filter(|instance| instance.doomed.is_none()))
    }

    /// The same without those that we are going to end.
    pub fn live(&self) -> i64 {
        count(self.instances.values().filter(|instance| instance.doomed.is_none() && !instance.chosen))
    }

    /// Instances that are asked for and have no place yet: Marathon goes on looking for one.
    pub fn unplaced(&self) -> i64 {
        self.known.as_ref().map_or(0, |known| (known.instances - self.placed()).max(0))
    }

    /// Those that end first when there are fewer wanted: not up yet, then by the app's `killSelection`; in a rollover the old ones.
    /// As `ScalingProposition` of Marathon 1.11 has it.
    pub fn in_order_of_ending(&self) -> Vec<Arc<str>> {
        let Some(known) = &self.known else { return Vec::new() };
        let mut order: Vec<_> = self.instances.iter().filter(|(_, instance)| instance.doomed.is_none()).collect();
        order.sort_by(|(a_id, a), (b_id, b)| {
            let age = a.active_since.cmp(&b.active_since).then_with(|| a_id.cmp(b_id));
            let age = if known.kill_selection == KillSelection::OldestFirst { age } else { age.reverse() };
            let first = |instance: &Instance| (!instance.chosen, !known.is_outdated(instance), instance.state);
            first(a).cmp(&first(b)).then(age)
        });
        order.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// The old instances, the one that would end next first, of a rollover in which nothing goes on while new ones wait for room.
    pub fn cramped(&self) -> Vec<Arc<str>> {
        let known = self.known.as_ref().filter(|_| self.owned && !self.busy && !self.uncertain);
        let queued = self.queued.as_ref().filter(|queued| queued.count > self.unplaced() && !queued.is_delayed());
        let moves = |instance: &Instance| instance.doomed.is_some() || instance.state == State::Starting;
        let (Some(known), Some(_), false) = (known, queued, self.deployments.is_empty()) else { return Vec::new() };
        if self.instances.values().any(moves) {
            return Vec::new();
        }
        let is_old = |id: &Arc<str>| self.instances.get(id).is_some_and(|instance| known.is_outdated(instance));
        self.in_order_of_ending().into_iter().filter(is_old).collect()
    }

    /// The instances beyond what is wanted, which end.
    pub fn surplus(&self) -> Vec<Arc<str>> {
        let beyond = usize::try_from(self.live() - self.target).unwrap_or(0);
        if beyond == 0 {
            return Vec::new();
        }
        let order = self.in_order_of_ending().into_iter();
        order.filter(|id| self.instances.get(id).is_some_and(|instance| !instance.chosen)).take(beyond).collect()
    }

    /// It is not known whether Marathon has made this change.
    pub fn doubt(&mut self, change: &Change) {
        let now = self.known.as_ref().map(|known| known.instances);
        let changed = match change {
            Change::Scale(instances) => Some(*instances),
            Change::Shrink(ids) => now.map(|now| now - count(ids.iter())),
            Change::Create(_) => None,
        };
        self.likely = now.zip(changed).map(|(now, changed)| now.min(changed)..=now.max(changed));
        self.uncertain = true;
    }

    /// Marathon asks for so many fewer.
    pub fn lowered_by(&mut self, count: usize) {
        if let Some(known) = &mut self.known {
            known.instances = (known.instances - i64::try_from(count).unwrap_or(i64::MAX)).max(0);
        }
    }

    /// Marathon has taken this number: the ones that it ends are those which it would choose.
    pub fn asked_for(&mut self, instances: i64, now: Millis) {
        let Some(known) = &mut self.known else { return };
        let before = std::mem::replace(&mut known.instances, instances);
        (0..instances - before).for_each(|_| self.asked_at.push_back(now));
        // Some may run already, before the answer, and others are not wanted any more: nobody waits for these, and what is kept of them
        // would be taken for the time of a later one.
        let runs = |instance: &&Instance| instance.state == State::Running && instance.doomed.is_none();
        let coming = instances - count(self.instances.values().filter(runs));
        self.asked_at.truncate(usize::try_from(coming).unwrap_or(0));
        let beyond = usize::try_from(self.placed() - instances).unwrap_or(0);
        let ends: Vec<_> = self.in_order_of_ending().into_iter().take(beyond).collect();
        self.doom(&ends, now);
    }

    pub fn doom(&mut self, ids: &[Arc<str>], now: Millis) {
        for id in ids {
            if let Some(instance) = self.instances.get_mut(id) {
                (instance.doomed, instance.chosen) = (Some(now), false);
            }
        }
    }

    /// What should have ended by now and has not was not what Marathon chose. Returns when to look again.
    pub fn reprieve(&mut self, now: Millis) -> Option<Millis> {
        let mut next = None;
        for instance in self.instances.values_mut() {
            let Some(since) = instance.doomed else { continue };
            let late = since.saturating_add(self.grace_ms).saturating_add(LATE_MS);
            if late <= now {
                instance.doomed = None;
            } else {
                next = next.into_iter().chain([late]).min();
            }
        }
        next
    }

    /// Another one than expected was ended: so many fewer of those that were expected to.
    pub fn was_other(&mut self) {
        let last =
            self.instances.values_mut().filter(|instance| instance.doomed.is_some()).max_by_key(|instance| instance.doomed);
        if let Some(instance) = last {
            instance.doomed = None;
        }
    }

    /// Brings the replicas that wait in line with what is wanted. New ones are expected on `agent`.
    pub fn settle_waiting(&mut self, agent: AgentIx, now: Millis) {
        let missing = usize::try_from(self.target - self.live()).unwrap_or(0);
        self.waiting.truncate(missing);
        let mut serial = 0;
        while self.waiting.len() < missing {
            serial += 1;
            let id: Arc<str> = format!("{}#{serial}", self.id).into();
            if self.waiting.iter().all(|waiting| waiting.id != id) {
                self.waiting.push(Waiting { id, agent, since: now });
            }
        }
    }

    /// A replica has found its place: one less waits, if there is any the one that was expected there.
    pub fn found_place(&mut self, agent: AgentIx) {
        if !self.waiting.is_empty() {
            let at = self.waiting.iter().position(|waiting| waiting.agent == agent).unwrap_or(0);
            self.waiting.remove(at);
        }
    }

    pub fn is_ours(&self, deployment: &Arc<str>) -> bool {
        self.ours.contains(deployment)
    }

    pub fn claim(&mut self, deployment: Arc<str>) {
        self.unclaimed.retain(|id| *id != deployment);
        self.ours.push_back(deployment);
        if self.ours.len() > OURS {
            self.ours.pop_front();
        }
    }

    pub fn chooses_itself(&self) -> bool {
        self.given.as_ref().is_some_and(|app| app.marathon.victims == VictimChoice::LeastLostWork)
    }

    /// Nothing may be done for it.
    pub fn is_held(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.holds)
    }
}

fn count(instances: impl Iterator) -> i64 {
    i64::try_from(instances.count()).unwrap_or(i64::MAX)
}
