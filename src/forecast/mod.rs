//! What demand will be: Scryer's idea (Jacobson, Yuan and Joshi, "Scryer: Netflix's Predictive Auto Scaling Engine", 2013) for metrics that
//! come round, such as by the hour of the day. Pure; `demand::foresight` feeds it off the engine's way.
//!
//! ```text
//!  values ─► History ─► seasons (FFT) ─► decomposition, level ─► Curve ─► policy: max(now, foreseen)
//!            (steps)                                              │
//!                          Trust: what was foreseen, beside what came
//! ```
//!
//! A forecast can only raise what is wanted, and it is heeded only while it has been good of late. Otherwise it would do harm in the very
//! moment when the world has changed.
//!
//! | look for | in |
//! |---|---|
//! | what was, in even steps | [`history`] |
//! | how long a season is | [`season`] |
//! | what will be | [`model`] |
//! | whether to believe it | [`trust`] |
//! | all of that from step to step | [`forecaster`] |

pub mod forecaster;
pub mod history;
pub mod model;
pub mod season;
pub mod trust;

use crate::policy::world::Millis;

/// What a metric will be, in even steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// When the first step begins.
    pub begins: Millis,
    pub step_ms: Millis,
    /// The most in each step.
    pub values: Vec<f64>,
    /// It was good of late, and may be acted upon.
    pub trusted: bool,
    /// What the mean error of late was, as a share of what came; `None` before there was enough to compare.
    pub error: Option<f64>,
    /// The seasons that were found, in milliseconds.
    pub seasons: Vec<Millis>,
}

impl Curve {
    /// The most from `now` until `until`, and when that is; `None` if the curve tells nothing of this time.
    #[must_use]
    pub fn most(&self, now: Millis, until: Millis) -> Option<(f64, Millis)> {
        let step = |at: Millis| usize::try_from(at.saturating_sub(self.begins) / self.step_ms.max(1)).unwrap_or(usize::MAX);
        let last = step(until).min(self.values.len().checked_sub(1)?);
        let within = self.values.get(step(now)..=last)?.iter().zip(step(now)..);
        let (value, nth) = within.max_by(|(a, i), (b, j)| a.total_cmp(b).then(j.cmp(i)))?;
        Some((*value, self.begins + self.step_ms * nth as Millis))
    }

    /// When the step ends that is under way: what is the most from then on may be another.
    #[must_use]
    pub fn step_ends(&self, now: Millis) -> Millis {
        let step = now.saturating_sub(self.begins) / self.step_ms.max(1);
        self.begins + (step + 1) * self.step_ms.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_most_counts() {
        let values = vec![1.0, 5.0, 2.0, 5.0, 9.0];
        let curve = Curve { begins: 1000, step_ms: 100, values, trusted: true, error: None, seasons: Vec::new() };
        assert_eq!(curve.most(1000, 1050), Some((1.0, 1000)));
        assert_eq!(curve.most(1000, 1399), Some((5.0, 1100)));
        assert_eq!(curve.most(1250, 1399), Some((5.0, 1300)));
        assert_eq!(curve.most(1250, 99_999), Some((9.0, 1400)));
        assert_eq!(curve.most(1500, 2000), None, "nothing is known of that time");
        assert_eq!((curve.step_ends(1000), curve.step_ends(1399)), (1100, 1400));
    }
}
