//! What is asked, and what becomes of it.

use std::sync::Arc;

use super::{Answer, Flight, LOOK_CLOSER_MS, Machine, Out, Request};
use crate::api::validated::Key;
use crate::backend::marathon::ledger::Managed;
use crate::backend::marathon::own;
use crate::backend::marathon::targets::{self, Change};
use crate::policy::world::Millis;

/// So many apps are made or changed at the same time: Marathon does them one after the other in any case.
const MOST_DEFINITIONS: usize = 8;
/// Credentials that are refused are tried again after this time.
const UNAUTHORIZED_MS: u64 = 30_000;

impl Machine {
    /// Asks for all that is wanted and not under way. The numbers of all apps go in one request; so does, beside it, what is to end by
    /// name. While one is on its way the next is collected, so that the newest wish is what counts.
    pub(super) fn ask(&mut self, now: Millis) {
        if !self.standing.ready || self.hold_until > now {
            return;
        }
        self.define(now);
        let under_way = |kind: fn(&Request) -> bool| self.flights.values().any(|flight| kind(&flight.request));
        let scaling = under_way(|request| matches!(request, Request::Scale(_)));
        let shrinking = under_way(|request| matches!(request, Request::Shrink(_)));
        let (mut scale, mut shrink, mut create) = (Vec::new(), Vec::new(), Vec::new());
        for app in self.apps.values().filter(|app| app.conflict.not_before <= now) {
            match targets::next(app) {
                Some(change @ Change::Scale(_)) if !scaling => scale.push((app.key.clone(), change)),
                Some(change @ Change::Shrink(_)) if !shrinking => shrink.push((app.key.clone(), change)),
                Some(change @ Change::Create(_)) => create.push((app.key.clone(), change)),
                _ => {}
            }
        }
        if let Some(one) = scale.iter().position(|(key, _)| self.alone.contains(key)) {
            scale = vec![scale.swap_remove(one)];
        }
        if !scale.is_empty() {
            let numbers = scale.iter().filter_map(|(key, change)| match change {
                Change::Scale(instances) => Some((self.apps.get(key)?.id.clone(), *instances)),
                _ => None,
            });
            self.fly(Request::Scale(numbers.collect()), scale, now);
        }
        if !shrink.is_empty() {
            let tasks = shrink.iter().flat_map(|(key, change)| self.tasks_of(key, change));
            self.fly(Request::Shrink(tasks.collect()), shrink, now);
        }
        for (key, change) in create {
            self.create(key, change, now);
        }
    }

    fn tasks_of(&self, key: &Key, change: &Change) -> Vec<Arc<str>> {
        let (Some(app), Change::Shrink(ids)) = (self.apps.get(key), change) else { return Vec::new() };
        ids.iter().filter_map(|id| Some(app.instances.get(id)?.task.clone())).collect()
    }

    fn defining(&self) -> usize {
        self.flights.values().filter(|flight| matches!(flight.request, Request::Create(_) | Request::Update(..))).count()
    }

    fn create(&mut self, key: Key, change: Change, now: Millis) {
        let Change::Create(instances) = change else { return };
        let (Some(app), true) = (self.apps.get(&key), self.defining() < MOST_DEFINITIONS) else { return };
        let Some(Ok(mut definition)) = app.given.as_ref().map(|spec| own::definition(spec, &self.pool.key, &app.id)) else {
            return;
        };
        definition["instances"] = instances.into();
        self.fly(Request::Create(Box::new(definition)), vec![(key, change)], now);
    }

    /// Apps of ours whose template has changed.
    fn define(&mut self, now: Millis) {
        let changed = self.apps.values().filter_map(|app| {
            let (spec, known) = (app.given.as_ref()?, app.known.as_ref()?);
            let free = !app.busy && !app.uncertain && app.sought && !app.is_held() && !spec.observed_only && !spec.suspended;
            let [_, _, version] = known.labels.as_ref().filter(|_| app.owned && free)?;
            (app.wording.as_ref().is_ok_and(|wording| wording != version))
                .then(|| (app.key.clone(), app.id.clone(), known.instances, spec.clone()))
        });
        let changed: Vec<_> = changed.collect();
        for (key, id, instances, spec) in changed {
            let Ok(mut definition) = own::definition(&spec, &self.pool.key, &id) else { continue };
            if self.defining() < MOST_DEFINITIONS {
                if let Some(app) = self.apps.get_mut(&key) {
                    app.cures.old_left = None;
                }
                definition["instances"] = instances.into();
                self.fly(Request::Update(id, Box::new(definition)), vec![(key, Change::Scale(instances))], now);
            }
        }
    }

