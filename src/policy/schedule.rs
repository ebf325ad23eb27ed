//! Metrics that say something only in their windows of time: a number of replicas, or how much the other metrics count.

use std::borrow::Cow;
use std::sync::Arc;

use super::plan::Reason;
use super::want::Said;
use super::world::{Foreseen, Reading};
use crate::api::demand::{Effect, Schedule, Source};
use crate::api::status::DemandState;
use crate::api::validated::{App, Metric};

/// How many times as much demand counts: what all open windows say, together.
pub(super) fn factor(app: &App, readings: &[Reading]) -> f64 {
    let factors = app.demand.iter().zip(readings).filter(|(metric, _)| matches!(effect(metric), Some(Effect::Factor(_))));
    factors.filter_map(|(_, reading)| reading.value).map(|(factor, _)| factor).product()
}

/// The reading as it counts, and what it will be; what a schedule says is not demand.
pub(super) fn weighed<'a>(metric: &Metric, reading: &'a Reading, factor: f64) -> Cow<'a, Reading> {
    #[allow(clippy::float_cmp, reason = "exactly 1 is the product of no factors")]
    if factor == 1.0 || effect(metric).is_some() {
        return Cow::Borrowed(reading);
    }
    let value = reading.value.map(|(value, at)| (value * factor, at));
    let foreseen = reading.foreseen.as_ref().map(|Foreseen(curve)| Foreseen(Arc::new(curve.times(factor))));
    Cow::Owned(Reading { value, foreseen, ..reading.clone() })
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
    Some(Said { state, replicas, holds: false, reason, wake_at: None })
}

fn effect(metric: &Metric) -> Option<Effect> {
    match &metric.source {
        Source::Schedule(Schedule { effect, .. }) => Some(*effect),
        _ => None,
    }
}
