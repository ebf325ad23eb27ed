//! What `demand::foresight` does for a metric, in simulated time: the same forecaster, fed with the most of each step.

use std::fmt::{Display, Formatter};

use microscaler::api::validated::Foresight;
use microscaler::forecast::Curve;
use microscaler::forecast::forecaster::Forecaster;

pub struct Foreseer {
    pub terms: Foresight,
    forecaster: Forecaster,
    /// The step that is under way, and the most in it.
    step: u64,
    peak: Option<f64>,
    /// Forecasts that were made, and those of them that could be acted upon.
    made: u64,
    trusted: u64,
    /// Of the last of them, in milliseconds.
    seasons: Vec<u64>,
}

impl Foreseer {
    /// Two steps ahead.
    pub fn new(step_ms: u64) -> Self {
        let terms = Foresight { horizon_ms: 2 * step_ms, season_ms: None, step_ms, steps: 20_000 };
        let forecaster = Forecaster::of(terms);
        Self { terms, forecaster, step: 0, peak: None, made: 0, trusted: 0, seasons: Vec::new() }
    }

    /// This is what the metric is now. If a step has ended: what it will be.
    pub fn observe(&mut self, value: f64, now: u64) -> Option<Curve> {
        let step_ms = self.terms.step_ms;
        self.peak = self.peak.into_iter().chain([value]).reduce(f64::max);
        let ended = std::mem::replace(&mut self.step, now / step_ms);
        if ended == self.step {
            return None;
        }
        self.forecaster.came(ended, self.peak.replace(value));
        let solution = self.forecaster.problem().solve();
        self.forecaster.foresaw(&solution);
        let begins = solution.begins * step_ms;
        let curve = self.forecaster.curve(solution, begins, step_ms);
        self.made += 1;
        self.trusted += u64::from(curve.trusted);
        self.seasons.clone_from(&curve.seasons);
        Some(curve)
    }
}

impl Display for Foreseer {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "trusted in {:.0} % of the time, ", 100.0 * self.trusted as f64 / self.made.max(1) as f64)?;
        match self.seasons.as_slice() {
            [] => write!(f, "no season"),
            seasons => {
                let seconds = seasons.iter().map(|ms| format!("{:.1} s", *ms as f64 / 1000.0));
                write!(f, "seasons of {}", seconds.collect::<Vec<_>>().join(" and "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::run;
    use super::super::contenders::foresighted;
    use super::super::load::Load;
    use super::super::{STEP_MS, WARM_UP_MS};

    /// A rush of a minute every two minutes, and replicas that take three seconds to start. With a forecast of what comes, there are too
    /// few of them only before it has been seen twice that it comes round.
    #[test]
    fn what_comes_round_is_met_before_it_comes() {
        let rate = |n: u32| if n % 1200 < 600 { 80.0 } else { 400.0 };
        let load = Load::new("rounds", (0..7200).map(rate).collect(), false).with_starts_of(3000);
        let [without, with] = [0, 2].map(|at| {
            let run = run(&load, &mut *foresighted(2500).swap_remove(at));
            let is_short: Vec<bool> = run.demand.iter().zip(&run.supply).map(|(demand, supply)| supply < demand).collect();
            let (learning, later) = is_short.split_at((360_000 / STEP_MS) as usize);
            [learning, later].map(|part| part.iter().filter(|is_short| **is_short).count())
        });
        assert!(without[1] > 900 && with[0] > 100, "three times three seconds: {without:?} {with:?}");
        assert_eq!(with[1], 0, "{with:?}, of {WARM_UP_MS} ms of calm and six rounds");
    }
}