    pub(super) fn delete(&mut self, id: &Arc<str>, keys: Vec<Key>, now: Millis) {
        let changes = keys.into_iter().map(|key| (key, Change::Scale(0))).collect();
        self.fly(Request::Delete(id.clone()), changes, now);
    }

    fn fly(&mut self, request: Request, changes: Vec<(Key, Change)>, now: Millis) {
        self.serial += 1;
        for (key, _) in &changes {
            if let Some(app) = self.apps.get_mut(key) {
                app.busy = true;
            }
        }
        self.send(request.clone());
        if let Some(outgoing) = self.outbox.last_mut() {
            outgoing.caused_at = self.caused_at.take();
        }
        self.flights.insert(self.serial, Flight { request, changes, sent: now });
    }

    pub(super) fn answered(&mut self, serial: u64, answer: Answer, now: Millis, out: &mut Out) {
        let Some(flight) = self.flights.remove(&serial) else { return self.aside(answer, now) };
        self.serial += 1;
        let answered = self.serial;
        for (key, _) in &flight.changes {
            if let Some(app) = self.apps.get_mut(key) {
                (app.busy, app.answered) = (false, answered);
            }
            self.touch(key);
        }
        match answer {
            Answer::Done { deployment } => self.done(&flight, deployment.as_ref(), now),
            Answer::Refused { status, message } => self.refused(&flight, status, &message, now, out),
            Answer::Later { message, retry_in_ms } => {
                tracing::info!(%message, retry_in_ms, "Marathon does not take it now");
                self.back_off(retry_in_ms, now);
            }
            Answer::Unknown { message, retry_in_ms } => {
                tracing::info!(%message, retry_in_ms, "it is not known whether Marathon has done it");
                self.each(&flight, Managed::doubt);
                self.back_off(retry_in_ms, now);
                self.read_by(now + retry_in_ms);
            }
        }
    }

    /// The answer to what concerns no number of instances.
    fn aside(&mut self, answer: Answer, now: Millis) {
        match answer {
            Answer::Done { .. } => self.read_by(now),
            answer => tracing::info!(?answer, "neither a delay nor an old instance could be ended"),
        }
    }

    fn back_off(&mut self, retry_in_ms: u64, now: Millis) {
        self.tries += 1;
        self.hold_until = now + retry_in_ms;
    }

    fn each(&mut self, flight: &Flight, mut change: impl FnMut(&mut Managed, &Change)) {
        for (key, what) in &flight.changes {
            if let Some(app) = self.apps.get_mut(key) {
                change(app, what);
            }
        }
    }

    fn done(&mut self, flight: &Flight, deployment: Option<&Arc<str>>, now: Millis) {
        self.tries = 0;
        let (mut others, mut read) = (false, false);
        let sent = flight.sent;
        self.each(flight, |app, change| {
            if let Some(id) = deployment {
                app.claim(id.clone());
            }
            others |= !std::mem::take(&mut app.unclaimed).is_empty();
            match (&flight.request, change) {
                (Request::Scale(_), Change::Scale(instances)) => {
                    app.cures.nudge.take_if(|nudge| nudge == instances);
                    app.asked_for(*instances, sent);
                }
                (Request::Shrink(_), Change::Shrink(ids)) => {
                    // One that had ended by itself a moment before does not lower the number: that would be put right as if somebody
                    // else had changed it.
                    app.doom(ids, now);
                    app.lowered_by(ids.len());
                    read = true;
                }
                (_, Change::Create(instances)) => {
                    (0..*instances).for_each(|_| app.asked_at.push_back(sent));
                    app.doubt(change);
                    read = true;
                }
                _ => {
                    app.doubt(change);
                    read = true;
                }
            }
        });
        for (key, _) in &flight.changes {
            self.alone.remove(key);
        }
        if read || others {
            self.read_by(now);
        }
        self.read_by(now + LOOK_CLOSER_MS);
    }

    fn refused(&mut self, flight: &Flight, status: u16, message: &str, now: Millis, out: &mut Out) {
        if matches!(status, 401 | 403) {
            out.note(true, "Unauthorized", format!("Marathon refuses our credentials: {message}"));
            self.hold_until = now + UNAUTHORIZED_MS;
            return;
        }
        // All or nothing: which of them it is shows when each is asked for alone.
        if flight.changes.len() > 1 {
            self.alone.extend(flight.changes.iter().map(|(key, _)| key.clone()));
        } else {
            let gone = status == 404;
            let words = format!("Marathon refuses it: {message}");
            self.each(flight, |app, _| app.refused = (!gone).then(|| (words.clone(), now)));
            for (key, _) in &flight.changes {
                self.alone.remove(key);
            }
        }
        self.each(flight, |app, _| {
            app.uncertain = true;
            app.likely = app.known.as_ref().map(|known| known.instances..=known.instances);
        });
        self.read_by(now);
    }
}
