//! How many replicas an app wants now: demand, damped, and crashes. In a large pool, most decisions are about few apps, and those are made
//! sooner that take over what was judged of the rest.

use std::sync::Arc;

use super::backoff::Crash;
use super::claim::Tally;
use super::memory::AppMemory;
use super::plan::{Reason, Verdict};
use super::rollout;
use super::want::{self, Asked, Standing};
use super::world::{AppView, Millis, Reading};
use crate::api::validated::App;

/// What an app's demand and its crashes come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    /// Replicas that demand asks for, damped.
    pub want: i64,
    /// What asked for them, and the state of its metrics.
    pub asked: Arc<Asked>,
    /// The current template's, if it fails or did.
    pub crash: Option<Crash>,
    /// When it changes although nothing happens.
    pub wake_at: Option<Millis>,
}

/// A judgement that stays what it is for as long as nothing changes that it was made from.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    spec: Arc<App>,
    readings: Vec<Reading>,
    tally: Tally,
    judgement: Judgement,
    /// What was said of the app when it was at rest.
    pub verdict: Option<Arc<Verdict>>,
}

/// Judges the app, unless that would come to the same as before.
pub(super) fn of(app: &App, view: &AppView, tally: Tally, memory: &mut AppMemory, now: Millis) -> Judgement {
    let settled = memory.settled.as_ref().filter(|settled| memory.crashes.is_none() && settled.holds(view, tally, now));
    let Some(Settled { judgement, .. }) = settled else { return judge(app, view, tally, memory, now) };
    let judgement = judgement.clone();
    // Under test, now and then: with thousands of apps it takes its time.
    let is_same = || judgement == judge(app, view, tally, &mut memory.clone(), now);
    debug_assert!(!now.is_multiple_of(8) || is_same(), "{} has changed unnoticed", app.key);
    judgement
}

fn judge(app: &App, view: &AppView, tally: Tally, memory: &mut AppMemory, now: Millis) -> Judgement {
    if memory.since.is_none() || memory.generation != app.generation {
        (memory.since, memory.generation) = (Some(now), app.generation);
    }
    memory.informed |= view.readings.iter().any(|reading| reading.value.is_some());
    let current = current(app, tally, memory).clamp(app.min, app.max);
    let start_ms = memory.senses.observe(app, &view.tasks, tally.ready, now);
    let standing = Standing { current, ready: tally.ready, since: memory.since.unwrap_or(now), start_ms };
    let mut asked = want::asked(app, &view.readings, standing, &mut memory.senses, now);
    let kept = app.panic.map(|panic| memory.bursts.keep(panic, asked.replicas, now));
    let (replicas, burst_ends) = kept.as_ref().map_or((asked.replicas, None), |kept| (kept.replicas, kept.wake_at));
    let damped = memory.damper.settle(app, current, replicas, now);
    asked.reasons.splice(0..0, damped.reason.into_iter().chain(kept.and_then(|kept| kept.reason)));
    memory.want = Some(damped.replicas);
    let crash = memory.crashes.review(app.version, &view.tasks, now);
    let retry_at = crash.as_ref().map(Crash::retry_at).filter(|at| *at > now);
    let wakes = [asked.wake_at, burst_ends, damped.wake_at, retry_at, memory.crashes.wake_at(&view.tasks, now)];
    let wake_at = wakes.into_iter().flatten().min();
    let judgement = Judgement { want: damped.replicas, asked: Arc::new(asked), crash, wake_at };
    memory.settled = Settled::of(&judgement, current, view, tally);
    judgement
}

impl Settled {
    /// If it would be judged in the same way again: by then, what was wanted last is what is wanted now. What is said of old values, of
    /// crashes and of what is foreseen tells times, and so is never the same.
    fn of(judgement: &Judgement, current: i64, view: &AppView, tally: Tally) -> Option<Self> {
        let steady = judgement.want == current && judgement.crash.is_none();
        let fresh = judgement.asked.states.iter().all(|state| !state.is_missing());
        let foreseen = judgement.asked.reasons.iter().any(|reason| matches!(reason, Reason::Foreseen { .. }));
        let spec = view.spec.as_ref().filter(|_| steady && fresh && !foreseen)?.clone();
        Some(Self { spec, readings: view.readings.clone(), tally, judgement: judgement.clone(), verdict: None })
    }

    fn holds(&self, view: &AppView, tally: Tally, now: Millis) -> bool {
        let same_spec = view.spec.as_ref().is_some_and(|spec| Arc::ptr_eq(spec, &self.spec));
        let in_time = self.judgement.wake_at.is_none_or(|at| at > now);
        same_spec && self.tally == tally && in_time && self.readings == view.readings
    }
}

/// What was wanted last; at first sight, what is there. As long as no metric has spoken, nothing tells whether tasks that turn up later
/// (their agent was out of reach at the start) are too many, and they raise it.
fn current(app: &App, tally: Tally, memory: &mut AppMemory) -> i64 {
    let there = tally.live() + tally.awaited;
    let Some(want) = memory.want else { return there };
    if memory.informed || app.demand.is_empty() || app.remainder.is_some() {
        return want;
    }
    // Neither the successors of a rollover or a move nor those of tasks that were given up for lost are wanted besides them.
    memory.given_up = memory.given_up.max(tally.unreachable - tally.awaited);
    let surge = rollout::surge(app, tally.outgoing, tally.displaced);
    want.max(there - surge - memory.given_up)
}
