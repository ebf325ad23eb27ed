//! Which events are to be written when. Pure: the time is an argument.
//!
//! Repetitions of one event become one object with a count and the newest words, written at most once in a while; warnings go first, and
//! what cannot be told within its time and the budgets is dropped.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::call;
use super::pace::{Bucket, Pause};
use super::statuses::cut_bytes;
use super::target::Target;
use crate::engine::report::EventKind;
use crate::policy::world::Millis;

/// Milliseconds from one write of an event to the next one of the same.
const GAP: Millis = 5000;
/// Events of one object: so many at once, and one more in this many microseconds.
const OF_ONE: (u32, u64) = (10, 10_000_000);
/// The same of all.
const OF_ALL: (u32, u64) = (50, 100_000);
/// News that is older than this is none.
const OUTDATED: Millis = 60_000;
/// After such a pause an event is another one.
const MEMORY: Millis = 600_000;
/// As many bytes as the API server takes (it counts bytes, not characters).
const NOTE: usize = 1024;
const IN_FLIGHT: usize = 4;

/// Which object an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Regarding {
    pub target: Target,
    pub uid: String,
}

/// Something to tell of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub regarding: Regarding,
    pub kind: EventKind,
    pub reason: String,
    pub note: String,
}

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub regarding: Regarding,
    pub warning: bool,
    pub reason: String,
}

/// An event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub subject: Subject,
    /// Of the object to change; `None`: there is none yet.
    pub name: Option<String>,
    pub note: String,
    /// How often it has happened.
    pub count: u32,
    pub sent: Millis,
}

/// What came of it: the name of the event's object.
pub type Recorded = Result<String, call::Failure>;

/// All events of late.
#[derive(Debug)]
pub struct Ledger {
    series: BTreeMap<Subject, Series>,
    of_one: BTreeMap<Regarding, Bucket>,
    of_all: Bucket,
    pause: Pause,
    in_flight: usize,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Series {
    name: Option<String>,
    count: u32,
    /// The newest words, and since when something waits to be written.
    waiting: Option<(String, Millis)>,
    under_way: bool,
    written: Option<Millis>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            series: BTreeMap::new(),
            of_one: BTreeMap::new(),
            of_all: Bucket::new(OF_ALL.0, OF_ALL.1),
            pause: Pause::default(),
            in_flight: 0,
            dropped: 0,
        }
    }
}

impl Ledger {
    /// Something has happened.
    pub fn tell(&mut self, told: Told, now: Millis) {
        let Told { regarding, kind, reason, note } = told;
        let subject = Subject { regarding, warning: kind == EventKind::Warning, reason };
        let series = self.series.entry(subject).or_default();
        series.count = series.count.saturating_add(1);
        let since = series.waiting.take().map_or(now, |(_, since)| since);
        series.waiting = Some((cut_bytes(&note, NOTE), since));
    }

    /// Those that are due now; each has to be answered by [`done`](Self::done).
    pub fn due(&mut self, now: Millis) -> Vec<Record> {
        self.forget_old(now);
        let mut room = self.room();
        if room == 0 || now < self.pause.until() {
            return Vec::new();
        }
        let ready = self.series.iter().filter(|(_, series)| series.ready_at().is_some_and(|at| at <= now));
        let rank = |(subject, series): (&Subject, &Series)| {
            (Reverse(subject.warning), series.waiting.as_ref().map(|(_, since)| *since), subject.clone())
        };
        let mut ready: Vec<_> = ready.map(rank).collect();
        ready.sort_unstable();
        let mut records = Vec::new();
        for (_, _, subject) in ready {
            if room == 0 || !self.of_all.has_one(now) {
                break;
            }
            let own = self.of_one.entry(subject.regarding.clone()).or_insert_with(|| Bucket::new(OF_ONE.0, OF_ONE.1));
            if own.take(now) && self.of_all.take(now) {
                room -= 1;
                records.extend(self.begin(subject, now));
            }
        }
        records
    }

