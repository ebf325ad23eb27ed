//! What is known of the series that a metric is made of, and what they come to.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::api::demand::Aggregate;

/// More series than this in one metric are a mistake.
pub const MOST_SERIES: usize = 10_000;

/// What the values of a series mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    /// Counted from a start. A counter only grows.
    Cumulative {
        counter: bool,
    },
    /// Counted from point to point.
    Delta,
}

/// A value with its time and the start of what it counts, in nanoseconds since 1970; 0 where that is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub start: u64,
    pub time: u64,
    pub value: f64,
}

/// Why a point is of no use, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Useless {
    #[error("a gauge has no rate: leave rate out")]
    RateOfGauge,
    #[error("a counter only grows: set rate: true")]
    Counter,
    #[error("it is neither a gauge nor a sum")]
    Histogram,
    #[error("a point has no value")]
    NoValue,
    #[error("it has more than {MOST_SERIES} series: name attributes that single some out")]
    TooMany,
}

/// All series of one metric.
#[derive(Debug)]
pub struct Series {
    rate: bool,
    known: HashMap<u64, Entry>,
    /// How often the one has come that came most often.
    rounds: u32,
}

#[derive(Debug)]
struct Entry {
    last: Sample,
    /// When it arrived.
    at: Instant,
    times: u32,
    /// What it counts for now.
    worth: Option<f64>,
}

impl Series {
    /// With `rate`, what counts is by how much they grow in a second.
    #[must_use]
    pub fn new(rate: bool) -> Self {
        Self { rate, known: HashMap::new(), rounds: 0 }
    }

    /// Takes in a point of the series `id` that arrived at `at`.
    ///
    /// # Errors
    /// When it is not of a kind that is of use here, or there are too many series.
    pub fn take(&mut self, id: u64, kind: Kind, sample: Sample, at: Instant) -> Result<(), Useless> {
        match kind {
            Kind::Gauge if self.rate => return Err(Useless::RateOfGauge),
            Kind::Cumulative { counter: true } if !self.rate => return Err(Useless::Counter),
            _ => {}
        }
        if self.known.len() >= MOST_SERIES && !self.known.contains_key(&id) {
            return Err(Useless::TooMany);
        }
        let rate = self.rate;
        let entry =
            self.known.entry(id).or_insert(Entry { last: Sample { start: 0, time: 0, value: 0.0 }, at, times: 0, worth: None });
        let before = (entry.times > 0).then_some(entry.last);
        (entry.at, entry.times) = (at, entry.times.saturating_add(1));
        self.rounds = self.rounds.max(entry.times);
        // Told again, or out of turn: for a rate, nothing has gone by.
        if rate && before.is_some_and(|before| sample.time <= before.time) {
            return Ok(());
        }
        entry.worth = if rate { growth(kind, before, sample) } else { Some(sample.value) };
        entry.last = sample;
        Ok(())
    }

    /// The series has said that it has no value now.
    pub fn end(&mut self, id: u64) {
        self.known.remove(&id);
    }

    /// What they come to at `now`, those left out that have not come for the time of `expiry`. `None`: that cannot be told yet.
    pub fn value(&mut self, aggregate: Aggregate, now: Instant, expiry: Duration) -> Option<f64> {
        self.known.retain(|_, entry| now.saturating_duration_since(entry.at) < expiry);
        let all_were_heard = self.rounds > if self.rate { 2 } else { 1 };
        let worths = self.known.values().filter_map(|entry| entry.worth);
        let (count, sum, most) =
            worths.fold((0_u32, 0.0, f64::NEG_INFINITY), |(count, sum, most), worth| (count + 1, sum + worth, most.max(worth)));
        (all_were_heard && count > 0).then(|| match aggregate {
            Aggregate::Sum => sum,
            Aggregate::Max => most,
            Aggregate::Avg => sum / f64::from(count),
        })
    }
}

