//! What is read: apps with their tasks, and what waits for room.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::events::ending;
use super::{LOOK_CLOSER_MS, Machine, Out, READ_EVERY_MS, Request};
use crate::api::marathon::OnConflict;
use crate::api::validated::Key;
use crate::backend::End;
use crate::backend::marathon::ledger::{Instance, Known, Managed, State};
use crate::backend::marathon::wire::{AppDoc, Queued, Snapshot, TaskDoc, instance_of};
use crate::policy::world::{Millis, World};

/// An instance that has just come up may not be in what is read for so long.
const YOUNG_MS: u64 = 5000;
/// Nobody else has changed the number for so long: what happened before is forgotten.
const CALM_MS: u64 = 600_000;
const LONGEST_PUT_BACK_MS: u64 = 60_000;
/// A rollover for which there seems to be room is given so long to find it.
const ROLLOVER_MS: u64 = 15_000;
/// How often it is looked whether the next old instance can go.
const NEXT_OLD_MS: u64 = 1000;
/// Tries of each cure for one change of ours.
const MOST_CURES: u32 = 3;

impl Machine {
    pub(super) fn read(&mut self, serial: u64, result: Result<Snapshot, String>, world: &mut World, now: Millis, out: &mut Out) {
        let Some(reading) = self.reading.take_if(|reading| reading.serial == serial) else { return };
        let snapshot = match result {
            Ok(snapshot) => snapshot,
            Err(why) => {
                tracing::info!(%why, "cannot read the apps of Marathon");
                self.standing.message = format!("{}; its apps cannot be read: {why}", self.greeting());
                return self.read_by(now + LOOK_CLOSER_MS);
            }
        };
        self.standing.message = self.greeting();
        let before: BTreeMap<Key, BTreeMap<Arc<str>, Instance>> =
            self.apps.iter().map(|(key, app)| (key.clone(), app.instances.clone())).collect();
        self.adopt_ours(&snapshot);
        self.take(snapshot, serial, world, now, out);
        // What it may not know of. The endings among that were told when they were heard.
        for event in &reading.since {
            self.take_event(event, world, now, &mut Out::default());
        }
        for (key, instances) in before {
            let Some(app) = self.apps.get(&key) else { continue };
            let version = app.given.as_ref().map(|spec| spec.version);
            for (id, instance) in instances.iter().filter(|(id, _)| !app.instances.contains_key(*id)) {
                let how = if instance.doomed.is_some() || instance.chosen { End::Killed } else { End::Lost };
                tracing::debug!(%id, "gone without an event");
                out.end(ending(&key, version, instance, how, "it ended unheard", now));
            }
        }
        if !self.has_read {
            (self.has_read, out.applied.decide) = (true, true);
        }
        let keys: Vec<Key> = self.apps.keys().cloned().collect();
        keys.iter().for_each(|key| self.touch(key));
        self.read_by(now + READ_EVERY_MS);
    }

    /// Apps that an earlier run has made for this pool, and that nobody may declare any more.
    fn adopt_ours(&mut self, snapshot: &Snapshot) {
        for doc in &snapshot.apps {
            let Some([app, pool, _]) = Known::of(doc).labels else { continue };
            let Some((namespace, name)) = app.split_once('/') else { continue };
            let key = Key::new(namespace, name);
            if pool == self.pool.key.as_str() && !self.apps.contains_key(&key) && !self.by_id.contains_key(&doc.id) {
                self.by_id.insert(doc.id.clone(), key.clone());
                self.apps.insert(key.clone(), Managed::new(key, doc.id.clone(), true));
            }
        }
    }

    fn take(&mut self, snapshot: Snapshot, serial: u64, world: &mut World, now: Millis, out: &mut Out) {
        let mut docs: BTreeMap<Arc<str>, AppDoc> = snapshot.apps.into_iter().map(|doc| (doc.id.clone(), doc)).collect();
        let mut queue: BTreeMap<Arc<str>, Queued> =
            snapshot.queue.into_iter().filter_map(|queued| Some((queued.app.as_ref()?.id.clone(), queued))).collect();
        let keys: Vec<Key> = self.apps.keys().cloned().collect();
        for key in keys {
            let Some(mut app) = self.apps.remove(&key) else { continue };
            if self.by_id.get(&app.id) == Some(&key) {
                app.queued = queue.remove(&app.id);
                let first = !app.sought;
                app.sought = true;
                match docs.remove(&app.id) {
                    None => missing(&mut app, serial, now),
                    Some(doc) => self.take_app(&mut app, &doc, (serial, first), world, now, out),
                }
                self.cure(&mut app, now);
                self.replace(&mut app, world, now);
            }
            self.apps.insert(key, app);
        }
    }

