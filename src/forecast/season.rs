//! How long a season is: the lag at which a metric is most like itself, found by its autocorrelation, which is computed with a fast Fourier
//! transform (Wiener–Khinchin), as in the second step of AUTOPERIOD (Vlachos, Yu and Castelli, SDM 2005).

use realfft::RealFftPlanner;

/// A season of fewer steps is noise.
const SHORTEST: usize = 4;
/// A day and a week, say.
const MOST: usize = 2;
/// So much like itself it has to be. A sine has 1 and noise 0, give or take two in the square root of the number of steps.
const ALIKE: f64 = 0.4;
/// A season is also found at its multiples, where it is about as much alike: then the shortest is meant.
const AS_GOOD: f64 = 0.75;

/// What happened once may be so much larger than anything else that it hides a season: such parts of the values, at either end, are cut
/// down to the largest or smallest of the others if none is found before.
const CUTS: [f64; 3] = [0.0, 0.01, 0.05];

/// The seasons of these values, in steps, shortest first. Each has been seen at least twice.
#[must_use]
pub fn find(values: &[f64]) -> Vec<usize> {
    let found = |part: &f64| Some(all(&cut(values, *part))).filter(|seasons| !seasons.is_empty());
    CUTS.iter().find_map(found).unwrap_or_default()
}

/// Without the extremes that make up this part of the values at either end.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn cut(values: &[f64], part: f64) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let beyond = ((values.len() as f64 * part).ceil() as usize).min(values.len().saturating_sub(1) / 2);
    let (Some(least), Some(most)) = (sorted.get(beyond), sorted.iter().nth_back(beyond)) else { return Vec::new() };
    values.iter().map(|value| value.clamp(*least, *most)).collect()
}

fn all(values: &[f64]) -> Vec<usize> {
    let mut rest = without_trend(values);
    let mut found = Vec::new();
    while found.len() < MOST
        && let Some(period) = strongest(&rest)
    {
        rest = without_season(&rest, period);
        found.push(period);
    }
    found.sort_unstable();
    found
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn strongest(values: &[f64]) -> Option<usize> {
    let alike = autocorrelation(values);
    // What changes slowly is like itself a moment later, too.
    let falls = alike.iter().position(|alike| *alike < 0.0)?.max(SHORTEST);
    let best = alike.iter().skip(falls).copied().fold(0.0, f64::max);
    let first = (falls..alike.len()).find(|lag| alike[*lag] >= ALIKE.max(best * AS_GOOD))?;
    let top = |from: usize, to: usize| (from..to.min(alike.len())).max_by(|a, b| alike[*a].total_cmp(&alike[*b]));
    // It is measured the better, the more often it has come round.
    let highest = top(first, first + first / 2 + 1)?;
    // It may rise further, where nothing can be seen: then it is a drift.
    if highest + 1 == alike.len() {
        return None;
    }
    let mut period = highest as f64;
    for times in 2..=alike.len() / first.max(1) {
        let (about, off) = (period * times as f64, period / 10.0);
        if about + off < alike.len() as f64 {
            period = top((about - off) as usize, (about + off) as usize + 1)? as f64 / times as f64;
        }
    }
    Some(period.round() as usize).filter(|period| *period >= SHORTEST)
}

/// For each lag up to half the length: 1 for the same, 0 for nothing to do with it.
#[allow(clippy::cast_precision_loss)]
fn autocorrelation(values: &[f64]) -> Vec<f64> {
    // As many zeros behind, so that the end is not compared with the beginning.
    let size = (2 * values.len()).next_power_of_two();
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, inverse) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
    let mut input = values.to_vec();
    input.resize(size, 0.0);
    let mut spectrum = forward.make_output_vec();
    let mut output = inverse.make_output_vec();
    // Both fail only for lengths that do not fit.
    drop(forward.process(&mut input, &mut spectrum));
    for bin in &mut spectrum {
        *bin = (*bin * bin.conj()).re.into();
    }
    drop(inverse.process(&mut spectrum, &mut output));
    let (all, count) = (output[0], values.len() as f64);
    if all <= f64::EPSILON * count {
        return Vec::new();
    }
    // Longer lags have fewer pairs.
    output.iter().take(values.len() / 2 + 1).enumerate().map(|(lag, sum)| sum / all * count / (count - lag as f64)).collect()
}

/// Without the straight line through the values (least squares).
#[allow(clippy::cast_precision_loss)]
fn without_trend(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let away = |i: usize| i as f64 - middle;
    let spread: f64 = (0..values.len()).map(|i| away(i).powi(2)).sum();
    let slope = values.iter().enumerate().map(|(i, value)| away(i) * (value - mean)).sum::<f64>() / spread.max(1.0);
    values.iter().enumerate().map(|(i, value)| value - mean - slope * away(i)).collect()
}

/// Without the mean of each step of the season.
#[allow(clippy::cast_precision_loss)]
fn without_season(values: &[f64], period: usize) -> Vec<f64> {
    let mean = |phase: usize| {
        let (sum, count) = values.iter().skip(phase).step_by(period).fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
        sum / f64::max(count, 1.0)
    };
    let means: Vec<f64> = (0..period).map(mean).collect();
    values.iter().zip(means.iter().cycle()).map(|(value, mean)| value - mean).collect()
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    /// As many values, each with some noise of this size around zero.
    fn noisy(count: usize, size: f64, value: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(11);
        (0..count).map(|i| value(i) + size * (random.f64() - 0.5)).collect()
    }

    #[test]
    fn a_day_is_found_in_noise_and_growth() {
        let day = |i: usize| 100.0 + 0.05 * i as f64 + 20.0 * (TAU * i as f64 / 48.0).sin();
        assert_eq!(find(&noisy(480, 15.0, day)), [48]);
    }

    #[test]
    fn a_week_is_found_behind_the_day_or_with_it() {
        let week = |i: usize, rest: f64| if i / 24 % 7 < 5 { 1.0 } else { rest };
        let load = |i: usize, rest: f64| 50.0 + week(i, rest) * (60.0 + 40.0 * (TAU * i as f64 / 24.0).sin());
        assert_eq!(find(&noisy(24 * 7 * 5, 1.0, |i| load(i, 0.8))), [24, 168]);
        assert_eq!(find(&noisy(24 * 7 * 5, 1.0, |i| load(i, 0.1))), [168], "no day of it is like another");
    }

    #[test]
    fn rushes_on_the_hour_are_a_season() {
        assert_eq!(find(&noisy(300, 5.0, |i| if i % 60 < 5 { 200.0 } else { 10.0 })), [60]);
    }

    #[test]
    fn what_was_once_hides_no_season() {
        let wave = |i: usize| 24.0 + 16.0 * (TAU * i as f64 / 60.0).sin();
        assert_eq!(find(&noisy(480, 2.0, |i| if (7..10).contains(&i) { 2000.0 } else { wave(i) })), [60]);
        assert_eq!(find(&noisy(300, 2.0, |i| if (7..10).contains(&i) { 2000.0 } else { 24.0 })), [0; 0]);
    }

    #[test]
    fn noise_growth_and_silence_have_none() {
        assert_eq!(find(&noisy(500, 1.0, |_| 5.0)), [0; 0]);
        assert_eq!(find(&noisy(500, 1.0, |i| i as f64)), [0; 0]);
        assert_eq!(find(&[7.0; 300]), [0; 0]);
        assert_eq!(find(&[]), [0; 0]);
        assert_eq!(find(&noisy(500, 1.0, |i| if i < 250 { 0.0 } else { 10.0 })), [0; 0]);
    }
}
