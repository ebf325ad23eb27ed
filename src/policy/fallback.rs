//! What stands in for metrics that have been stale for too long.

use super::plan::{By, Reason};
use super::senses::Senses;
use super::want::Said;
use super::world::Millis;
use crate::api::status::DemandState;
use crate::api::validated::{App, Metric, Rung, StandIn};

/// Lets what is on their ladders speak for the metrics that are stale, and tells when that changes.
pub(super) fn stand_in(app: &App, said: &mut [Said], senses: &Senses, now: Millis) {
    for (index, metric) in app.demand.iter().enumerate() {
        let Some(stale_ms) = said[index].stale_ms.filter(|_| !metric.ladder.is_empty()) else { continue };
        let next = metric.ladder.iter().map(|rung| rung.after_ms).find(|after_ms| *after_ms > stale_ms);
        let wake_at = next.map(|after_ms| now.saturating_add(after_ms - stale_ms));
        let found = answer(app, metric, stale_ms, said, senses);
        let metric = &mut said[index];
        metric.wake_at = metric.wake_at.into_iter().chain(wake_at).min();
        if let Some((replicas, reason)) = found {
            (metric.replicas, metric.reason, metric.holds) = (Some(replicas), reason, false);
        }
    }
}

/// What the first rung says that has something to say, of those whose time has come last; `None`: what was wanted last is kept.
fn answer(app: &App, metric: &Metric, stale_ms: u64, said: &[Said], senses: &Senses) -> Option<(i64, Reason)> {
    let is_due = |rung: &&Rung| rung.after_ms <= stale_ms;
    let latest = metric.ladder.iter().filter(is_due).map(|rung| rung.after_ms).max()?;
    let name = || metric.name.clone();
    for rung in metric.ladder.iter().filter(|rung| rung.after_ms == latest) {
        let (replicas, by) = match rung.to {
            StandIn::Hold => return None,
            StandIn::Replicas(replicas) => return Some((replicas, Reason::Fallback { name: name(), replicas })),
            StandIn::LastMax { window_ms } => (senses.last_max(metric, window_ms), By::LastMax { window_ms }),
            StandIn::Metric(place) => {
                let replicas = said[place].replicas.filter(|_| said[place].state == DemandState::Fresh);
                (replicas, By::Metric(app.demand[place].name.clone()))
            }
        };
        if let Some(replicas) = replicas {
            return Some((replicas, Reason::StandsIn { name: name(), by, replicas }));
        }
    }
    None
}

/// Over how long it has to be remembered what the metric asked for; 0: not at all.
pub(super) fn remembered_ms(metric: &Metric) -> u64 {
    let windows = metric.ladder.iter().map(|rung| if let StandIn::LastMax { window_ms } = rung.to { window_ms } else { 0 });
    windows.max().unwrap_or(0)
}
