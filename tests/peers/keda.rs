//! KEDA: it switches between nothing and something by itself, at each poll, and leaves the rest to an HPA.
//!
//! From <https://keda.sh/docs/latest/concepts/scaling-deployments/> and the specification of `ScaledObject`.

use super::behavior::Behavior;
use super::hpa::{Hpa, Metric};

#[derive(Clone, Debug)]
pub struct Keda {
    pub min: i64,
    /// `idleReplicaCount`, or where there is none, `minReplicaCount`.
    pub idle: i64,
    /// One replica for so much.
    pub threshold: f64,
    /// The trigger is active above this.
    pub activation_threshold: f64,
    pub cooldown_ms: u64,
    hpa: Hpa,
    last_active: Option<u64>,
}

/// `cooldownPeriod`.
const COOLDOWN_MS: u64 = 300_000;

impl Keda {
    pub fn new(min: i64, max: i64, threshold: f64, behavior: Behavior) -> Self {
        // HPA itself never goes below one.
        let hpa = Hpa::new(min.max(1), max, behavior);
        Self { min, idle: min, threshold, activation_threshold: 0.0, cooldown_ms: COOLDOWN_MS, hpa, last_active: None }
    }

    /// Every `pollingInterval`.
    pub fn poll(&mut self, value: f64, current: i64, now: u64) -> i64 {
        if value > self.activation_threshold {
            self.last_active = Some(now);
            return if current <= self.idle && self.idle < self.min.max(1) { self.min.max(1) } else { current };
        }
        let is_over = self.last_active.is_none_or(|at| at + self.cooldown_ms <= now);
        if is_over { current.min(self.idle) } else { current }
    }

    /// Every period of the HPA, which lets an app without replicas alone.
    pub fn scale(&mut self, value: f64, current: i64, now: u64) -> i64 {
        if current == 0 {
            return 0;
        }
        self.hpa.scale(&[Metric::AverageValue { value, target: self.threshold }], current, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_zero() -> Keda {
        Keda::new(0, 100, 10.0, Behavior::immediate())
    }

    /// "If the threshold is 10 and the activationThreshold is 50, in case of 40 messages the scaler is not active and it'll be scaled
    /// to zero even if the HPA requires 4 instances."
    #[test]
    fn activation_comes_before_the_threshold() {
        let mut keda = Keda { activation_threshold: 50.0, ..from_zero() };
        assert_eq!(keda.poll(40.0, 0, 0), 0);
        assert_eq!(keda.scale(40.0, 4, 0), 4, "what the HPA requires");
        assert_eq!(keda.poll(40.0, 4, 0), 0);
        assert_eq!((keda.poll(51.0, 0, 1000), keda.scale(51.0, 1, 1000)), (1, 6));
    }

    /// "Activation only occurs when this value is greater than the set value", by default 0.
    #[test]
    fn one_message_activates() {
        assert_eq!((from_zero().poll(0.0, 0, 0), from_zero().poll(1.0, 0, 0)), (0, 1));
        assert_eq!(from_zero().scale(500.0, 0, 0), 0, "an HPA does not scale what is at zero");
    }

    /// `cooldownPeriod`: "the period to wait after the last trigger reported active before scaling the resource back to 0".
    #[test]
    fn to_zero_after_the_cooldown() {
        let mut keda = from_zero();
        keda.poll(9.0, 0, 0);
        assert_eq!([keda.poll(0.0, 1, 30_000), keda.poll(0.0, 1, 299_999), keda.poll(0.0, 1, 300_000)], [1, 1, 0]);
        let mut with_minimum = Keda::new(2, 100, 10.0, Behavior::immediate());
        assert_eq!(with_minimum.poll(0.0, 2, 0), 2, "it applies only where there may be none");
    }

    /// `idleReplicaCount: 0` with `minReplicaCount: 2`: nothing while idle, and two at once when not.
    #[test]
    fn idle_replicas() {
        let mut keda = Keda { idle: 0, ..Keda::new(2, 100, 10.0, Behavior::immediate()) };
        assert_eq!((keda.poll(0.0, 2, 0), keda.poll(3.0, 0, 1000)), (0, 2));
    }
}