    fn begin(&mut self, subject: Subject, now: Millis) -> Option<Record> {
        let series = self.series.get_mut(&subject)?;
        let (note, _) = series.waiting.take()?;
        (series.under_way, series.written) = (true, Some(now));
        self.in_flight += 1;
        Some(Record { subject, name: series.name.clone(), note, count: series.count, sent: now })
    }

    fn forget_old(&mut self, now: Millis) {
        for (subject, series) in &mut self.series {
            if series.waiting.as_ref().is_some_and(|(_, since)| now > since + OUTDATED) {
                tracing::debug!(object = %subject.regarding.target, reason = subject.reason, "an event is dropped: there are too many");
                series.waiting = None;
                self.dropped += 1;
            }
        }
        let is_alive = |series: &Series| {
            series.under_way || series.waiting.is_some() || series.written.is_some_and(|written| now < written + MEMORY)
        };
        self.series.retain(|_, series| is_alive(series));
        let known: BTreeSet<&Regarding> = self.series.keys().map(|subject| &subject.regarding).collect();
        self.of_one.retain(|regarding, _| known.contains(regarding));
    }

    /// One has ended. True: it was refused, which people should know of.
    pub fn done(&mut self, record: Record, outcome: &Recorded, now: Millis) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Ok(_) => drop(self.pause.succeeded()),
            Err(failure) => {
                if let Some(wait) = failure.kind.pause() {
                    self.pause.failed(record.sent, now, wait);
                }
            }
        }
        let Some(series) = self.series.get_mut(&record.subject) else { return false };
        series.under_way = false;
        match outcome {
            Ok(name) => series.name = Some(name.clone()),
            Err(failure) => return series.take_failure(record, failure.kind),
        }
        false
    }

    /// One was not sent, as it may not be.
    pub fn cancelled(&mut self, record: &Record) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(series) = self.series.get_mut(&record.subject) {
            series.under_way = false;
        }
    }

    /// Another one leads: whatever waits is outdated.
    pub fn clear(&mut self) {
        for series in self.series.values_mut() {
            series.waiting = None;
        }
        self.pause = Pause::default();
    }

    /// When [`due`](Self::due) has to be asked next, if nothing happens before.
    #[must_use]
    pub fn next(&self) -> Option<Millis> {
        if self.room() == 0 {
            return None;
        }
        let own = |subject: &Subject| self.of_one.get(&subject.regarding).map_or(0, Bucket::refilled_at);
        let ready = self.series.iter().filter_map(|(subject, series)| Some(series.ready_at()?.max(own(subject))));
        Some(ready.min()?.max(self.pause.until()).max(self.of_all.refilled_at()))
    }

    fn room(&self) -> usize {
        // A server that has failed is asked by one at a time.
        let limit = if self.pause.is_on() { 1 } else { IN_FLIGHT };
        limit.saturating_sub(self.in_flight)
    }

    /// How many were dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl Series {
    fn ready_at(&self) -> Option<Millis> {
        let gap = self.written.map_or(0, |written| written + GAP);
        (self.waiting.is_some() && !self.under_way).then_some(gap)
    }

    fn take_failure(&mut self, record: Record, kind: call::Kind) -> bool {
        match kind {
            call::Kind::Refused | call::Kind::TooLarge => return true,
            // Its object has expired, or its name was taken.
            call::Kind::Missing | call::Kind::Conflict => self.name = None,
            call::Kind::Busy { .. } | call::Kind::Broken => {}
        }
        self.written = None;
        self.waiting.get_or_insert((record.note, record.sent));
        false
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::app_key;

    fn told(app: &str, kind: EventKind, reason: &str, note: &str) -> Told {
        let regarding = Regarding { target: Target::app(&app_key(app)), uid: app.to_owned() };
        Told { regarding, kind, reason: reason.to_owned(), note: note.to_owned() }
    }

    fn normal(app: &str, reason: &str, note: &str) -> Told {
        told(app, EventKind::Normal, reason, note)
    }

    const BUSY: call::Kind = call::Kind::Busy { retry_after: None };

    fn failed(kind: call::Kind) -> Recorded {
        Err(call::Failure { kind, message: "no".to_owned() })
    }

    #[test]
    fn repetitions_become_one_with_the_newest_words() {
        let mut ledger = Ledger::default();
        let mut writes = Vec::new();
        for now in 0..12_000 {
            if now % 100 == 0 {
                ledger.tell(normal("a", "ScaledUp", &format!("to {now}")), now);
            }
            for record in ledger.due(now) {
                writes.push((now, record.name.clone(), record.note.clone(), record.count));
                ledger.done(record, &Ok("a.1".to_owned()), now);
            }
        }
        let name = Some("a.1".to_owned());
        let expected = [
            (0, None, "to 0".to_owned(), 1),
            (5000, name.clone(), "to 5000".to_owned(), 51),
            (10_000, name, "to 10000".to_owned(), 101),
        ];
        assert_eq!(writes, expected);
    }

    #[test]
    fn a_note_fits() {
        let mut ledger = Ledger::default();
        ledger.tell(normal("a", "R", &"ü".repeat(600)), 0);
        assert_eq!(ledger.due(0)[0].note, format!("{}…", "ü".repeat(510)));
    }

    #[test]
    fn an_object_has_its_share_and_warnings_go_first() {
        let mut ledger = Ledger::default();
        for n in 0..20 {
            ledger.tell(normal("a", &format!("R{n:02}"), "x"), 1);
        }
        ledger.tell(told("a", EventKind::Warning, "Bad", "x"), 2);
        ledger.tell(normal("b", "R", "x"), 3);
        let mut writes = Vec::new();
        for now in 3..8000 {
            for record in ledger.due(now) {
                writes.push(record.subject.clone());
                ledger.done(record, &Ok("e".to_owned()), now);
            }
        }
        assert_eq!(writes[0].reason, "Bad");
        assert_eq!(writes.len(), 11);
        assert!(writes.iter().any(|subject| subject.regarding.uid == "b"));
        ledger.due(70_000);
        assert_eq!(ledger.take_dropped(), 11);
    }

    #[test]
    fn all_together_have_a_budget() {
        let mut ledger = Ledger::default();
        for n in 0..1000 {
            ledger.tell(normal(&format!("a{n}"), "R", "x"), 1);
        }
        let mut writes = 0;
        for now in (1..=10_000).step_by(10) {
            for record in ledger.due(now) {
                writes += 1;
                ledger.done(record, &Ok("e".to_owned()), now);
            }
        }
        assert!((140..=150).contains(&writes), "{writes}");
    }

    #[test]
    fn what_fails_is_tried_again_unless_it_is_refused() {
        let mut ledger = Ledger::default();
        ledger.tell(normal("a", "R", "old"), 0);
        let record = ledger.due(0).pop().unwrap();
        assert!(!ledger.done(record, &failed(BUSY), 1));
        assert!(ledger.due(2).is_empty());
        ledger.tell(normal("a", "R", "new"), 3);
        let record = ledger.due(ledger.next().unwrap()).pop().unwrap();
        assert_eq!((record.note.as_str(), record.count), ("new", 2));
        assert!(!ledger.done(record, &failed(call::Kind::Missing), 900));
        let record = ledger.due(1500).pop().unwrap();
        assert!(ledger.done(record, &failed(call::Kind::Refused), 1501));
        assert_eq!(ledger.next(), None);
    }

    #[test]
    fn after_a_long_pause_it_is_another_event() {
        let mut ledger = Ledger::default();
        ledger.tell(normal("a", "R", "x"), 0);
        let record = ledger.due(0).pop().unwrap();
        ledger.done(record, &Ok("a.1".to_owned()), 1);
        ledger.due(700_000);
        ledger.tell(normal("a", "R", "x"), 700_001);
        let record = ledger.due(700_001).pop().unwrap();
        assert_eq!((record.name, record.count), (None, 1));
    }
}
