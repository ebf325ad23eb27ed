//! Which statuses are to be written when. Pure: the time is an argument.
//!
//! Of each object only the newest status matters; what comes faster than it may be written becomes one. What tools wait for goes at
//! once and ahead of all others, but nobody waits for ever.

use std::collections::BTreeMap;

use super::call;
use super::pace::{Bucket, Pause, doubled};
use super::statuses::{Status, Urgency};
use super::target::Target;
use crate::policy::world::Millis;

/// Milliseconds from one write of an object to the next one.
const GAP: Millis = 500;
/// So many changes of state in a row are written without waiting for that.
const AT_ONCE: u32 = 3;
/// A change of state goes before others that have waited for up to this much longer.
const ADVANTAGE: Millis = 5000;
/// A write that was refused is tried again after this time, then after twice this, and so on.
const RETRY: Millis = 1000;
const LONGEST_RETRY: Millis = 60_000;
/// After so many conflicts in a row the version is not insisted on any more: whoever writes that often must not keep everybody out.
const CONFLICTS: u32 = 3;

/// What the whole operator may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Writes per second; as many may come at once.
    pub per_second: u32,
    /// Writes under way at the same time.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_second: 50, in_flight: 8 }
    }
}

/// The statuses of all objects: as they are, and as they ought to be.
#[derive(Debug)]
pub struct Schedule {
    entries: BTreeMap<Target, Entry>,
    limits: Limits,
    bucket: Bucket,
    pause: Pause,
    in_flight: usize,
    coalesced: u64,
    /// Nothing but changes of state, and these without delay.
    closing: bool,
}

/// An object as the API server shows it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub uid: String,
    pub version: String,
    pub generation: i64,
    /// `None`: there is none that can be read.
    pub status: Option<Status>,
}

#[derive(Debug)]
struct Entry {
    shown: Shown,
    /// What this process wrote last since it leads: all of it is ours to take away.
    applied: Option<Status>,
    desired: Option<Status>,
    /// What is being written.
    sent: Option<Status>,
    /// Since when something has been waiting to be written.
    since: Option<Millis>,
    urgency: Urgency,
    written: Option<Millis>,
    /// How many changes of state may go at once.
    at_once: Bucket,
    failures: u32,
    held_until: Millis,
    conflicts: u32,
    /// The failure that was told last.
    told: Option<String>,
    /// The object is too large for all that there is to say.
    short: bool,
}

/// A write to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub target: Target,
    pub uid: String,
    /// The version that it must still have; `None`: any.
    pub version: Option<String>,
    pub status: Status,
    /// When it was first known that something had to be written.
    pub since: Millis,
    pub sent: Millis,
}

/// What came of a write.
pub type Outcome = Result<(String, Option<Status>), call::Failure>;

/// What people should be told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing can be written now.
    Away(String),
    /// It can be again.
    Back,
    /// This object's status cannot be written.
    Refused(Target, String),
    /// This object's status was shortened.
    Shortened(Target),
}

impl Entry {
    fn new(shown: Shown) -> Self {
        Self {
            shown,
            applied: None,
            desired: None,
            sent: None,
            since: None,
            urgency: Urgency::Noise,
            written: None,
            at_once: Bucket::new(AT_ONCE, GAP * 1000),
            failures: 0,
            held_until: 0,
            conflicts: 0,
            told: None,
            short: false,
        }
    }

    /// Takes over what the API server shows, if that is newer.
    fn take_shown(&mut self, version: String, status: Option<Status>) {
        if is_newer(&version, &self.shown.version) {
            (self.shown.version, self.shown.status) = (version, status);
            if self.conflicts > 0 {
                self.held_until = 0;
            }
        }
    }

    /// Whether what ought to be there is not, or something is there that we wrote and do not say any more.
    fn is_needed(&self) -> bool {
        let Some(desired) = &self.desired else { return false };
        if let Some(sent) = &self.sent {
            return sent != desired;
        }
        let Some(shown) = &self.shown.status else { return true };
        let foreign_or_old = match &self.applied {
            Some(applied) => applied != desired,
            None => !desired.covers(shown),
        };
        foreign_or_old || !shown.covers(desired)
    }

    fn review(&mut self, now: Millis) {
        if !self.is_needed() {
            self.since = None;
            return;
        }
        self.since.get_or_insert(now);
        let urgency = self.desired.as_ref().map(|desired| desired.urgency(self.sent.as_ref().or(self.shown.status.as_ref())));
        self.urgency = urgency.unwrap_or(Urgency::Noise);
    }

