//! A queue in which no message is to wait for longer than told: as many replicas as arrivals need (feed-forward), more to work off what
//! waits beyond a part of what may (drain), and never so few that what waits now cannot be done in time (bound).
//!
//! Stable by construction: the count follows from what is there and from rates that are learnt, per replica; it is not the sum of its own
//! past changes, so it can neither wind up nor swing, and replicas that are still starting are in it from when they are wanted. While the
//! queue is empty, arrivals are taken for what they were last seen to be. As an empty queue does not tell whether they have become fewer,
//! that is tried out, with more patience each time that it turns out to be wrong.

use super::busy::{Busy, seconds};
use super::estimator::{Estimator, Span, Surprise};
use super::target::{float, round_up};
use super::world::Millis;
use crate::api::validated::Wait;

/// How many messages a replica does within the longest wait, where nobody has said it.
const ASSUMED: f64 = 10.0;
/// By what factor that may be wrong.
const DOUBT: f64 = 3.0;
/// By what factor it may be wrong where somebody has.
const SMALL_DOUBT: f64 = 0.5;
/// The queue may always hold what arrives in this part of the longest wait: working that off, too, would only make the count restless.
const CALM: f64 = 0.25;
/// Values in quicker succession tell nothing of speed.
const SHORTEST: f64 = 0.02;
/// While the queue is empty, arrivals are assumed to halve in so many times the longest wait, and in seconds within these bounds.
const HALVE_IN: f64 = 4.0;
const HALVE_WITHIN: [f64; 2] = [2.0, 60.0];
/// With all patience, in seconds.
const HALVE_AT_LEAST_IN: f64 = 240.0;
const LEAST_PATIENCE: f64 = 0.5;
/// A tenth fewer replicas have proved right after this part of the time in which arrivals are assumed to halve.
const PROVES_RIGHT: f64 = 0.5;
/// Fewer arrivals than this part of what one replica does are none.
const NONE: f64 = 0.05;

/// How old values may be, beyond what is said of that, in milliseconds: which it is shows when the count of replicas changes.
pub(super) const LAGS_MS: [u64; 17] =
    [0, 125, 250, 375, 500, 625, 750, 875, 1000, 1125, 1250, 1375, 1500, 1625, 1750, 1875, MOST_LAG_MS];
pub(super) const MOST_LAG_MS: u64 = 2000;
/// Half of the step from one of these to the next: by so much the nearest may be off.
const HALF_A_STEP_MS: u64 = 63;
/// By so much the surprises of one such assumption must outweigh those of another.
const CLEARLY: f64 = 6.0;
/// A single surprise counts for this much at most.
const MOST_SURPRISE: f64 = 20.0;
/// Surprises are forgotten by half in so many seconds.
const FORGET_IN: f64 = 30.0;

/// What is known of a queue.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// One for each of [`LAGS_MS`].
    models: [Model; LAGS_MS.len()],
    /// The model that is believed.
    best: usize,
    /// The last length that was looked at, and when it came.
    last: Option<(f64, Millis)>,
    /// Trying out whether arrivals have become fewer.
    trial: Trial,
}

/// How it is tried out whether fewer messages arrive, of which an empty queue does not tell.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The queue is empty, and arrivals are assumed to become fewer.
    runs: bool,
    /// The fewest arrivals that were assumed in the last trial.
    fewest: f64,
    /// What was wanted when the trial began, or had last proved right; and for how many seconds clearly fewer have been enough.
    wanted: i64,
    enough_for: f64,
    /// How many times longer than at first until arrivals are assumed to have halved.
    patience: f64,
}

/// What follows if values are so old when they come.
#[derive(Clone, Copy, Debug)]
struct Model {
    lag_ms: u64,
    /// By how much that may be off.
    vague_ms: u64,
    rates: Estimator,
    /// How far off it has been of late.
    surprises: f64,
}

/// Of the moment in which the count is asked for.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    /// Messages that wait, and since when that is known.
    pub waiting: f64,
    pub at: Millis,
    /// Arrivals per second, if another metric tells them.
    pub arrivals: Option<f64>,
    pub ready: i64,
    /// What was wanted last.
    pub current: i64,
    pub start_ms: Millis,
    pub busy: &'a Busy,
    /// What a shrinking count keeps in hand, as a factor of arrivals.
    pub slack: f64,
}

