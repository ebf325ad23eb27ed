//! Metrics that say something only in their windows of time: a number of replicas, or how much the other metrics count.

use std::borrow::Cow;
use std::sync::Arc;

use super::plan::Reason;
use super::want::Said;
use super::world::{Foreseen, Reading};
use crate::api::demand::{Effect, Schedule, Source};
use crate::api::status::DemandState;
use crate::api::validated::{App, Metric};

/// The readings as they count: all but those of schedules are taken as many times as the open windows say together.
pub(super) fn weighed<'a>(app: &App, readings: &'a [Reading]) -> Cow<'a, [Reading]> {
    let factors = app.demand.iter().zip(readings).filter(|(metric, _)| matches!(effect(metric), Some(Effect::Factor(_))));
    let factor: f64 = factors.filter_map(|(_, reading)| reading.value).map(|(factor, _)| factor).product();
    #[allow(clippy::float_cmp, reason = "exactly 1 is the product of no factors")]
    if factor == 1.0 {
        return Cow::Borrowed(readings);
    }
    let each = app.demand.iter().zip(readings);
    each.map(|(metric, reading)| if effect(metric).is_some() { reading.clone() } else { times(reading, factor) }).collect()
}

/// The reading, and what it will be, so many times.
fn times(reading: &Reading, factor: f64) -> Reading {
    let value = reading.value.map(|(value, at)| (value * factor, at));
    let foreseen = reading.foreseen.as_ref().map(|Foreseen(curve)| Foreseen(Arc::new(curve.times(factor))));
    Reading { value, foreseen, ..reading.clone() }
}

/// What a metric says that is silent on purpose, or a schedule in its window: neither is ever stale, and silence does not hold anything.
pub(super) fn said(metric: &Metric, reading: &Reading) -> Option<Said> {
    let name = metric.name.clone();
    let (state, replicas, reason) = match (effect(metric)?, reading.value) {
        _ if reading.silent => (DemandState::Silent, None, Reason::OutsideWindow { name }),
        (Effect::Factor(_), Some((factor, _))) => (DemandState::Fresh, None, Reason::Weighed { name, factor }),
        (Effect::Replicas(count), Some(_)) => {
            let replicas = count.into();
            (DemandState::Fresh, Some(replicas), Reason::Scheduled { name, replicas })
        }
        (_, None) => return None,
    };
    // Outside its window, it counts for nothing in a formula.
    let value = Some(reading.value.map_or(0.0, |(value, _)| value));
    Some(Said { state, value, stale_ms: None, replicas, holds: false, reason, wake_at: None })
}

fn effect(metric: &Metric) -> Option<Effect> {
    match &metric.source {
        Source::Schedule(Schedule { effect, .. }) => Some(*effect),
        _ => None,
    }
}
