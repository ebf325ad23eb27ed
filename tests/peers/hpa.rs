//! The Horizontal Pod Autoscaler of Kubernetes, autoscaling/v2.
//!
//! From "Horizontal Pod Autoscaling" (<https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>), "Algorithm
//! details", and kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go`.

use super::behavior::{Behavior, Stabilizer};
use super::ceil;

/// `--horizontal-pod-autoscaler-tolerance`.
pub const TOLERANCE: f64 = 0.1;

/// What one metric said.
#[derive(Clone, Debug)]
pub enum Metric {
    /// Object or External, `Value`: the whole is to be this much. With the number of ready pods.
    Value {
        value: f64,
        target: f64,
        ready: i64,
    },
    /// Object or External, `AverageValue`: one pod for so much.
    AverageValue {
        value: f64,
        target: f64,
    },
    /// Pods, or Resource where `target` is a share of the request: one sample for each pod.
    Pods {
        pods: Vec<Pod>,
        target: f64,
    },
    Failed,
}

/// What is known of a pod.
#[derive(Clone, Copy, Debug)]
pub enum Pod {
    Ready(f64),
    /// It starts, or its first minutes do not count.
    Unready,
    Missing,
}

/// How many replicas this metric asks for; `None` if it failed.
pub fn proposed(metric: &Metric, current: i64) -> Option<i64> {
    match metric {
        Metric::Value { value, target, ready } => Some(by_value(value / target, current, *ready)),
        Metric::AverageValue { value, target } if current == 0 => Some(ceil(value / target)),
        Metric::AverageValue { value, target } => {
            let ratio = value / (target * current as f64);
            Some(if is_tolerated(ratio) { current } else { ceil(value / target) })
        }
        Metric::Pods { pods, target } => by_pods(pods, *target, current),
        Metric::Failed => None,
    }
}

fn is_tolerated(ratio: f64) -> bool {
    (1.0 - ratio).abs() <= TOLERANCE
}

fn by_value(ratio: f64, current: i64, ready: i64) -> i64 {
    match current {
        0 => ceil(ratio),
        _ if is_tolerated(ratio) => current,
        _ => ceil(ratio * ready as f64),
    }
}

/// Pods of which nothing is known are thought to use their target when that is against scaling down, and nothing when that is against
/// scaling up; pods that are not ready count as using nothing on the way up, and not at all on the way down.
fn by_pods(pods: &[Pod], target: f64, current: i64) -> Option<i64> {
    let mut used: Vec<f64> = pods.iter().filter_map(|pod| if let Pod::Ready(used) = pod { Some(*used) } else { None }).collect();
    let [unready, missing] = [|pod: &&Pod| matches!(pod, Pod::Unready), |pod: &&Pod| matches!(pod, Pod::Missing)]
        .map(|is| pods.iter().filter(is).count());
    let ratio_of = |used: &[f64]| used.iter().sum::<f64>() / used.len() as f64 / target;
    let ratio = Some(&used).filter(|used| !used.is_empty()).map(|used| ratio_of(used))?;
    let adds_unready = unready > 0 && ratio > 1.0;
    if !adds_unready && missing == 0 {
        return Some(if is_tolerated(ratio) { current } else { ceil(ratio * used.len() as f64) });
    }
    match ratio {
        ratio if ratio < 1.0 => used.resize(used.len() + missing, target),
        ratio if ratio > 1.0 => used.resize(used.len() + missing, 0.0),
        _ => {}
    }
    used.resize(used.len() + if adds_unready { unready } else { 0 }, 0.0);
    let anew = ratio_of(&used);
    let turns = (ratio < 1.0 && anew > 1.0) || (ratio > 1.0 && anew < 1.0);
    let replicas = ceil(anew * used.len() as f64);
    let turns_by_count = (anew < 1.0 && replicas > current) || (anew > 1.0 && replicas < current);
    Some(if is_tolerated(anew) || turns || turns_by_count { current } else { replicas })
}

/// One object of the kind, with what it remembers.
#[derive(Clone, Debug)]
pub struct Hpa {
    pub min: i64,
    pub max: i64,
    stabilizer: Stabilizer,
}

impl Hpa {
    pub fn new(min: i64, max: i64, behavior: Behavior) -> Self {
        Self { min, max, stabilizer: Stabilizer::new(behavior) }
    }