impl Queue {
    /// At first sight: what runs is taken for needed.
    pub fn new(wait: Wait, current: i64) -> Self {
        let service = wait.service_ms.map_or(ASSUMED * 1000.0 / ms(wait.max_ms), |service| 1000.0 / ms(service));
        let doubt = if wait.service_ms.is_some() { SMALL_DOUBT } else { DOUBT };
        let rates = Estimator::new(service, doubt, float(current));
        let model = |lag_ms| {
            let vague_ms = if lag_ms > 0 { HALF_A_STEP_MS } else { 0 };
            Model { lag_ms: wait.lag_ms.saturating_add(lag_ms), vague_ms, rates, surprises: 0.0 }
        };
        let trial = Trial { runs: false, fewest: rates.arrivals, wanted: current, enough_for: 0.0, patience: 1.0 };
        Self { models: LAGS_MS.map(model), best: 0, last: None, trial }
    }

    /// The replicas that keep the bound, from what has been learnt of the rates.
    pub fn replicas(&mut self, wait: Wait, moment: Moment) -> i64 {
        self.observe(wait, &moment);
        let (arrivals, service) = self.rates();
        let Moment { ready, current, start_ms, slack, .. } = moment;
        let longest = ms(wait.max_ms) / 1000.0;
        let start = seconds(0, start_ms);
        // So late is the effect of what is wanted now.
        let late = start + ms(self.models[self.best].lag_ms) / 1000.0;
        let waiting = self.models[self.best].by_now(&moment);
        // Where that is longer than messages may wait, the bound cannot be kept, and haste would only start too many.
        let drain = (waiting - (arrivals * longest * CALM).max(1.0)).max(0.0) / longest.max(late);
        let in_time = (longest - late).max(late).max(longest * CALM);
        let bound = (waiting / service - float(ready) * start) / in_time;
        let some = i64::from(moment.waiting > 0.0);
        let need = |arrivals: f64| round_up(((arrivals + drain) / service).max(bound)).max(some);
        let idle = moment.waiting <= 0.0 && arrivals < NONE * service;
        let (least, most) = if idle { (0, 0) } else { (need(arrivals), need(arrivals * slack)) };
        current.clamp(least, most.max(least))
    }

    /// Arrivals per second, and what a replica does per second, as learnt.
    pub fn rates(&self) -> (f64, f64) {
        let Estimator { arrivals, service, .. } = self.models[self.best].rates;
        (arrivals, service)
    }

    /// Learns from the time between two values.
    fn observe(&mut self, wait: Wait, moment: &Moment) {
        let Some((length, at)) = self.last else {
            self.last = Some((moment.waiting, moment.at));
            return;
        };
        let passed = seconds(at, moment.at);
        if passed < SHORTEST {
            return;
        }
        self.last = Some((moment.waiting, moment.at));
        let surprises = self.models.each_mut().map(|model| model.learn((length, at), moment));
        let has_told = surprises[self.best].is_some();
        self.trial.runs &= !has_told;
        if !has_told && moment.arrivals.is_none() {
            self.assume_fewer(wait, moment, passed);
        }
        self.compare(&surprises);
    }

    /// Believes in another model where that is clearly more likely. One that expects more or less anything is never surprised; it pays for
    /// that as in the likelihood of normal distributions.
    fn compare(&mut self, surprises: &[Option<Surprise>; LAGS_MS.len()]) {
        let believed = surprises[self.best].map_or(f64::INFINITY, |surprise| surprise.expected);
        for (model, surprise) in self.models.iter_mut().zip(surprises) {
            let weight = surprise.map_or(0.0, |Surprise { off, expected }| off + (expected / believed).ln().max(0.0));
            model.surprises += weight.min(MOST_SURPRISE);
        }
        let best = (0..self.models.len()).min_by(|a, b| self.models[*a].surprises.total_cmp(&self.models[*b].surprises));
        if let Some(best) = best.filter(|best| self.models[*best].surprises + CLEARLY < self.models[self.best].surprises) {
            self.best = best;
        }
    }