    fn take_app(
        &mut self,
        app: &mut Managed,
        doc: &AppDoc,
        (serial, first): (u64, bool),
        world: &mut World,
        now: Millis,
        out: &mut Out,
    ) {
        let mut known = Known::of(doc);
        let resized = app.known.as_ref().is_none_or(|before| (before.size, before.grace_ms) != (known.size, known.grace_ms));
        if resized && !app.owned {
            app.fitted = None;
        }
        let read_since = serial > app.answered && !app.busy;
        let ours = app.known.as_ref().map(|before| before.instances);
        let theirs = known.instances;
        match ours {
            // As it is, until we are told what is wanted; of one that we have just made, what is wanted is known.
            _ if first => app.target = theirs,
            Some(ours) if !read_since => known.instances = ours,
            Some(ours)
                if ours != theirs && !(app.uncertain && app.likely.as_ref().is_none_or(|likely| likely.contains(&theirs))) =>
            {
                app.known = Some(known.clone());
                edited(app, (ours, theirs), now, out);
            }
            _ => {}
        }
        if read_since {
            app.uncertain = false;
        }
        if app.given.as_ref().is_some_and(|spec| spec.observed_only || spec.suspended) || app.conflict.yielded.is_some() {
            app.target = known.instances;
        }
        app.grace_ms = u64::try_from(known.grace_ms).unwrap_or(0);
        app.known = Some(known);
        app.deployments = doc.deployments.iter().map(|named| named.id.clone()).collect();
        self.take_instances(app, &doc.tasks, world, now);
    }

    fn take_instances(&mut self, app: &mut Managed, tasks: &[TaskDoc], world: &mut World, now: Millis) {
        let mut before = std::mem::take(&mut app.instances);
        for task in tasks {
            let Some(state) = state(&task.state) else { continue };
            let (id, incarnation) = instance_of(&task.id);
            let agent = self.room.agent(world, task.slave_id.as_ref(), task.host.as_ref());
            let old = before.remove(id).filter(|old| old.incarnation <= incarnation);
            let same = old.as_ref().filter(|old| old.state == state && old.incarnation == incarnation);
            let healthy =
                (!task.health_check_results.is_empty()).then(|| task.health_check_results.iter().all(|check| check.alive));
            let killing = task.state == "TASK_KILLING";
            let instance = Instance {
                task: task.id.clone(),
                incarnation,
                agent,
                state,
                healthy,
                version: task.version.clone(),
                active_since: task.started_at.clone(),
                since: same.map_or(now, |old| old.since),
                born: old.as_ref().map_or(now, |old| old.born),
                chosen: old.as_ref().is_some_and(|old| old.chosen),
                doomed: old.as_ref().and_then(|old| old.doomed).or(killing.then_some(now)),
                unhealthy: old.as_ref().is_some_and(|old| old.unhealthy),
            };
            app.instances.insert(id.into(), instance);
        }
        let young = before.into_iter().filter(|(_, old)| old.state == State::Starting && old.born + YOUNG_MS > now);
        app.instances.extend(young);
    }

    /// Looks whether Marathon acts on what it was asked.
    fn cure(&mut self, app: &mut Managed, now: Millis) {
        let Some(known) = &app.known else { return };
        let queued = app.queued.as_ref().map_or(0, |queued| queued.count);
        let (missing, beyond) = (app.unplaced() > queued, app.placed() > known.instances);
        let still = app.deployments.is_empty() && !app.busy && !app.uncertain && app.cures.nudge.is_none();
        let doomed = app.instances.values().any(|instance| instance.doomed.is_some());
        if still && !doomed && (missing || beyond) && !app.is_held() {
            let since = *app.cures.idle_since.get_or_insert(now);
            if since + LOOK_CLOSER_MS > now {
                self.read_by(since + LOOK_CLOSER_MS);
            } else if app.cures.nudges < MOST_CURES {
                app.cures.nudges += 1;
                app.cures.nudge = Some(known.instances + if beyond { 1 } else { -1 });
                app.cures.idle_since = None;
            }
        } else {
            app.cures.idle_since = None;
        }
        if app.queued.as_ref().is_some_and(Queued::is_delayed) && app.cures.delays_reset < MOST_CURES && !app.is_held() {
            app.cures.delays_reset += 1;
            let id = app.id.clone();
            self.serial += 1;
            self.send(Request::ResetDelay(id));
        }
    }
}

