//! One metric's value to replicas, by its target. Those that only look at the value are as the Horizontal Pod Autoscaler computes them
//! (k8s.io/kubernetes/pkg/controller/podautoscaler, `replica_calculator.go`); those that look at how it moves have memories of their own.

use super::pace::Controller;
use super::plan::Reason;
use super::senses::Senses;
use super::want::Standing;
use super::world::{Millis, Reading};
use crate::api::validated::{App, Metric, TargetValue};

/// HPA's `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;

/// A value that can be believed, and all that its target may look at besides.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a> {
    pub value: f64,
    pub at: Millis,
    /// The app's values, in the order of its metrics.
    pub readings: &'a [Reading],
    pub standing: Standing,
    pub now: Millis,
}

/// What a target makes of a value.
pub(super) struct Answer {
    pub replicas: i64,
    pub reason: Reason,
    /// When it answers otherwise although nothing has changed.
    pub wake_at: Option<Millis>,
}

/// The replicas that this metric asks for.
pub(super) fn replicas(app: &App, metric: &Metric, sample: Sample, senses: &mut Senses) -> Answer {
    let Sample { value, standing, .. } = sample;
    let name = metric.name.clone();
    let (target, replicas) = match metric.target {
        TargetValue::Value(target) => (target, by_ratio(app, value / target, bearing(metric, sample, senses))),
        TargetValue::Average(target) => (target, by_share(app, value, target, standing.current)),
        TargetValue::Utilization(percent) => (percent, by_use(app, value / percent, bearing(metric, sample, senses))),
        TargetValue::Rate(target) => (target, Some(by_rate(app, value / target, standing.current))),
        TargetValue::QueueLength(length) => return senses.pace(metric, Controller::ProportionalDerivative, length, sample),
        TargetValue::SimpleQueue(length) => return senses.pace(metric, Controller::OneByOne, length, sample),
        TargetValue::None => {
            let reason = Reason::Metric { name, value, target: 0.0, replicas: 0 };
            return Answer { replicas: 0, reason, wake_at: None };
        }
        TargetValue::Wait(wait) => return senses.wait(app, metric, wait, sample),
    };
    let (replicas, reason) = match replicas {
        Some(replicas) => (replicas, Reason::Metric { name, value, target, replicas }),
        None => (standing.current, Reason::WithinTolerance { name }),
    };
    Answer { replicas, reason, wake_at: None }
}

/// Where the app stood as the value was measured: that is what it tells of.
fn bearing(metric: &Metric, sample: Sample, senses: &mut Senses) -> Standing {
    Standing { ready: senses.bearers(metric, sample), ..sample.standing }
}

/// HPA's `GetObjectPerPodMetricReplicas`; `None` within the tolerance.
fn by_share(app: &App, value: f64, target: f64, current: i64) -> Option<i64> {
    let within = current > 0 && is_near(app, value / (target * float(current)), 0.0);
    (!within).then(|| round_up(value / target))
}

/// HPA's `GetObjectMetricReplicas`; `None` within the tolerance.
fn by_ratio(app: &App, ratio: f64, Standing { current, ready, .. }: Standing) -> Option<i64> {
    if current > 0 && is_near(app, ratio, TOLERANCE) {
        return None;
    }
    Some(match ratio {
        _ if current == 0 => round_up(ratio),
        // Replicas that are still starting must not turn growth into the opposite.
        _ if ratio >= 1.0 => round_up(ratio * float(ready.min(current))).max(current),
        _ => round_up(ratio * float(ready.max(1))).min(current),
    })
}

/// HPA's `GetResourceReplicas`: on the way up, replicas that are still starting count as unused. If that makes the difference, nothing
/// changes.
fn by_use(app: &App, ratio: f64, standing: Standing) -> Option<i64> {
    let Standing { current, ready, .. } = standing;
    if current > 0 && ratio > 1.0 && is_near(app, ratio * float(ready.min(current)) / float(current), TOLERANCE) {
        return None;
    }
    by_ratio(app, ratio, standing)
}

/// What is there stays while it is enough, and the rate would not have to grow by more than the tolerance to need it.
fn by_rate(app: &App, need: f64, current: i64) -> i64 {
    let least = round_up(need / (1.0 + app.up.tolerance.unwrap_or(0.0)));
    if least > current {
        return round_up(need);
    }
    current.min(round_up(need * (1.0 + app.down.tolerance.unwrap_or(TOLERANCE))))
}

fn is_near(app: &App, ratio: f64, preset: f64) -> bool {
    let tolerance = if ratio > 1.0 { app.up.tolerance } else { app.down.tolerance }.unwrap_or(preset);
    tolerance > 0.0 && (1.0 - ratio).abs() <= tolerance
}

