//! One metric's forecast from step to step.

use super::Curve;
use super::history::History;
use super::model::foresee;
use super::season::find;
use super::trust::Trust;
use crate::api::validated::Foresight;
use crate::policy::world::Millis;

/// So much more than the horizon is foreseen: replicas need time to start, and the next forecast may be late.
const MARGIN_MS: Millis = 60_000;

/// Which seasons there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Season {
    /// Those that are found.
    Auto,
    /// So many steps.
    Steps(usize),
}

/// What was, what was foreseen, and how the one was of the other.
#[derive(Clone, Debug)]
pub struct Forecaster {
    pub history: History,
    trust: Trust,
    season: Season,
    /// So many steps ahead replicas are started by it: that far it has to be good.
    horizon: usize,
    /// So many steps are foreseen.
    ahead: usize,
}

/// What is reckoned up apart from all else, as it may take its time.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The number of the step after the last value.
    end: u64,
    values: Vec<f64>,
    season: Season,
    ahead: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// The number of the first step that is foreseen.
    pub begins: u64,
    pub values: Vec<f64>,
    /// In steps.
    pub seasons: Vec<usize>,
}

impl Forecaster {
    /// Keeps so many steps of history, and foresees so many.
    #[must_use]
    pub fn new(history: usize, season: Season, horizon: usize, ahead: usize) -> Self {
        Self { history: History::new(history), trust: Trust::default(), season, horizon: horizon.max(1), ahead }
    }

    /// As an app has it.
    #[must_use]
    pub fn of(terms: Foresight) -> Self {
        let Foresight { step_ms, season_ms, horizon_ms, steps } = terms;
        let count = |ms: Millis| usize::try_from(ms.div_ceil(step_ms)).unwrap_or(usize::MAX);
        let season = season_ms.map_or(Season::Auto, |season_ms| Season::Steps(count(season_ms)));
        Self::new(steps, season, count(horizon_ms), count(horizon_ms + MARGIN_MS) + 2)
    }

    /// A step has ended, with this as the most in it; `None`: nothing was known.
    pub fn came(&mut self, step: u64, value: Option<f64>) {
        self.history.note(step, value);
        self.trust.came(step, value);
    }

    /// What is to be reckoned up.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem { end: self.history.end(), values: self.history.filled(), season: self.season, ahead: self.ahead }
    }

    /// Takes note of what is foreseen, to be compared with what will come.
    pub fn foresaw(&mut self, solution: &Solution) {
        if let Some(value) = solution.values.get(self.horizon - 1) {
            self.trust.foresaw(solution.begins + self.horizon as u64 - 1, *value);
        }
    }

    /// What policy goes by, where the first step that is foreseen begins then.
    #[must_use]
    pub fn curve(&self, solution: Solution, begins: Millis, step_ms: Millis) -> Curve {
        let Solution { values, seasons, .. } = solution;
        let seasons = seasons.into_iter().map(|steps| steps as u64 * step_ms).collect();
        Curve { begins, step_ms, values, trusted: self.trust.is_trusted(), error: self.trust.error(), seasons }
    }

    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}

impl Problem {
    #[must_use]
    pub fn solve(&self) -> Solution {
        let seasons = match self.season {
            Season::Auto => find(&self.values),
            Season::Steps(steps) => vec![steps],
        };
        Solution { begins: self.end, values: foresee(&self.values, &seasons, self.ahead), seasons }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Plays values, and returns at which step the forecast was trusted first, and the error at the end.
    fn play(values: impl Fn(u64) -> f64, steps: u64, season: Season) -> (Option<u64>, f64) {
        let mut forecaster = Forecaster::new(1000, season, 5, 10);
        let mut first = None;
        for step in 0..steps {
            forecaster.came(step, Some(values(step)));
            forecaster.foresaw(&forecaster.problem().solve());
            if forecaster.trust().is_trusted() {
                first = first.or(Some(step));
            }
        }
        (first, forecaster.trust().error().unwrap())
    }

    #[test]
    fn what_comes_round_is_foreseen_after_two_rounds() {
        let rush = |step: u64| if step % 40 < 10 { 200.0 } else { 20.0 };
        for season in [Season::Auto, Season::Steps(40)] {
            let (first, error) = play(rush, 240, season);
            assert!(first.is_some() && error < 0.1, "{season:?}: {first:?} {error}");
        }
    }

    #[test]
    fn what_does_not_is_not_believed() {
        let mut random = fastrand::Rng::with_seed(7);
        let wild: Vec<f64> = (0..200).map(|_| random.f64()).collect();
        let (first, error) = play(|step| wild[usize::try_from(step).unwrap()], 200, Season::Auto);
        assert!(first.is_none() && error > 0.3, "{first:?} {error}");
    }
}