impl Machine {
    /// A rollover of Marathon begins with a new instance. Where there is no room for one more, an old one ends first, as on a Mesos, and
    /// so on: each only when the one before has been replaced by a new one.
    fn replace(&mut self, app: &mut Managed, world: &World, now: Millis) {
        let old = if app.is_held() { Vec::new() } else { app.cramped() };
        let Some(next) = old.first().filter(|_| app.cures.old_left.is_none_or(|left| old.len() < left)) else {
            app.cures.cramped_since = None;
            if app.cures.old_left.is_some() && !app.deployments.is_empty() {
                self.read_by(now + NEXT_OLD_MS);
            }
            return;
        };
        let may_fit = app.fitted.as_ref().is_none_or(|spec| self.room.may_have(spec.size, world));
        let patience = match app.cures.old_left {
            _ if may_fit => ROLLOVER_MS,
            None => LOOK_CLOSER_MS,
            // It is known to go on like this.
            Some(_) => 0,
        };
        let at = *app.cures.cramped_since.get_or_insert(now) + patience;
        if now < at {
            return self.read_by(now + LOOK_CLOSER_MS);
        }
        let Some(task) = app.instances.get(next).map(|instance| instance.task.clone()) else { return };
        (app.cures.old_left, app.cures.cramped_since) = (Some(old.len()), None);
        app.doom(std::slice::from_ref(next), now);
        self.serial += 1;
        self.send(Request::Replace(task));
    }
}

/// The app is not there. Marathon forgets it at once and then ends its instances, which takes their grace period: they are there until
/// their end is heard, or should have been.
fn missing(app: &mut Managed, serial: u64, now: Millis) {
    if serial > app.answered && !app.busy {
        app.uncertain = false;
        app.deployments.clear();
        if app.known.take().is_some() {
            let all: Vec<_> = app.instances.keys().cloned().collect();
            app.doom(&all, now);
        }
        app.instances.retain(|_, instance| instance.doomed.is_some());
    }
}

/// Somebody else has changed the number of instances.
fn edited(app: &mut Managed, (ours, theirs): (i64, i64), now: Millis, out: &mut Out) {
    let Some(spec) = app.given.clone() else { return };
    if app.conflict.yielded.is_some() || spec.observed_only || spec.suspended || theirs == app.target {
        return;
    }
    if app.conflict.last + CALM_MS < now {
        app.conflict.put_back = 0;
    }
    let what = format!("{}: somebody else has changed its instances from {ours} to {theirs}", app.id);
    if spec.marathon.on_conflict == OnConflict::Yield && app.conflict.put_back > 0 {
        app.conflict.yielded = Some(spec.generation);
        out.note(true, "Conflict", format!("{what} again; it is left alone until the spec of {} is changed", app.key));
        return;
    }
    // At once for the first time, then ever later: two that put back what the other did would keep Marathon busy for ever.
    let delay = app.conflict.put_back.checked_sub(1).map_or(0, |more| (1000 << more.min(16)).min(LONGEST_PUT_BACK_MS));
    app.conflict.put_back += 1;
    (app.conflict.last, app.conflict.not_before) = (now, now + delay);
    out.note(true, "PutBack", format!("{what}; {} are wanted, and this is put back", app.target));
}

fn state(task: &str) -> Option<State> {
    Some(match task {
        "TASK_STAGING" | "TASK_STARTING" => State::Starting,
        "TASK_RUNNING" | "TASK_KILLING" => State::Running,
        "TASK_UNREACHABLE" => State::Unreachable,
        _ => return None,
    })
}
