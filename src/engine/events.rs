//! Plan → events: what has changed, for people.

use std::collections::BTreeMap;

use super::changes::Change;
use super::clock;
use super::report::{Event, EventKind};
use crate::api::status::Phase;
use crate::api::validated::Key;
use crate::backend::{End, Ending, Note};
use crate::policy::plan::{Plan, Reason, StopReason, Verdict};

/// What the plan does, and what it has changed for each app.
#[must_use]
pub fn of_plan(pool: &Key, plan: &Plan, changes: &[Change]) -> Vec<Event> {
    let mut events = Vec::new();
    for Change { app, before, after } in changes {
        let Some(after) = after else { continue };
        events.extend(scaled(pool, app, *before, after));
        events.extend(entered_phase(pool, app, *before, after));
    }
    events.extend(gave_way(pool, plan));
    let gone = changes.iter().filter(|change| change.after.is_none());
    events.extend(gone.map(|Change { app, .. }| {
        event(pool, Some(app), EventKind::Normal, "Deleted", "the app is gone, and nothing of it is left to do".to_owned())
    }));
    events
}

fn scaled(pool: &Key, app: &Key, old: Option<&Verdict>, new: &Verdict) -> Option<Event> {
    let from = old.map_or(0, |old| old.granted);
    let word = match new.granted.cmp(&from) {
        std::cmp::Ordering::Greater => "ScaledUp",
        std::cmp::Ordering::Less => "ScaledDown",
        std::cmp::Ordering::Equal => return None,
    };
    let message = format!("from {from} to {} replicas: {}", new.granted, new.reason());
    Some(event(pool, Some(app), EventKind::Normal, word, message))
}

/// Only phases that people have to know of: the others follow from the counts.
fn entered_phase(pool: &Key, app: &Key, old: Option<&Verdict>, new: &Verdict) -> Option<Event> {
    if old.is_some_and(|old| old.phase == new.phase) {
        return None;
    }
    let (kind, word) = match new.phase {
        Phase::CapacityLimited => (EventKind::Warning, "CapacityLimited"),
        Phase::Stale => (EventKind::Warning, "DemandStale"),
        Phase::Failed if matches!(new.reasons.first(), Some(Reason::ExecutorsFail { .. })) => {
            (EventKind::Warning, "ExecutorsFail")
        }
        Phase::Failed => (EventKind::Warning, "CrashLoop"),
        Phase::Suspended => (EventKind::Normal, "Suspended"),
        Phase::Converged | Phase::Growing | Phase::Shrinking | Phase::GivingWay => return None,
    };
    Some(event(pool, Some(app), kind, word, new.reason()))
}

fn gave_way(pool: &Key, plan: &Plan) -> Vec<Event> {
    let mut counts: BTreeMap<(&Key, &Key), usize> = BTreeMap::new();
    for stop in &plan.stops {
        if let StopReason::GivesWayTo(winner) = &stop.why {
            *counts.entry((&stop.app, winner)).or_default() += 1;
        }
    }
    let tell = |((app, winner), n): ((&Key, &Key), usize)| {
        let replicas = if n == 1 { "1 replica gives" } else { &format!("{n} replicas give") };
        event(pool, Some(app), EventKind::Normal, "GaveWay", format!("{replicas} way to {winner}"))
    };
    counts.into_iter().map(tell).collect()
}

/// A task that ended without being asked to.
#[must_use]
pub fn ending(pool: &Key, ending: &Ending) -> Event {
    let word = match ending.how {
        End::Refused => "TaskRefused",
        End::Lost => "TaskLost",
        End::Finished => "TaskFinished",
        End::Killed | End::Failed | End::Dropped => "TaskFailed",
    };
    let message = format!("{} after {} ms: {}", ending.task, ending.ran_ms, ending.message);
    event(pool, Some(&ending.app), EventKind::Warning, word, message)
}

/// A note of the backend.
#[must_use]
pub fn note(pool: &Key, note: Note) -> Event {
    let kind = if note.warning { EventKind::Warning } else { EventKind::Normal };
    event(pool, None, kind, note.reason, note.message)
}

fn event(pool: &Key, app: Option<&Key>, kind: EventKind, reason: &str, message: String) -> Event {
    Event {
        at: clock::timestamp(),
        pool: pool.to_string(),
        app: app.map(ToString::to_string),
        kind,
        reason: reason.to_owned(),
        message,
    }
}