    /// One pass of its loop, at this moment in milliseconds: what `spec.replicas` becomes.
    pub fn scale(&mut self, metrics: &[Metric], current: i64, now: u64) -> i64 {
        let proposals: Vec<Option<i64>> = metrics.iter().map(|metric| proposed(metric, current)).collect();
        let most = proposals.iter().flatten().max().copied();
        // Where some failed, the others may raise the count, but not lower it.
        let failed = proposals.iter().any(Option::is_none);
        let Some(desired) = most.filter(|most| !failed || *most > current) else { return current };
        self.stabilizer.settle(desired, current, (self.min, self.max), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(ready: &[f64], unready: usize, missing: usize) -> Vec<Pod> {
        let mut pods: Vec<Pod> = ready.iter().copied().map(Pod::Ready).collect();
        pods.resize(pods.len() + unready, Pod::Unready);
        pods.resize(pods.len() + missing, Pod::Missing);
        pods
    }

    fn of(ready: &[f64], unready: usize, missing: usize, target: f64) -> Option<i64> {
        let current = (ready.len() + unready + missing) as i64;
        proposed(&Metric::Pods { pods: pods(ready, unready, missing), target }, current)
    }

    /// "If the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled, since
    /// 200.0 / 100.0 == 2.0. If the current value is instead 50m, you'll halve the number of replicas".
    #[test]
    fn the_documentation_doubles_and_halves() {
        let value = |value| proposed(&Metric::Value { value, target: 100.0, ready: 4 }, 4);
        assert_eq!([value(200.0), value(50.0), value(109.0), value(91.0)], [Some(8), Some(2), Some(4), Some(4)]);
        assert_eq!(of(&[200.0; 4], 0, 0, 100.0), Some(8));
    }

    /// From `replica_calculator_test.go`.
    #[test]
    fn all_pods_are_known() {
        assert_eq!(of(&[300.0, 500.0, 700.0], 0, 0, 300.0), Some(5), "ScaleUp");
        assert_eq!(of(&[20.0, 10.0, 30.0], 0, 0, 15.0), Some(4), "ScaleUpCM");
        assert_eq!(of(&[100.0, 300.0, 500.0, 250.0, 250.0], 0, 0, 500.0), Some(3), "ScaleDown");
        assert_eq!(of(&[12.0; 5], 0, 0, 20.0), Some(3), "ScaleDownCM");
    }

    #[test]
    fn unready_pods_dampen_growth() {
        assert_eq!(of(&[500.0, 700.0], 1, 0, 300.0), Some(4), "ScaleUpUnreadyLessScale");
        assert_eq!(of(&[400.0], 2, 0, 300.0), Some(3), "ScaleUpUnreadyNoScale");
        assert_eq!(of(&[100.0, 100.0, 100.0], 1, 0, 500.0), Some(1), "they do not count on the way down");
    }

    #[test]
    fn missing_pods_are_guessed_against_the_change() {
        assert_eq!(of(&[1000.0], 0, 1, 1000.0), Some(2), "MissingMetricsNoChangeEq");
        assert_eq!(of(&[1900.0], 0, 1, 1000.0), Some(2), "MissingMetricsNoChangeGt");
        assert_eq!(of(&[600.0], 0, 1, 1000.0), Some(2), "MissingMetricsNoChangeLt");
        assert_eq!(of(&[], 0, 2, 1000.0), None, "nothing is known");
    }

    #[test]
    fn metrics_that_are_not_of_pods() {
        let value = |value, target, ready, current| proposed(&Metric::Value { value, target, ready }, current);
        assert_eq!(value(50.0, 10.0, 1, 3), Some(5), "ScaleUpCMObjectIgnoresUnreadyPods");
        assert_eq!(value(8600.0, 4400.0, 1, 3), Some(2), "ScaleUpCMExternalIgnoresUnreadyPods");
        assert_eq!(value(8600.0, 14334.0, 5, 5), Some(3), "ScaleDownCMExternal");
        let average = |value, target, current| proposed(&Metric::AverageValue { value, target }, current);
        assert_eq!(average(8600.0, 2150.0, 3), Some(4), "ScaleUpPerPodCMExternal");
        assert_eq!(average(6000.0, 2000.0, 5), Some(3), "ScaleDownPerPodCMObject");
        assert_eq!(average(20000.0, 5000.0, 3), Some(4), "ScaleUpCMPerPodObject");
        assert_eq!(average(10500.0, 2000.0, 5), Some(5), "within the tolerance");
    }

    #[test]
    fn the_largest_proposal_counts_and_a_failed_metric_forbids_less() {
        let metric = |value| Metric::AverageValue { value, target: 1.0 };
        let scale = |metrics: &[Metric]| Hpa::new(1, 100, Behavior::immediate()).scale(metrics, 10, 0);
        assert_eq!(scale(&[metric(20.0), metric(15.0)]), 20);
        assert_eq!(scale(&[metric(20.0), Metric::Failed]), 20);
        assert_eq!([scale(&[metric(5.0), Metric::Failed]), scale(&[Metric::Failed])], [10, 10]);
        assert_eq!([scale(&[metric(5.0)]), scale(&[metric(500.0)])], [5, 100]);
    }
}