/// Growth per second, if it can be told.
fn growth(kind: Kind, before: Option<Sample>, sample: Sample) -> Option<f64> {
    let Sample { start, time, value } = sample;
    let since_start = || (start > 0).then(|| per_second(value, start, time)).flatten();
    match (kind, before) {
        (Kind::Gauge, _) => None,
        (Kind::Delta, Some(before)) if start == 0 => per_second(value, before.time, time),
        (Kind::Delta, _) | (Kind::Cumulative { .. }, None) => since_start(),
        // It has begun anew if it counts from a later start, or a counter from less.
        (Kind::Cumulative { counter }, Some(before)) => {
            let anew = start > before.time || (counter && value < before.value);
            if anew { since_start() } else { per_second(value - before.value, before.time, time).map(|growth| growth.max(0.0)) }
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn per_second(amount: f64, from: u64, to: u64) -> Option<f64> {
    (to > from).then(|| amount * 1e9 / (to - from) as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::clock;

    const COUNTER: Kind = Kind::Cumulative { counter: true };
    const MINUTE: Duration = Duration::from_mins(1);

    /// At this second, with this value, counted since that second.
    fn sample(start: u64, time: u64, value: f64) -> Sample {
        Sample { start: start * 1_000_000_000, time: time * 1_000_000_000, value }
    }

    /// What is said after each point of (series, sample).
    fn play(kind: Kind, rate: bool, points: &[(u64, Sample)]) -> Vec<Option<f64>> {
        let (mut series, now) = (Series::new(rate), clock::instant());
        let mut said = |&(id, sample): &(u64, Sample)| {
            series.take(id, kind, sample, now).unwrap();
            series.value(Aggregate::Sum, now, MINUTE)
        };
        points.iter().map(&mut said).collect()
    }

    #[test]
    fn nothing_is_said_before_all_may_have_been_heard() {
        let points = [(1, sample(0, 1, 5.0)), (2, sample(0, 1, 7.0)), (1, sample(0, 2, 6.0)), (2, sample(0, 2, 1.0))];
        assert_eq!(play(Kind::Gauge, false, &points), [None, None, Some(13.0), Some(7.0)]);
    }

    #[test]
    fn a_counter_counts_by_its_growth() {
        let points = [10.0, 30.0, 50.0, 50.0, 80.0];
        let points: Vec<_> = (0..).zip(points).map(|(i, value)| (1, sample(1, 10 + 10 * i, value))).collect();
        assert_eq!(play(COUNTER, true, &points), [None, None, Some(2.0), Some(0.0), Some(3.0)]);
    }

    #[test]
    fn a_counter_that_begins_anew_counts_from_there() {
        let begun = [(1, sample(1, 10, 10.0)), (1, sample(1, 20, 30.0)), (1, sample(1, 30, 90.0))];
        let anew = |next| play(COUNTER, true, &[&begun[..], &[(1, next)]].concat())[3];
        assert_eq!(anew(sample(36, 40, 8.0)), Some(2.0), "a later start");
        assert_eq!(anew(sample(36, 40, 100.0)), Some(25.0), "though it is more than before");
        assert_eq!(anew(sample(1, 40, 8.0)), Some(8.0 / 39.0), "less than before, with the old start");
        assert_eq!(anew(sample(0, 40, 8.0)), None, "since when is not known");
        assert_eq!(anew(sample(1, 30, 99.0)), Some(6.0), "no time has gone by");
    }

    #[test]
    fn what_is_counted_from_point_to_point_is_divided_by_its_time() {
        let points = [(1, sample(0, 10, 10.0)), (1, sample(10, 20, 30.0)), (1, sample(0, 30, 20.0))];
        assert_eq!(play(Kind::Delta, true, &points), [None, None, Some(2.0)]);
        assert_eq!(play(Kind::Delta, false, &points)[2], Some(20.0));
    }

    #[test]
    fn series_come_to_their_sum_maximum_or_average_until_they_expire() {
        let (mut series, start) = (Series::new(false), clock::instant());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (id, second, value) in [(1, 0, 1.0), (2, 0, 2.0), (3, 0, 6.0), (1, 30, 1.0), (2, 30, 2.0)] {
            series.take(id, Kind::Gauge, sample(0, 0, value), at(second)).unwrap();
        }
        let mut said = |second| [Aggregate::Sum, Aggregate::Max, Aggregate::Avg].map(|a| series.value(a, at(second), MINUTE));
        assert_eq!(said(59), [Some(9.0), Some(6.0), Some(3.0)]);
        assert_eq!(said(60), [Some(3.0), Some(2.0), Some(1.5)]);
        assert_eq!(said(90), [None; 3], "there is none left");
        series.end(1);
    }

    #[test]
    fn what_is_of_no_use_is_refused() {
        let now = clock::instant();
        let take = |rate, kind| Series::new(rate).take(1, kind, sample(0, 1, 1.0), now);
        assert_eq!(take(true, Kind::Gauge), Err(Useless::RateOfGauge));
        assert_eq!(take(false, COUNTER), Err(Useless::Counter));
        assert_eq!(take(false, Kind::Cumulative { counter: false }), Ok(()), "it goes up and down");
        let mut many = Series::new(false);
        let taken = |id| many.take(id, Kind::Gauge, sample(0, 1, 1.0), now).is_ok();
        assert_eq!((0..20_000).map(taken).filter(|taken| *taken).count(), MOST_SERIES);
    }
}