    /// When it may be written.
    fn ready_at(&self, closing: bool) -> Millis {
        let after = |gap| self.written.map_or(0, |written| written + gap);
        let gap = match (self.urgency, &self.desired) {
            (Urgency::State, _) if closing => 0,
            (Urgency::State, _) => self.at_once.refilled_at(),
            (Urgency::Noise, Some(desired)) => after(desired.noise_gap()),
            (Urgency::Noise | Urgency::Counts, _) => after(GAP),
        };
        gap.max(self.held_until)
    }

    fn is_waiting(&self, closing: bool) -> bool {
        self.since.is_some() && self.sent.is_none() && (!closing || self.urgency == Urgency::State)
    }

    fn rank(&self) -> (u32, i64) {
        let since = i64::try_from(self.since.unwrap_or(0)).unwrap_or(i64::MAX);
        let advantage = if self.urgency == Urgency::State { i64::try_from(ADVANTAGE).unwrap_or(0) } else { 0 };
        // One that fails again and again must not keep the others from being tried.
        (self.failures, since - advantage)
    }

    fn hold(&mut self, now: Millis, first: Millis, longest: Millis) {
        self.failures += 1;
        self.held_until = now + doubled(first, self.failures, longest);
    }
}

impl Entry {
    fn take_success(&mut self, write: &Write, version: String, status: Option<Status>) {
        self.applied = Some(write.status.clone());
        (self.failures, self.conflicts, self.held_until, self.told) = (0, 0, 0, None);
        self.take_shown(version, status);
    }

    fn take_failure(&mut self, write: &Write, failure: &call::Failure, now: Millis) -> Option<News> {
        use call::Kind;
        // Perhaps it was written nevertheless.
        self.applied = None;
        self.since = Some(write.since);
        match failure.kind {
            // The server has said how long it wants to be left alone, by all.
            Kind::Busy { retry_after: Some(_) } => {
                self.failures += 1;
                return None;
            }
            Kind::Busy { retry_after: None } => {
                self.hold(now, Pause::FIRST, Pause::LONGEST);
                return None;
            }
            Kind::Conflict => {
                self.wait_for_newer(write, now);
                return None;
            }
            Kind::TooLarge if !self.short => {
                self.short = true;
                self.desired = self.desired.as_ref().map(Status::shortened);
                return Some(News::Shortened(write.target.clone()));
            }
            Kind::Broken | Kind::Missing | Kind::TooLarge | Kind::Refused => self.hold(now, RETRY, LONGEST_RETRY),
        }
        let is_told = self.told.as_ref() == Some(&failure.message);
        self.told = Some(failure.message.clone());
        // An object that has just been deleted is nothing to tell of.
        let is_news = !is_told && failure.kind != Kind::Missing;
        is_news.then(|| News::Refused(write.target.clone(), failure.message.clone()))
    }

    /// The newest version is on its way; its arrival ends the wait.
    fn wait_for_newer(&mut self, write: &Write, now: Millis) {
        self.conflicts += 1;
        let has_come = write.version.as_ref().is_some_and(|version| is_newer(&self.shown.version, version));
        self.held_until = if has_come { now } else { now + doubled(RETRY, self.conflicts, LONGEST_RETRY) };
    }
}

/// Versions of objects of one kind are numbers that grow. What is none counts as newer if it differs.
fn is_newer(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version > than,
        _ => version != than,
    }
}

