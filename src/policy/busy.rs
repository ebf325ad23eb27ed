//! For how long replicas could serve, summed over them.

use std::collections::VecDeque;

use super::target::float;
use super::world::Millis;

/// More changes than this are not kept; it is only values that are old when they arrive that look back at all.
const MOST_CHANGES: usize = 256;

/// Replica-seconds since the beginning, as a line that bends whenever the count changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy {
    /// Each with the count from then on, oldest first.
    bends: VecDeque<(Millis, f64, i64)>,
}

impl Busy {
    /// From now on, so many can serve. What is further back than `keep_ms` is forgotten.
    pub fn observe(&mut self, ready: i64, now: Millis, keep_ms: u64) {
        if self.bends.back().is_none_or(|(_, _, last)| *last != ready) {
            self.bends.push_back((now, self.until(now), ready));
        }
        let is_old = |(at, ..): &(Millis, f64, i64)| at.saturating_add(keep_ms) <= now;
        while self.bends.len() > MOST_CHANGES || self.bends.get(1).is_some_and(is_old) {
            self.bends.pop_front();
        }
    }

    /// How many could serve at that moment. Before the beginning there were as many as then; `None`: nothing is known.
    pub fn at(&self, at: Millis) -> Option<i64> {
        self.bend(at).map(|(_, _, ready)| *ready)
    }

    /// Replica-seconds until this moment. Before the beginning there was what there was then.
    pub fn until(&self, at: Millis) -> f64 {
        let Some((bend, sum, ready)) = self.bend(at) else { return 0.0 };
        sum + float(*ready) * seconds(*bend, at)
    }

    /// The last one until then, or the first of all.
    fn bend(&self, at: Millis) -> Option<&(Millis, f64, i64)> {
        let after = self.bends.partition_point(|(bend, ..)| *bend <= at);
        self.bends.get(after.saturating_sub(1))
    }
}

/// From one moment to another; negative if that is before it.
pub(super) fn seconds(from: Millis, to: Millis) -> f64 {
    let ms = i64::try_from(from.abs_diff(to)).unwrap_or(i64::MAX);
    float(if to < from { -ms } else { ms }) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_time() {
        let mut busy = Busy::default();
        for (ready, now) in [(2, 1000), (2, 1500), (4, 2000), (0, 3000)] {
            busy.observe(ready, now, 2000);
        }
        let between = |from, to| busy.until(to) - busy.until(from);
        assert!((between(1000, 2000) - 2.0).abs() < 1e-9 && (between(1500, 2500) - 3.0).abs() < 1e-9);
        assert!((between(2500, 9000) - 2.0).abs() < 1e-9 && (between(0, 1000) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn memory_stays_small() {
        let mut busy = Busy::default();
        (0..10_000).for_each(|n| busy.observe(i64::from(n % 2 == 0), n * 1000, 5000));
        assert!(busy.bends.len() <= 7);
    }
}
