//! How old the values are of a metric that is a share per replica, such as utilization: what it was multiplied with when it was measured.
//! With the count of now instead, replicas that have just been added would be taken for a growth of demand, again and again until the
//! first value comes that knows of them, and with those that were ended it is the other way round: the count would swing for ever.
//!
//! It shows as the count changes: with the right age, value times count goes on as it was. As long as nothing tells, values are taken to be
//! as old as they may be.

use super::busy::seconds;
use super::target::float;
use super::wait::LAGS_MS;
use super::world::Millis;

/// By so much the surprises of one age must outweigh those of another.
const CLEARLY: f64 = 0.05;
/// Surprises are forgotten by half in so many seconds.
const FORGET_IN: f64 = 30.0;

/// Of one metric.
#[derive(Clone, Debug, Default)]
pub(super) struct Lag {
    /// When the last value came, and what all replicas bore by it, for each of [`LAGS_MS`].
    last: Option<(Millis, [f64; LAGS_MS.len()])>,
    /// How far off each has been of late.
    surprises: [f64; LAGS_MS.len()],
}

impl Lag {
    /// How many replicas bore what was measured, where `ready` tells of a moment how many could serve then.
    pub fn bearers(&mut self, value: f64, at: Millis, ready: impl Fn(Millis) -> i64) -> i64 {
        let counts = LAGS_MS.map(|lag_ms| ready(at.saturating_sub(lag_ms)));
        let all = counts.map(|count| value * float(count.max(1)));
        let (before, loads) = self.last.unwrap_or((at, all));
        if at > before {
            let kept = 0.5_f64.powf(seconds(before, at) / FORGET_IN);
            for (surprise, (new, old)) in self.surprises.iter_mut().zip(all.iter().zip(loads)) {
                *surprise = *surprise * kept + ((new - old) / new.max(old).max(f64::MIN_POSITIVE)).powi(2);
            }
        }
        self.last = Some((at, all));
        let least = self.surprises.iter().copied().fold(f64::MAX, f64::min);
        let believed = self.surprises.iter().rposition(|surprise| *surprise <= least + CLEARLY);
        believed.map_or(counts[0], |place| counts[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four replicas, and twelve from the fifth second on, bear a load of 24. What is believed to bear it half a second after that, and a
    /// second after the next change.
    fn bearers(lag_ms: Millis) -> [i64; 2] {
        let ready = |at: Millis| [4, 12, 6][usize::from(at >= 5000) + usize::from(at >= 20_000)];
        let mut lag = Lag::default();
        let mut at = |until: Millis| {
            let values = (until - 5000..=until).step_by(100).map(|at| (at, 24.0 / float(ready(at.saturating_sub(lag_ms)))));
            values.fold(0, |_, (at, value)| lag.bearers(value, at, ready))
        };
        [at(5500), at(21_000)]
    }

    #[test]
    fn the_age_shows_as_the_count_changes() {
        assert_eq!(bearers(0), [12, 6], "values that are new at once show themselves");
        assert_eq!(bearers(500), [12, 6]);
        assert_eq!(bearers(2000), [4, 12], "those that are old do not know of it");
    }
}
