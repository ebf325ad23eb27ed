//! How good a run was. The formulas are those of elasticity research (SPEC RG Cloud, BUNGEE; Herbst 2016; Imdoukh 2019), over samples
//! of demand d (the least replicas that keep the bound) and supply s (replicas that run), both for a step each.

use super::{STEP_MS, WARM_UP_MS};

/// Trends are compared by the second: within a step, next to nothing changes.
const TREND_STEPS: usize = (1000 / STEP_MS) as usize;
/// Waits beyond ten minutes count as ten minutes.
const LONGEST_MS: u64 = 600_000;

/// τ_U: the share of time, in percent, in which supply is below demand.
pub fn under_time(demand: &[i64], supply: &[i64]) -> f64 {
    share(demand, supply, |d, s| f64::from(u8::from(s < d)))
}

/// τ_O: the same above it.
pub fn over_time(demand: &[i64], supply: &[i64]) -> f64 {
    share(demand, supply, |d, s| f64::from(u8::from(s > d)))
}

/// θ_U: the mean of what is missing, in percent of demand.
pub fn under_accuracy(demand: &[i64], supply: &[i64]) -> f64 {
    share(demand, supply, |d, s| (d - s).max(0) as f64 / d.max(1) as f64)
}

/// θ_O: the mean of what is too much, in percent of demand.
pub fn over_accuracy(demand: &[i64], supply: &[i64]) -> f64 {
    share(demand, supply, |d, s| (s - d).max(0) as f64 / d.max(1) as f64)
}

fn share(demand: &[i64], supply: &[i64], of: impl Fn(i64, i64) -> f64) -> f64 {
    let sum: f64 = demand.iter().zip(supply).map(|(d, s)| of(*d, *s)).sum();
    100.0 * sum / demand.len().max(1) as f64
}

/// υ: the share of time, in percent, in which supply does not go the way of demand: 100/(T−t₁)·Σ min(|sgn Δs − sgn Δd|, 1)·Δt.
pub fn instability(demand: &[i64], supply: &[i64]) -> f64 {
    let trend = |samples: &[i64]| samples.windows(2).map(|pair| (pair[1] - pair[0]).signum()).collect::<Vec<_>>();
    let (demand, supply) = (trend(demand), trend(supply));
    let against = demand.iter().zip(&supply).filter(|(d, s)| d != s).count();
    100.0 * against as f64 / demand.len().max(1) as f64
}

/// By how many replicas a minute supply changes more than demand does: (Σ|Δs| − Σ|Δd|)/T.
pub fn jitter(demand: &[i64], supply: &[i64], minutes: f64) -> f64 {
    let changes = |samples: &[i64]| samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<i64>();
    (changes(supply) - changes(demand)) as f64 / minutes
}

/// Waits in milliseconds, counted by steps.
#[derive(Default)]
pub struct Waits {
    counts: Vec<u64>,
    total: u64,
}

impl Waits {
    pub fn add(&mut self, wait_ms: u64, count: u64) {
        let place = (wait_ms.min(LONGEST_MS) / STEP_MS) as usize;
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += count;
        self.total += count;
    }

    /// The wait that so many percent do not exceed: the nearest rank.
    pub fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= rank
        };
        self.counts.iter().position(reaches).map_or(0, |place| place as u64 * STEP_MS)
    }
}

/// What is noted while a run goes on, once it has warmed up.
#[derive(Default)]
pub struct Notes {
    pub demand: Vec<i64>,
    pub supply: Vec<i64>,
    pub waits: Waits,
    pub starved_steps: u64,
    /// Sum over steps of the share of the pool in which something runs.
    pub used: f64,
    /// The same of those that have something to do.
    pub worked: f64,
    /// The same of tasks on their way up, and on their way down.
    pub moving: [f64; 2],
    pub victims: u64,
    /// Container-milliseconds of other work that was ended, since it was started.
    pub lost_ms: u64,
    /// How often it was considered what is to be done, from the start.
    pub decisions: u64,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Score {
    pub under_time_percent: f64,
    pub over_time_percent: f64,
    pub under_accuracy_percent: f64,
    pub over_accuracy_percent: f64,
    pub instability_percent: f64,
    pub jitter_per_minute: f64,
    pub wait_p50_ms: u64,
    pub wait_p99_ms: u64,
    /// So long supply was below demand: τ_U as a time.
    pub short_seconds: f64,
    /// So long a request of priority 1 had waited beyond the bound, while others held room that its service could have had.
    pub starved_seconds: f64,
    /// Tasks of others that were ended.
    pub victims: u64,
    pub lost_container_seconds: f64,
    /// The pool's places in which something runs.
    pub utilisation_percent: f64,
    /// Those in which something is on its way up, or on its way down; the others are free.
    pub starting_percent: f64,
    pub stopping_percent: f64,
    /// Those in which it has something to do: replicas of priority 1 that wait for requests do not count.
    pub work_percent: f64,
    pub decisions: u64,
}

impl Notes {
    pub fn is_noted(at: u64) -> bool {
        at >= WARM_UP_MS
    }

