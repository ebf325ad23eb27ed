//! How fast we are: from a change until the calls are written, and until what is granted runs.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::changes::Change;
use crate::api::validated::Key;
use crate::policy::plan::{Plan, Verdict};

/// As many reactions are remembered for the median and the 99th percentile.
const REMEMBERED: usize = 1000;

/// Times of one pool.
#[derive(Debug, Default)]
pub struct Progress {
    apps: BTreeMap<Key, AppProgress>,
    reactions: VecDeque<Duration>,
    launches: VecDeque<Duration>,
}

#[derive(Debug, Default)]
struct AppProgress {
    granted: Option<i64>,
    /// When the change arrived that led to what is granted now, while it is not reached.
    since: Option<Instant>,
    last: Option<Duration>,
}

impl Progress {
    /// Forgets apps that are not judged any more.
    pub fn forget(&mut self, plan: &Plan) {
        self.apps.retain(|app, _| plan.verdicts.contains_key(app));
    }

    /// Notes what a decision has changed, in answer to something that arrived at `cause`. Returns the apps that have converged with it,
    /// and how long it took.
    pub fn observe(&mut self, changes: &[Change], cause: Instant, now: Instant) -> Vec<(Key, Duration)> {
        let mut converged = Vec::new();
        for Change { app: key, after, .. } in changes {
            let Some(verdict) = after else {
                self.apps.remove(*key);
                continue;
            };
            let app = self.apps.entry((*key).clone()).or_default();
            let found_so = app.granted.is_none() && is_reached(verdict);
            if app.granted != Some(verdict.granted) {
                app.granted = Some(verdict.granted);
                // What was found as it ought to be has not been brought about now.
                app.since = app.since.or(Some(cause)).filter(|_| !found_so);
            }
            if is_reached(verdict)
                && let Some(since) = app.since.take()
            {
                let took = now.saturating_duration_since(since);
                app.last = Some(took);
                converged.push(((*key).clone(), took));
            }
        }
        converged
    }

    /// The time that the app's last convergence took.
    #[must_use]
    pub fn last(&self, app: &Key) -> Option<Duration> {
        self.apps.get(app)?.last
    }

    /// Notes how long it took from a change until its calls were written.
    pub fn reacted(&mut self, reaction: Duration) {
        remember(&mut self.reactions, reaction);
    }

    /// Notes how long it took from the order of a replica until it ran.
    pub fn launched(&mut self, launch: Duration) {
        remember(&mut self.launches, launch);
    }

    /// Median and 99th percentile of the last reactions.
    #[must_use]
    pub fn reactions(&self) -> Option<(Duration, Duration)> {
        median_and_p99(&self.reactions)
    }

    /// The same of the last launches.
    #[must_use]
    pub fn launches(&self) -> Option<(Duration, Duration)> {
        median_and_p99(&self.launches)
    }
}

fn remember(times: &mut VecDeque<Duration>, time: Duration) {
    if times.len() == REMEMBERED {
        times.pop_front();
    }
    times.push_back(time);
}

fn median_and_p99(times: &VecDeque<Duration>) -> Option<(Duration, Duration)> {
    let mut sorted: Vec<Duration> = times.iter().copied().collect();
    sorted.sort_unstable();
    let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied();
    Some((at(50)?, at(99)?))
}

/// What is granted runs, and nothing else does.
fn is_reached(verdict: &Verdict) -> bool {
    verdict.running == verdict.granted && verdict.starting == 0 && verdict.stopping == 0
}