impl Schedule {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            entries: BTreeMap::new(),
            bucket: Bucket::per_second(limits.per_second),
            limits,
            pause: Pause::default(),
            in_flight: 0,
            coalesced: 0,
            closing: false,
        }
    }

    /// An object as last seen.
    pub fn sees(&mut self, target: &Target, shown: Shown, now: Millis) {
        let Some(entry) = self.entries.get_mut(target).filter(|entry| entry.shown.uid == shown.uid) else {
            self.entries.insert(target.clone(), Entry::new(shown));
            return;
        };
        if entry.shown.generation != shown.generation {
            // It may fit again.
            (entry.shown.generation, entry.short) = (shown.generation, false);
        }
        entry.take_shown(shown.version, shown.status);
        entry.review(now);
    }

    /// Whether this is already known, so that [`sees`](Self::sees) need not be told.
    #[must_use]
    pub fn knows(&self, target: &Target, uid: &str, version: &str) -> bool {
        let known = self.entries.get(target).map(|entry| &entry.shown);
        known.is_some_and(|shown| shown.uid == uid && !is_newer(version, &shown.version))
    }

    /// Forgets objects that are gone.
    pub fn retain(&mut self, exists: impl Fn(&Target) -> bool) {
        self.entries.retain(|target, _| exists(target));
    }

    /// The status of an object ought to be this.
    pub fn wants(&mut self, target: &Target, status: Status, now: Millis) {
        let Some(entry) = self.entries.get_mut(target) else { return };
        let status = if entry.short { status.shortened() } else { status };
        if entry.desired.as_ref() == Some(&status) {
            return;
        }
        self.coalesced += u64::from(entry.since.is_some());
        entry.desired = Some(status);
        entry.review(now);
    }

    /// Begins anew: meanwhile others may have written.
    pub fn forget(&mut self) {
        for entry in self.entries.values_mut() {
            let sent = entry.sent.take();
            *entry = Entry { sent, ..Entry::new(entry.shown.clone()) };
        }
        self.pause = Pause::default();
    }

    /// From now on only changes of state are written, and these at once.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether nothing is under way nor waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.entries.values().any(|entry| entry.is_waiting(self.closing))
    }

    /// Statuses that were overtaken by newer ones, since this was last asked.
    pub fn take_coalesced(&mut self) -> u64 {
        std::mem::take(&mut self.coalesced)
    }

    fn room(&self) -> usize {
        // A server that has failed is asked by one at a time.
        let limit = if self.pause.is_on() { 1 } else { self.limits.in_flight };
        limit.saturating_sub(self.in_flight)
    }

    /// The writes that are due now; each has to be answered by [`done`](Self::done).
    pub fn due(&mut self, now: Millis) -> Vec<Write> {
        if now < self.pause.until() || self.room() == 0 {
            return Vec::new();
        }
        let closing = self.closing;
        let ready = self.entries.iter().filter(|(_, entry)| entry.is_waiting(closing) && entry.ready_at(closing) <= now);
        let mut ready: Vec<_> = ready.map(|(target, entry)| (entry.rank(), target.clone())).collect();
        ready.sort_unstable();
        ready.truncate(self.room());
        let mut writes = Vec::with_capacity(ready.len());
        for (_, target) in ready {
            if !self.bucket.take(now) {
                break;
            }
            writes.extend(self.begin(target, now));
        }
        writes
    }

    fn begin(&mut self, target: Target, now: Millis) -> Option<Write> {
        let entry = self.entries.get_mut(&target)?;
        let status = entry.desired.clone()?;
        let since = entry.since.take()?;
        (entry.sent, entry.written) = (Some(status.clone()), Some(now));
        if entry.urgency == Urgency::State {
            entry.at_once.take(now);
        }
        self.in_flight += 1;
        let version = (entry.conflicts < CONFLICTS).then(|| entry.shown.version.clone());
        Some(Write { target, uid: entry.shown.uid.clone(), version, status, since, sent: now })
    }

    /// When [`due`](Self::due) has to be asked next, if nothing happens before.
    #[must_use]
    pub fn next(&self) -> Option<Millis> {
        if self.room() == 0 {
            return None;
        }
        let waiting = self.entries.values().filter(|entry| entry.is_waiting(self.closing));
        let first = waiting.map(|entry| entry.ready_at(self.closing)).min()?;
        Some(first.max(self.pause.until()).max(self.bucket.refilled_at()))
    }

    /// A write was not sent, as it may not be.
    pub fn cancelled(&mut self, write: &Write, now: Millis) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(entry) = self.entries.get_mut(&write.target).filter(|entry| entry.shown.uid == write.uid) {
            entry.sent = None;
            entry.since = Some(write.since);
            entry.review(now);
        }
    }

    /// A write has ended.
    pub fn done(&mut self, write: &Write, outcome: Outcome, now: Millis) -> Option<News> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let of_all = match &outcome {
            Ok(_) => self.pause.succeeded().then_some(News::Back),
            Err(failure) => self.pause_after(failure, write.sent, now),
        };
        // One that came instead of it is none of its business.
        let entry = self.entries.get_mut(&write.target).filter(|entry| entry.shown.uid == write.uid)?;
        entry.sent = None;
        let of_one = match outcome {
            Ok((version, status)) => {
                entry.take_success(write, version, status);
                None
            }
            Err(failure) => entry.take_failure(write, &failure, now),
        };
        entry.review(now);
        of_one.or(of_all)
    }

    fn pause_after(&mut self, failure: &call::Failure, sent: Millis, now: Millis) -> Option<News> {
        let wait = failure.kind.pause()?;
        self.pause.failed(sent, now, wait).then(|| News::Away(failure.message.clone()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
