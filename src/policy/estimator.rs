//! What arrives at a queue, and what one replica gets done: learnt from how the queue's length moves while replicas are busy. A Kalman
//! filter of two states, which is recursive least squares whose forgetting differs: arrivals may be others any moment, replicas hardly.

/// Arrivals may change by their own size in so many seconds. What is sudden is told by [`Estimator::learn`].
const ARRIVALS_CHANGE_IN: f64 = 100.0;
/// A replica's rate may change by a tenth in so many seconds.
const SERVICE_CHANGES_IN: f64 = 60.0;
/// What is so many standard deviations off is no chance: something has changed.
const SUDDEN: f64 = 3.0;
/// More is done than can be chance where it is so many standard deviations more.
const SURELY: f64 = 2.0;
/// What was off is remembered so much from one time to the next: many small surprises of one sign are no chance either.
const KEPT: f64 = 0.7;
/// By what part a replica's rate may then be off.
const NOT_SO_SURE: f64 = 0.2;

/// What a replica does at the least, as a part of what is assumed, and of what is said: where demand swings, all could be explained by
/// replicas that do nothing.
const LEAST: f64 = 0.1;
const LEAST_SAID: f64 = 0.25;

/// Rates per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimator {
    pub arrivals: f64,
    /// Per replica.
    pub service: f64,
    /// Below this nothing is believed.
    least_service: f64,
    /// What was off of late, each time in standard deviations; it is soon forgotten.
    drift: f64,
    /// Variances of the two, and their covariance.
    spread: [f64; 3],
}

/// What was seen of a queue from one value to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// By how many messages it has grown.
    pub grown: f64,
    pub seconds: f64,
    /// For how many seconds its replicas were busy, summed over them; and by how many that may be off.
    pub busy: f64,
    pub vague: f64,
    /// Messages that replicas which came to serve have taken, beside those that were done.
    pub taken: f64,
}

/// How far off an expectation was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surprise {
    /// The square of what it was off, in units of `expected`.
    pub off: f64,
    /// The variance that was expected: who expects anything is never surprised.
    pub expected: f64,
}

impl Estimator {
    /// Begins with what is assumed: a replica's rate, by what factor that may be wrong, and as many busy replicas as arrivals need.
    pub fn new(service: f64, doubt: f64, busy: f64) -> Self {
        let arrivals = service * busy;
        let spread = [arrivals * arrivals + service * service, 0.0, (doubt * service).powi(2)];
        Self { arrivals, service, least_service: service * if doubt < 1.0 { LEAST_SAID } else { LEAST }, drift: 0.0, spread }
    }

    /// Time passes, and what is known gets older.
    pub fn pass(&mut self, seconds: f64) {
        let scale = self.arrivals.max(self.service);
        self.spread[0] += scale * scale * seconds / ARRIVALS_CHANGE_IN;
        self.spread[2] += (0.1 * self.service).powi(2) * seconds / SERVICE_CHANGES_IN;
    }

    /// Learns from a time in which all replicas were busy. Returns how much of a surprise it was.
    pub fn learn(&mut self, span: Span) -> Surprise {
        self.weigh(span, true)
    }

    /// The same, of a queue that is empty in the end: that this happened sooner than thought possible is no sign of fewer arrivals.
    pub fn learn_of_end(&mut self, span: Span) -> Surprise {
        self.weigh(span, false)
    }

