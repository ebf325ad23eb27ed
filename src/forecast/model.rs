//! What will be: the seasons go on as they were of late, around a level that goes on as it was a moment ago.
//!
//! Seasons are taken apart by MSTL (Bandara, Hyndman and Bergmeir, 2021; crate `stlrs`), robustly, so that one flash crowd makes no season.
//! The level of what is left is Holt's with a damped trend (Gardner and McKenzie, 1985), whose weights are those of a small grid that would
//! have been best.

use stlrs::{Mstl, Stl};

/// Candidates for the weight of the newest value, and of the newest change.
const LEVELS: [f64; 5] = [0.05, 0.15, 0.3, 0.6, 0.9];
const TRENDS: [f64; 3] = [0.0, 0.05, 0.2];
/// A trend fades by so much with each step: it is seldom true for long.
const DAMPING: f64 = 0.9;

/// The next so many steps. `seasons` are in steps; those that have not been seen twice are left out. Never negative.
#[must_use]
pub fn foresee(values: &[f64], seasons: &[usize], ahead: usize) -> Vec<f64> {
    let seasons: Vec<usize> = seasons.iter().copied().filter(|season| *season > 1 && 2 * season <= values.len()).collect();
    let parts = if seasons.is_empty() { Vec::new() } else { apart(values, &seasons) };
    let around = |i: usize, value: &f64| value - parts.iter().map(|part| part[i]).sum::<f64>();
    let level: Vec<f64> = values.iter().enumerate().map(|(i, value)| around(i, value)).collect();
    let Some(holt) = Holt::best(&level) else { return Vec::new() };
    let season = |ahead: usize| {
        let of = |part: &Vec<f64>, season: usize| part[values.len() - season + ahead % season];
        parts.iter().zip(&seasons).map(|(part, season)| of(part, *season)).sum::<f64>()
    };
    (0..ahead).map(|nth| (holt.at(nth + 1) + season(nth)).max(0.0)).collect()
}

/// Each season's part of the values; empty if they cannot be told apart.
fn apart(values: &[f64], seasons: &[usize]) -> Vec<Vec<f64>> {
    let mut each = Stl::params();
    each.robust(true);
    let fit = Mstl::params().stl_params(each).fit(values, seasons);
    fit.map(|fit| fit.seasonal().to_vec()).unwrap_or_default()
}

/// Level and trend after the last value.
#[derive(Clone, Copy, Debug)]
struct Holt {
    level: f64,
    trend: f64,
}

impl Holt {
    /// By the weights that would have foreseen each value best from those before it. `None` without values.
    fn best(values: &[f64]) -> Option<Self> {
        let grid = LEVELS.iter().flat_map(|level| TRENDS.iter().map(move |trend| (*level, *trend)));
        let fits = grid.map(|weights| Self::along(values, weights));
        fits.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, holt)| holt).filter(|_| !values.is_empty())
    }

    /// Squared error and state at the end.
    fn along(values: &[f64], (alpha, beta): (f64, f64)) -> (f64, Self) {
        let start = Self { level: values.first().copied().unwrap_or(0.0), trend: 0.0 };
        values.iter().fold((0.0, start), |(error, Self { level, trend }), value| {
            let foreseen = level + DAMPING * trend;
            let missed = value - foreseen;
            let new = foreseen + alpha * missed;
            (error + missed * missed, Self { level: new, trend: beta * (new - level) + (1.0 - beta) * DAMPING * trend })
        })
    }

    /// So many steps after the last value.
    fn at(self, steps: usize) -> f64 {
        let faded = |steps: i32| DAMPING * (1.0 - DAMPING.powi(steps)) / (1.0 - DAMPING);
        self.level + self.trend * faded(i32::try_from(steps).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn worst(foreseen: &[f64], came: impl Fn(usize) -> f64) -> f64 {
        foreseen.iter().enumerate().map(|(i, value)| (value - came(i)).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn a_season_goes_on_around_a_new_level() {
        let wave = |i: usize| 50.0 + 30.0 * (TAU * i as f64 / 24.0).sin();
        let values: Vec<f64> = (0..240).map(wave).collect();
        assert!(worst(&foresee(&values, &[24], 48), |i| wave(240 + i)) < 1.0);
        // More than ever, for half a day now.
        let mut random = fastrand::Rng::with_seed(5);
        let mut noisy = |value: f64| value + 2.0 * random.f64();
        let higher: Vec<f64> = (0..252).map(|i| noisy(if i < 240 { wave(i) } else { wave(i) + 20.0 })).collect();
        let off = worst(&foresee(&higher, &[24], 24), |i| wave(252 + i) + 20.0);
        assert!(off < 8.0, "{off}");
    }

    #[test]
    fn rushes_are_foreseen_where_they_came_and_one_that_came_once_is_not() {
        let rush = |i: usize| if i % 60 < 5 { 200.0 } else { 10.0 };
        let mut values: Vec<f64> = (0..600).map(rush).collect();
        values[430] = 900.0;
        let foreseen = foresee(&values, &[60], 60);
        assert!(
            foreseen[..5].iter().all(|value| *value > 150.0) && foreseen[6..59].iter().all(|value| *value < 40.0),
            "{foreseen:?}"
        );
    }

    #[test]
    fn without_seasons_the_level_goes_on() {
        assert!(worst(&foresee(&[7.0; 30], &[], 10), |_| 7.0) < 1e-6);
        let grows: Vec<f64> = (0..50).map(|i| 10.0 * f64::from(i)).collect();
        let foreseen = foresee(&grows, &[], 3);
        assert!(foreseen[0] > 490.0 && foreseen[2] > foreseen[0], "{foreseen:?}");
        assert!(foresee(&[9.0, 5.0, 1.0, 0.0], &[], 20).iter().all(|value| *value >= 0.0));
        assert_eq!(foresee(&[], &[], 5), [0.0; 0]);
    }

    #[test]
    fn a_season_seen_once_is_none() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 30)).collect();
        assert_eq!(foresee(&values, &[30], 5), foresee(&values, &[], 5));
    }
}
