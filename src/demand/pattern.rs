//! The curves of simulated loads: what value a pattern has at a moment.

use std::f64::consts::TAU;

use super::trace::{BadTrace, Table};
use crate::api::demand::{FlashCrowd, Pattern, RandomWalk, Step, Wave};

/// After so many halvings (1/128) a rush is over: a tail without end would keep one more replica for ever.
const HALVINGS: u64 = 7;

/// A pattern made ready to be read at rising moments.
#[derive(Debug)]
pub enum Curve {
    Walk(Walk),
    Sine(Wave),
    Square(Wave),
    Step(Step),
    FlashCrowd(FlashCrowd),
    Trace(Table),
}

impl Curve {
    /// # Errors
    /// When a trace cannot be read.
    pub fn new(pattern: &Pattern) -> Result<Self, BadTrace> {
        Ok(match pattern {
            Pattern::RandomWalk(walk) => Self::Walk(Walk::new(walk)),
            Pattern::Sine(wave) => Self::Sine(wave.clone()),
            Pattern::Square(wave) => Self::Square(wave.clone()),
            Pattern::Step(step) => Self::Step(step.clone()),
            Pattern::FlashCrowd(crowd) => Self::FlashCrowd(crowd.clone()),
            Pattern::Trace(trace) => Self::Trace(Table::read(trace)?),
        })
    }

    /// The value `elapsed` milliseconds after the start, which is value number `index` (from 0) of a series. Only a random walk
    /// looks at the index, and only there may it not go back.
    pub fn value(&mut self, elapsed: u64, index: u64) -> f64 {
        let value = match self {
            Self::Walk(walk) => walk.at(index),
            Self::Sine(wave) => sine(wave, elapsed),
            Self::Square(wave) => square(wave, elapsed),
            Self::Step(step) => {
                if elapsed < unsigned(step.after_milliseconds) {
                    step.from
                } else {
                    step.to
                }
            }
            Self::FlashCrowd(crowd) => flash_crowd(crowd, elapsed),
            Self::Trace(table) => table.at(elapsed),
        };
        // Rounding noise must not cost a replica: 50.000000000000006 per 10 would be 6 of them.
        (value * 1e6).round() / 1e6
    }
}

/// Begins in the middle, on its way up.
fn sine(wave: &Wave, elapsed: u64) -> f64 {
    let middle = f64::midpoint(wave.min, wave.max);
    middle + (wave.max - wave.min) / 2.0 * (TAU * phase(wave, elapsed)).sin()
}

/// Begins with the lower level.
fn square(wave: &Wave, elapsed: u64) -> f64 {
    if phase(wave, elapsed) < 0.5 { wave.min } else { wave.max }
}

/// Place inside the period, from 0 to less than 1.
fn phase(wave: &Wave, elapsed: u64) -> f64 {
    let period = unsigned(wave.period_milliseconds).max(1);
    float(elapsed % period) / float(period)
}

/// Begins calm; the first rush comes after one interval.
fn flash_crowd(crowd: &FlashCrowd, elapsed: u64) -> f64 {
    let every = unsigned(crowd.every_milliseconds).max(1);
    if elapsed < every {
        return crowd.base;
    }
    let halvings = (elapsed % every) / unsigned(crowd.lasts_milliseconds).max(1);
    if halvings >= HALVINGS {
        return crowd.base;
    }
    crowd.base + (crowd.peak - crowd.base) / float(1 << halvings)
}

/// A random walk that begins halfway between its bounds.
#[derive(Debug)]
pub struct Walk {
    rng: fastrand::Rng,
    bounds: (f64, f64),
    max_step: f64,
    value: f64,
    index: u64,
}

impl Walk {
    fn new(walk: &RandomWalk) -> Self {
        let bounds = (walk.min.min(walk.max), walk.max.max(walk.min));
        let rng = fastrand::Rng::with_seed(unsigned(walk.seed));
        Self { rng, bounds, max_step: walk.max_step, value: f64::midpoint(bounds.0, bounds.1), index: 0 }
    }

    /// A skipped value is walked through, so that the walk is the same whatever the load of the machine.
    fn at(&mut self, index: u64) -> f64 {
        while self.index < index {
            let step = (self.rng.f64() * 2.0 - 1.0) * self.max_step;
            self.value = (self.value + step).max(self.bounds.0).min(self.bounds.1);
            self.index += 1;
        }
        self.value
    }
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Values at these moments, with the moment's place as the index.
    fn values(pattern: &Pattern, moments: &[u64]) -> Vec<f64> {
        let mut curve = Curve::new(pattern).unwrap();
        (0..).zip(moments).map(|(index, &at)| curve.value(at, index)).collect()
    }

    fn wave() -> Wave {
        Wave { min: 10.0, max: 30.0, period_milliseconds: 400 }
    }

    #[test]
    #[allow(clippy::float_cmp)]
    fn waves() {
        let moments = [0, 50, 100, 199, 200, 300, 399, 400, 500];
        let sine = values(&Pattern::Sine(wave()), &moments);
        assert_eq!(sine, [20.0, 27.071_068, 30.0, 20.157_073, 20.0, 10.0, 19.842_927, 20.0, 30.0]);
        let square = values(&Pattern::Square(wave()), &moments);
        assert_eq!(square, [10.0, 10.0, 10.0, 10.0, 30.0, 30.0, 30.0, 10.0, 10.0]);
    }

    #[test]
    fn a_step_comes_once() {
        let step = Pattern::Step(Step { from: 5.0, to: 50.0, after_milliseconds: 1000 });
        assert_eq!(values(&step, &[0, 999, 1000, 1_000_000]), [5.0, 5.0, 50.0, 50.0]);
    }

    #[test]
    fn a_flash_crowd_rushes_in_and_ebbs_away() {
        let crowd = FlashCrowd { base: 10.0, peak: 138.0, every_milliseconds: 1000, lasts_milliseconds: 100 };
        let moments = [0, 999, 1000, 1099, 1100, 1200, 1300, 1400, 1500, 1600, 1700, 1999, 2000];
        let expected = [10.0, 10.0, 138.0, 138.0, 74.0, 42.0, 26.0, 18.0, 14.0, 12.0, 10.0, 10.0, 138.0];
        assert_eq!(values(&Pattern::FlashCrowd(crowd), &moments), expected);
    }

    #[test]
    fn a_walk_is_the_same_for_the_same_seed_and_stays_inside_its_bounds() {
        let walk = |seed| Pattern::RandomWalk(RandomWalk { min: 0.0, max: 20.0, max_step: 4.0, seed });
        let moments: Vec<u64> = (0..200).map(|i| i * 100).collect();
        let first = values(&walk(7), &moments);
        assert_eq!(first, values(&walk(7), &moments));
        assert_ne!(first, values(&walk(8), &moments));
        assert_eq!(first[..4], [10.0, first[1], first[2], first[3]]);
        assert!(first.iter().all(|v| (0.0..=20.0).contains(v)));
        assert!(first.windows(2).all(|w| (w[1] - w[0]).abs() <= 4.0 + 1e-6));
        let mut skipping = Curve::new(&walk(7)).unwrap();
        assert!((skipping.value(0, 50) - first[50]).abs() < 1e-9, "skipped values change the walk");
    }
}
