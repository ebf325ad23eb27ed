//! What HPA calls `behavior`: stabilization windows and rates, from KEP-853 and `stabilizeRecommendationWithBehaviors` and
//! `convertDesiredReplicasWithBehaviorRate` of kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go`.

use super::ceil;

#[derive(Clone, Debug)]
pub struct Behavior {
    pub up: Rules,
    pub down: Rules,
}

/// Of one direction; times in milliseconds.
#[derive(Clone, Debug)]
pub struct Rules {
    pub window_ms: u64,
    /// Without any, there is no limit.
    pub policies: Vec<Policy>,
    pub select: Select,
}

#[derive(Clone, Copy, Debug)]
pub enum Policy {
    Pods { value: i64, period_ms: u64 },
    Percent { value: i64, period_ms: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    Max,
    Min,
    Disabled,
}

impl Default for Behavior {
    /// The stock one: up by 100 % or 4 pods per 15 s, whichever is more, at once; down by 100 % per 15 s, after 5 minutes.
    fn default() -> Self {
        let [percent, pods] = [Policy::Percent { value: 100, period_ms: 15_000 }, Policy::Pods { value: 4, period_ms: 15_000 }];
        Self {
            up: Rules { window_ms: 0, policies: vec![percent, pods], select: Select::Max },
            down: Rules { window_ms: 300_000, policies: vec![percent], select: Select::Max },
        }
    }
}

impl Behavior {
    pub fn immediate() -> Self {
        let rules = Rules { window_ms: 0, policies: Vec::new(), select: Select::Max };
        Self { up: rules.clone(), down: rules }
    }
}

#[derive(Clone, Debug)]
pub struct Stabilizer {
    behavior: Behavior,
    /// What was recommended, and when.
    recommended: Vec<(u64, i64)>,
    /// By how much the count was changed, and when.
    changes: Vec<(u64, i64)>,
}

impl Stabilizer {
    pub fn new(behavior: Behavior) -> Self {
        Self { behavior, recommended: Vec::new(), changes: Vec::new() }
    }

    /// What becomes of a wish for `desired` replicas where there are `current`.
    pub fn settle(&mut self, desired: i64, current: i64, (min, max): (i64, i64), now: u64) -> i64 {
        if self.recommended.is_empty() {
            // A controller that has just started does not drop what it finds.
            self.recommended.push((now, current));
        }
        let stable = self.stabilize(desired, current, now);
        let next = self.limit(stable, current, now).clamp(min, max);
        if next != current {
            self.changes.push((now, next - current));
        }
        let policies = self.behavior.up.policies.iter().chain(&self.behavior.down.policies);
        let longest = policies.map(Policy::period_ms).max().unwrap_or(0);
        self.changes.retain(|(at, _)| at + longest > now);
        next
    }

    fn stabilize(&mut self, desired: i64, current: i64, now: u64) -> i64 {
        let Behavior { up, down } = &self.behavior;
        let within = |window_ms| self.recommended.iter().filter(move |(at, _)| at + window_ms > now).map(|(_, n)| *n);
        let least = within(up.window_ms).chain([desired]).min().unwrap_or(desired);
        let most = within(down.window_ms).chain([desired]).max().unwrap_or(desired);
        let longest = up.window_ms.max(down.window_ms);
        self.recommended.retain(|(at, _)| at + longest > now);
        self.recommended.push((now, desired));
        current.max(least).min(most)
    }

    fn limit(&self, desired: i64, current: i64, now: u64) -> i64 {
        let is_up = desired > current;
        let rules = if is_up { &self.behavior.up } else { &self.behavior.down };
        if desired == current || rules.select == Select::Disabled {
            return current;
        }
        let bounds = rules.policies.iter().map(|policy| {
            let start = current - self.changed(policy.period_ms(), now);
            policy.reach(start, is_up)
        });
        // More change is allowed by the highest bound on the way up, and by the lowest on the way down.
        let bound = if is_up == (rules.select == Select::Max) { bounds.max() } else { bounds.min() };
        match bound {
            Some(bound) if is_up => desired.min(bound.max(current)),
            Some(bound) => desired.max(bound.min(current)),
            None => desired,
        }
    }

    fn changed(&self, period_ms: u64, now: u64) -> i64 {
        self.changes.iter().filter(|(at, _)| at + period_ms > now).map(|(_, change)| change).sum()
    }
}

impl Policy {
    fn period_ms(&self) -> u64 {
        match self {
            Self::Pods { period_ms, .. } | Self::Percent { period_ms, .. } => *period_ms,
        }
    }