    /// The queue is empty, and tells nothing of arrivals.
    fn assume_fewer(&mut self, wait: Wait, moment: &Moment, passed: f64) {
        let halves_in = self.halves_in(wait, moment);
        let most = HALVE_AT_LEAST_IN / halves_in;
        let patience = self.trial.step(self.rates().0, moment.current, passed / halves_in, most);
        self.models.iter_mut().for_each(|model| model.rates.assume(0.5_f64.powf(passed / halves_in / patience)));
        self.trial.fewest = self.rates().0;
    }

    /// In seconds, without patience. The longer it takes until an error shows and is made good, the more slowly.
    fn halves_in(&self, wait: Wait, moment: &Moment) -> f64 {
        let [soonest, latest] = HALVE_WITHIN;
        let blind = 4.0 * ms(self.models[self.best].lag_ms) + 2.0 * ms(moment.start_ms);
        (HALVE_IN * (ms(wait.max_ms) + blind) / 1000.0).clamp(soonest, latest)
    }
}

impl Trial {
    /// Goes on, or begins, and returns with how much patience. More where arrivals have turned out to be more than assumed in the last trial;
    /// less where clearly fewer replicas have been enough for a while, of which `passed` is how much of the time until arrivals halve.
    fn step(&mut self, arrivals: f64, wanted: i64, passed: f64, most: f64) -> f64 {
        if !self.runs {
            let was_wrong = self.fewest < 0.9 * arrivals;
            self.patience = if was_wrong { (self.patience * 2.0).min(most) } else { self.patience };
            (self.runs, self.wanted, self.enough_for) = (true, wanted, 0.0);
        }
        if wanted < self.wanted && float(wanted) <= 0.9 * float(self.wanted) {
            self.enough_for += passed;
        }
        if self.enough_for > PROVES_RIGHT {
            self.patience = (self.patience / 2.0).max(LEAST_PATIENCE);
            (self.wanted, self.enough_for) = (wanted, 0.0);
        }
        self.patience
    }
}

impl Model {
    /// Messages that wait when the value comes, which is from some time before.
    fn by_now(&self, moment: &Moment) -> f64 {
        let since = moment.at.saturating_sub(self.lag_ms);
        let lag = seconds(since, moment.at);
        let done = self.rates.service * (moment.busy.until(moment.at) - moment.busy.until(since));
        (moment.waiting + self.rates.arrivals * lag - done).max(0.0)
    }

    /// Learns from a value, the one before it, and the time between them; `None` if they tell nothing.
    fn learn(&mut self, (length, since): (f64, Millis), moment: &Moment) -> Option<Surprise> {
        let passed = seconds(since, moment.at);
        let busy_by =
            |lag_ms: u64| moment.busy.until(moment.at.saturating_sub(lag_ms)) - moment.busy.until(since.saturating_sub(lag_ms));
        let latest = busy_by(self.lag_ms.saturating_add(self.vague_ms));
        let soonest = busy_by(self.lag_ms.saturating_sub(self.vague_ms));
        // Where the count changes, it is known only within these bounds.
        let busy = ((latest + soonest) / 4.0 + busy_by(self.lag_ms) / 2.0).max(0.0);
        let vague = (soonest - latest).abs() / 2.0;
        let ready = |at: Millis, lag_ms: u64| float(moment.busy.at(at.saturating_sub(lag_ms)).unwrap_or(moment.ready));
        let came =
            ready(moment.at, self.lag_ms.saturating_sub(self.vague_ms)) - ready(since, self.lag_ms.saturating_add(self.vague_ms));
        let grown = moment.waiting - length;
        let span = Span { grown, seconds: passed, busy, vague, taken: came.max(0.0) };
        self.surprises *= 0.5_f64.powf(passed / FORGET_IN);
        self.rates.pass(passed);
        if let Some(arrivals) = moment.arrivals {
            self.rates.told(arrivals);
        }
        let Estimator { arrivals, service, .. } = self.rates;
        // In between, all were busy; or there was nobody to be.
        let full = (length > 0.0 && moment.waiting > 0.0) || busy <= 0.0;
        // Of replicas that were busy for an unknown part of the time, only the bounds are known: all of it, and none.
        if full {
            Some(self.rates.learn(span))
        } else if arrivals * passed - service * busy > grown {
            Some(self.rates.learn_of_end(span))
        } else if arrivals * passed < grown {
            Some(self.rates.learn(Span { busy: 0.0, vague: 0.0, ..span }))
        } else {
            None
        }
    }
}

fn ms(ms: u64) -> f64 {
    float(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