/// What a shrinking app keeps in hand.
pub(super) fn slack(app: &App) -> f64 {
    1.0 + app.down.tolerance.unwrap_or(TOLERANCE)
}

/// Rounds up what is more than a rounding error above a whole number: 1.1 / 0.1 is 11 replicas, not 12.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn round_up(x: f64) -> i64 {
    (x - x.abs().max(1.0) * 1e-9).ceil().min(1e15) as i64
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn float(n: i64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{app, demand, reading};
    use super::super::want::asked;
    use super::*;

    const NOW: Millis = 100_000;

    fn at(current: i64) -> Standing {
        Standing { current, ready: current, since: 0, start_ms: 0 }
    }

    fn asks(target: &Value, behavior: &Value, value: f64, standing: Standing) -> i64 {
        let app = app("a", json!({"demand": [demand(target)], "behavior": behavior}));
        asked(&app, &[reading(value, NOW)], standing, &mut Senses::default(), NOW).replicas
    }

    fn of(target: &Value, value: f64, standing: Standing) -> i64 {
        asks(target, &json!({}), value, standing)
    }

    /// From the documentation: "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be
    /// doubled … if it is 50m, halved … skips any scaling action if the ratio is sufficiently close to 1.0 (0.1 by default)".
    #[test]
    fn value_scales_as_hpa_documents() {
        let of = |value, standing| of(&json!({"value": "100m"}), value, standing);
        assert_eq!(of(0.2, at(4)), 8);
        assert_eq!(of(0.05, at(4)), 2);
        assert_eq!(of(0.109, at(4)), 4);
        assert_eq!(of(0.111, at(4)), 5);
        assert_eq!(of(0.25, at(0)), 3, "from nothing, the ratio itself");
        assert_eq!(of(0.0, at(4)), 0);
    }

    #[test]
    fn starting_replicas_do_not_turn_growth_around() {
        for target in [json!({"value": 10}), json!({"utilization": 10})] {
            assert_eq!(of(&target, 20.0, Standing { ready: 0, ..at(4) }), 4);
            assert_eq!(of(&target, 20.0, Standing { ready: 3, ..at(4) }), 6);
            assert_eq!(of(&target, 4.0, Standing { ready: 9, ..at(6) }), 4, "extra ones bear their part of it");
        }
    }

    /// A target of 50 %: at 90 % a ratio of 1.8; and with 19 of 20 ready at 56 %, 1.12 × 19 / 20 = 1.064 is near enough.
    #[test]
    fn utilization_takes_starting_replicas_for_unused() {
        let of = |value, standing| of(&json!({"utilization": 50}), value, standing);
        assert_eq!(of(90.0, at(10)), 18);
        assert_eq!(of(54.0, at(10)), 10);
        assert_eq!(of(56.0, Standing { ready: 19, ..at(20) }), 20, "by value it would be 22");
        assert_eq!(of(20.0, at(10)), 4);
    }

    #[test]
    fn average_value_is_a_share_per_replica() {
        let of = |target: Value, value, current| of(&json!({ "averageValue": target }), value, at(current));
        assert_eq!(of(json!(10), 200.0, 12), 20);
        assert_eq!(of(json!(10), 201.0, 12), 21);
        assert_eq!(of(json!(10), 0.0, 12), 0);
        assert_eq!(of(json!("100m"), 1.1, 1), 11, "1.1 / 0.1 is a little more than 11");
    }

    #[test]
    fn tolerance_can_be_set_by_direction() {
        let behavior = json!({"scaleUp": {"tolerance": 0.5}, "scaleDown": {"tolerance": 0.05}});
        let of = |target: &Value, value| asks(target, &behavior, value, at(10));
        let share = json!({"averageValue": 10});
        assert_eq!([140.0, 160.0, 96.0, 90.0].map(|value| of(&share, value)), [10, 16, 10, 9]);
        let rate = json!({"rate": {"perReplica": 10}});
        assert_eq!([149.0, 151.0, 96.0, 85.0].map(|value| of(&rate, value)), [10, 16, 10, 9]);
    }

    #[test]
    fn a_rate_near_a_whole_number_of_replicas_does_not_flap() {
        let of = |value, current| of(&json!({"rate": {"perReplica": 20}}), value, at(current));
        assert_eq!(of(100.0, 1), 5);
        assert_eq!(of(100.1, 5), 6, "growth waits for nothing");
        assert_eq!([99.0, 92.0, 90.0].map(|value| of(value, 6)), [6, 6, 5]);
        assert_eq!((of(0.0, 6), of(0.0, 0), of(1.0, 0)), (0, 0, 1));
    }
}