    pub fn score(&self) -> Score {
        let Self { demand, supply, waits, .. } = self;
        let by_second = |samples: &[i64]| samples.iter().copied().step_by(TREND_STEPS).collect::<Vec<_>>();
        let seconds = |steps: u64| (steps * STEP_MS) as f64 / 1000.0;
        let steps = demand.len() as u64;
        Score {
            under_time_percent: under_time(demand, supply),
            over_time_percent: over_time(demand, supply),
            under_accuracy_percent: under_accuracy(demand, supply),
            over_accuracy_percent: over_accuracy(demand, supply),
            instability_percent: instability(&by_second(demand), &by_second(supply)),
            jitter_per_minute: jitter(demand, supply, seconds(steps) / 60.0),
            wait_p50_ms: waits.percentile(50),
            wait_p99_ms: waits.percentile(99),
            short_seconds: seconds(steps) * under_time(demand, supply) / 100.0,
            starved_seconds: seconds(self.starved_steps),
            victims: self.victims,
            lost_container_seconds: self.lost_ms as f64 / 1000.0,
            utilisation_percent: 100.0 * self.used / steps.max(1) as f64,
            starting_percent: 100.0 * self.moving[0] / steps.max(1) as f64,
            stopping_percent: 100.0 * self.moving[1] / steps.max(1) as f64,
            work_percent: 100.0 * self.worked / steps.max(1) as f64,
            decisions: self.decisions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: [i64; 5] = [2, 4, 4, 2, 2];
    const SUPPLY: [i64; 5] = [2, 2, 5, 5, 2];

    fn is(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-9
    }

    /// In one sample of five, two of four are missing; in two of five there is too much: one of four, and three of two.
    #[test]
    fn shares_of_time_and_accuracy() {
        assert!(is(under_time(&DEMAND, &SUPPLY), 20.0) && is(over_time(&DEMAND, &SUPPLY), 40.0));
        assert!(is(under_accuracy(&DEMAND, &SUPPLY), 100.0 * (2.0 / 4.0) / 5.0));
        assert!(is(over_accuracy(&DEMAND, &SUPPLY), 100.0 * (1.0 / 4.0 + 3.0 / 2.0) / 5.0));
        assert!(is(over_accuracy(&[0], &[3]), 300.0), "no demand counts as one");
    }

    /// Trends of demand are + 0 − 0, of supply 0 + 0 −: never the same.
    #[test]
    fn trends() {
        assert!(is(instability(&DEMAND, &SUPPLY), 100.0) && is(instability(&DEMAND, &DEMAND), 0.0));
        assert!(is(instability(&[1, 2, 2], &[5, 9, 8]), 50.0));
        // Demand changes by four in all, supply by six; in half a minute.
        assert!(is(jitter(&DEMAND, &SUPPLY, 0.5), 4.0));
    }

    #[test]
    fn waits_by_the_nearest_rank() {
        let mut waits = Waits::default();
        assert_eq!(waits.percentile(99), 0);
        waits.add(0, 98);
        waits.add(250, 1);
        waits.add(1_000_000, 1);
        assert_eq!([50, 98, 99, 100].map(|percent| waits.percentile(percent)), [0, 0, 250, 600_000]);
    }

    #[test]
    fn a_score_has_its_units() {
        let notes = Notes {
            demand: vec![1; 6000],
            supply: vec![1; 6000],
            starved_steps: 150,
            used: 5700.0,
            worked: 3000.0,
            lost_ms: 2500,
            ..Notes::default()
        };
        let score = notes.score();
        assert!(is(score.starved_seconds, 1.5) && is(score.lost_container_seconds, 2.5));
        assert!(is(score.utilisation_percent, 95.0) && is(score.work_percent, 50.0));
    }
}
