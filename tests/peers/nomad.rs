//! The `target-value` strategy of the Nomad Autoscaler
//! (<https://developer.hashicorp.com/nomad/tools/autoscaling/plugins/strategy/target-value>), with the agent's cooldown.

use super::ceil;

#[derive(Clone, Debug)]
pub struct Nomad {
    /// What the metric is to be.
    pub target: f64,
    /// How far from 1 the factor has to be.
    pub threshold: f64,
    pub max_up: Option<i64>,
    pub max_down: Option<i64>,
    pub cooldown_ms: u64,
    pub min: i64,
    pub max: i64,
    scaled_at: Option<u64>,
}

impl Nomad {
    pub fn new(target: f64, cooldown_ms: u64, min: i64, max: i64) -> Self {
        Self { target, threshold: 0.01, max_up: None, max_down: None, cooldown_ms, min, max, scaled_at: None }
    }

    /// One evaluation, at this moment in milliseconds.
    pub fn evaluate(&mut self, metric: f64, count: i64, now: u64) -> i64 {
        if self.scaled_at.is_some_and(|at| at + self.cooldown_ms > now) {
            return count;
        }
        let next = self.strategy(metric, count).clamp(self.min, self.max);
        if next != count {
            self.scaled_at = Some(now);
        }
        next
    }

    fn strategy(&self, metric: f64, count: i64) -> i64 {
        let factor = if self.target == 0.0 { metric } else { metric / self.target };
        if count == 0 {
            return ceil(factor);
        }
        if factor >= 1.0 - self.threshold && factor <= 1.0 + self.threshold {
            return count;
        }
        let next = ceil(count as f64 * factor);
        let least = self.max_down.map_or(i64::MIN, |most| count - most);
        next.clamp(least, self.max_up.map_or(i64::MAX, |most| count + most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(target: f64, metric: f64, count: i64) -> i64 {
        Nomad::new(target, 0, 0, 1000).evaluate(metric, count, 0)
    }

    /// "A policy that tracks memory usage with target defined as 70 … 10 instances running … will add 2 new instances when the metric
    /// reaches 80".
    #[test]
    fn the_documented_example() {
        assert_eq!(once(70.0, 80.0, 10), 12);
    }

    /// From `plugin_test.go`.
    #[test]
    fn from_and_to_nothing_and_at_the_target() {
        assert_eq!([once(13.0, 13.0, 2), once(13.0, 26.0, 2), once(10.0, 20.0, 0), once(10.0, 9.0, 1)], [2, 4, 2, 1]);
        assert_eq!([once(0.0, 1.0, 0), once(0.0, 0.0, 5)], [1, 0], "a target of nothing");
        assert_eq!(once(5.0, 5.00001, 8), 8);
        assert_eq!(Nomad { threshold: 1e-6, ..Nomad::new(5.0, 0, 0, 1000) }.strategy(5.00001, 8), 9);
    }

    #[test]
    fn steps_are_bounded() {
        let nomad = Nomad { max_up: Some(2), max_down: Some(3), ..Nomad::new(10.0, 0, 0, 1000) };
        assert_eq!((nomad.strategy(50.0, 10), nomad.strategy(1.0, 10)), (12, 7));
    }

    /// "A time interval after a scaling action during which no additional scaling will be performed".
    #[test]
    fn deaf_while_it_cools_down() {
        let mut nomad = Nomad::new(10.0, 60_000, 1, 1000);
        let way = [nomad.evaluate(20.0, 5, 0), nomad.evaluate(20.0, 10, 59_999), nomad.evaluate(20.0, 10, 60_000)];
        assert_eq!(way, [10, 10, 20]);
    }
}