    fn reach(&self, start: i64, is_up: bool) -> i64 {
        match (self, is_up) {
            (Self::Pods { value, .. }, true) => start + value,
            (Self::Pods { value, .. }, false) => start - value,
            (Self::Percent { value, .. }, true) => ceil(start as f64 * (1.0 + *value as f64 / 100.0)),
            (Self::Percent { value, .. }, false) => (start as f64 * (1.0 - *value as f64 / 100.0)) as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wishes for `desired` every `every_ms`.
    fn play(behavior: Behavior, mut current: i64, desired: i64, every_ms: u64, times: u64) -> Vec<i64> {
        let mut stabilizer = Stabilizer::new(behavior);
        let mut next = |n| {
            current = stabilizer.settle(desired, current, (1, 1000), n * every_ms);
            current
        };
        (0..times).map(&mut next).collect()
    }

    fn rules(window_ms: u64, policies: &[Policy], select: Select) -> Rules {
        Rules { window_ms, policies: policies.to_vec(), select }
    }

    /// KEP-853, story 1, "scale up as fast as possible": "1 -> 10 -> 100 -> 1000" with 900 % a minute.
    #[test]
    fn scale_up_as_fast_as_possible() {
        let up = rules(0, &[Policy::Percent { value: 900, period_ms: 60_000 }], Select::Max);
        assert_eq!(play(Behavior { up, ..Behavior::default() }, 1, 1000, 60_000, 4), [10, 100, 1000, 1000]);
    }

    /// KEP-853, story 3, "scale up very gradually": 1, 2, 3, … with a pod a minute.
    #[test]
    fn scale_up_very_gradually() {
        let up = rules(0, &[Policy::Pods { value: 1, period_ms: 60_000 }], Select::Max);
        assert_eq!(play(Behavior { up, ..Behavior::default() }, 1, 1000, 60_000, 3), [2, 3, 4]);
    }

    /// The documentation: with 4 pods or 10 % a minute, "the number of replicas is 80 … the first policy … 8 replicas … on the next
    /// loop iteration when the number of replicas is 72 … 8"; "when the number of replicas falls to 40, only 4 pods are removed".
    #[test]
    fn four_pods_or_a_tenth() {
        let policies = [Policy::Pods { value: 4, period_ms: 60_000 }, Policy::Percent { value: 10, period_ms: 60_000 }];
        let down = rules(0, &policies, Select::Max);
        let way = play(Behavior { down, ..Behavior::default() }, 80, 1, 60_000, 9);
        assert_eq!(way, [72, 64, 57, 51, 45, 40, 36, 32, 28]);
        let down = rules(0, &policies, Select::Min);
        assert_eq!(play(Behavior { down, ..Behavior::default() }, 80, 1, 60_000, 3), [76, 72, 68]);
    }

    /// KEP-853, story 4: "scale down: disabled".
    #[test]
    fn a_direction_can_be_disabled() {
        let down = rules(0, &[], Select::Disabled);
        assert_eq!(play(Behavior { down, ..Behavior::default() }, 9, 1, 60_000, 2), [9, 9]);
    }

    /// KEP-853, story 5: the largest recommendation of the last ten minutes counts on the way down.
    #[test]
    fn stabilize_before_scaling_down() {
        let down = rules(600_000, &[], Select::Max);
        let mut stabilizer = Stabilizer::new(Behavior { down, ..Behavior::default() });
        let mut current = 10;
        let mut at = |minutes: u64, desired| {
            current = stabilizer.settle(desired, current, (1, 100), minutes * 60_000);
            current
        };
        assert_eq!([at(0, 10), at(1, 8), at(5, 9), at(9, 3), at(10, 3), at(11, 3), at(15, 3)], [10, 10, 10, 10, 9, 9, 3]);
    }

    /// The stock one doubles every 15 s, or adds 4; and starts to give back after five minutes.
    #[test]
    fn the_stock_behavior() {
        assert_eq!(play(Behavior::default(), 1, 40, 15_000, 5), [5, 10, 20, 40, 40]);
        let way = play(Behavior::default(), 40, 5, 15_000, 22);
        assert_eq!((way[19], way[20]), (40, 5));
    }
}