    fn weigh(&mut self, span: Span, may_be_sudden: bool) -> Surprise {
        let Span { grown, seconds, busy, vague, taken } = span;
        // The variance of what is anywhere within its bounds is a third of the square of half their distance.
        let noise = self.noise(seconds, busy) + (self.service * vague).powi(2) / 3.0;
        let off = grown - self.arrivals * seconds + self.service * busy;
        let [_, _, expected] = self.gain(seconds, busy);
        let surprise = Surprise { off: off * off / (expected + noise), expected: expected + noise };
        self.drift = KEPT * self.drift + off / (expected + noise).sqrt();
        let drifts = self.drift * self.drift * (1.0 - KEPT * KEPT);
        if may_be_sudden && surprise.off.max(drifts) > SUDDEN * SUDDEN {
            self.drift = 0.0;
            // It is demand that changes suddenly; or else a replica's rate was not known as well as thought.
            self.spread[0] += (off / seconds).powi(2);
            self.spread[2] += (NOT_SO_SURE * self.service).powi(2);
        }
        let [arrivals, service, expected] = self.gain(seconds, busy);
        let all = expected + noise;
        let arrivals_then = self.arrivals + arrivals / all * off;
        // It is only replicas that take messages out: where arrivals alone would have to be negative, they do more than was thought.
        let done = -grown - taken - SURELY * noise.sqrt();
        let at_least = if arrivals_then < 0.0 && busy > 0.0 { done / (busy + vague) } else { 0.0 };
        self.arrivals = arrivals_then.max(0.0);
        let then = (self.service + service / all * off).max(at_least);
        self.service = then.clamp(0.5 * self.service, 2.0 * self.service).max(self.least_service);
        self.spread[0] -= arrivals * arrivals / all;
        self.spread[1] -= arrivals * service / all;
        self.spread[2] -= service * service / all;
        surprise
    }

    /// Arrivals are known.
    pub fn told(&mut self, arrivals: f64) {
        (self.arrivals, self.spread[0], self.spread[1]) = (arrivals, 0.0, 0.0);
    }

    /// Arrivals are assumed to have become so many times what they were.
    pub fn assume(&mut self, factor: f64) {
        self.spread[0] = self.spread[0] * factor * factor + (self.arrivals * (1.0 - factor)).powi(2);
        self.spread[1] *= factor;
        self.arrivals *= factor;
    }

    /// Variance of a queue's growth: arrivals and completions scatter as Poisson has it, and lengths are whole numbers.
    pub fn noise(&self, seconds: f64, busy: f64) -> f64 {
        0.5 + self.arrivals * seconds + self.service * busy
    }

    /// Covariance of the observation with either state, and its own variance.
    fn gain(&self, seconds: f64, busy: f64) -> [f64; 3] {
        let [of_arrivals, both, of_service] = self.spread;
        let arrivals = of_arrivals * seconds - both * busy;
        let service = both * seconds - of_service * busy;
        [arrivals, service, arrivals * seconds - service * busy]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(grown: f64, busy: f64) -> Span {
        Span { grown, seconds: 0.1, busy, vague: 0.0, taken: 0.0 }
    }

    /// A queue that never empties: 30 a second arrive, and replicas do 4 a second each.
    #[test]
    fn both_rates_are_learnt_once_the_count_of_replicas_has_changed() {
        let mut estimator = Estimator::new(1.0, 3.0, 0.0);
        let mut play = |replicas: f64, arrivals: f64, times: usize| {
            for _ in 0..times {
                estimator.pass(0.1);
                estimator.learn(span((arrivals - 4.0 * replicas) * 0.1, replicas * 0.1));
            }
            (estimator.arrivals, estimator.service)
        };
        let near = |(arrivals, service): (f64, f64), expected: f64| {
            assert!((arrivals / expected - 1.0).abs() < 0.15 && (service / 4.0 - 1.0).abs() < 0.15, "{arrivals} and {service}");
        };
        let (arrivals, _) = play(0.0, 30.0, 20);
        assert!((arrivals - 30.0).abs() < 2.0, "nothing is done without replicas, so that {arrivals} is all of it");
        near(play(5.0, 30.0, 100), 30.0);
        near(play(5.0, 150.0, 5), 150.0);
        near(play(9.0, 150.0, 600), 150.0);
        near(play(9.0, 40.0, 60), 40.0);
    }

    #[test]
    fn no_estimate_is_below_zero() {
        let mut estimator = Estimator::new(1.0, 3.0, 5.0);
        for grown in [-1e6, 1e6, -1e6, -1e6, -1e6] {
            estimator.pass(0.1);
            estimator.learn(span(grown, 0.5));
            assert!(estimator.arrivals >= 0.0 && estimator.service > 0.0 && estimator.arrivals.is_finite(), "{estimator:?}");
        }
    }
}
