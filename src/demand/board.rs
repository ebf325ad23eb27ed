//! The newest reading of each metric of one pool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::api::validated::Key;
use crate::engine::clock;
use crate::forecast::Curve;
use crate::policy::world::{Foreseen, Millis, Reading};

/// What a source found.
#[derive(Clone, Debug, PartialEq)]
pub enum Posted {
    Value(f64),
    /// Why there is no value, in words.
    Failure(String),
}

/// A metric that has changed since it was last taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    pub app: Key,
    pub metric: Arc<str>,
    pub reading: Reading,
    /// When the oldest post arrived that was not taken yet: reaction times are counted from there.
    pub at: Instant,
}

/// Readings of one pool: written by sources, taken by the one engine of the pool.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<Key, HashMap<Arc<str>, Slot>>,
    /// In order of arrival; each metric at most once.
    waiting: Vec<(Key, Arc<str>)>,
}

#[derive(Debug, Default)]
struct Slot {
    reading: Reading,
    /// The most since somebody asked.
    peak: Option<f64>,
    /// Set while the metric is among `waiting`.
    since: Option<Instant>,
}

impl Board {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what a source found at `at`, and wakes the engine. A failure keeps the last value and its time of arrival; a value
    /// that is no possible amount of demand counts as a failure.
    pub fn post(&self, app: &Key, metric: &str, posted: Posted, at: Instant) {
        let posted = match posted {
            Posted::Value(value) => amount(value),
            Posted::Failure(why) => Err(why),
        };
        self.lock().post(app, metric, posted, at);
        self.changed.notify_one();
    }

    /// What has changed since the last call, in order of arrival. Several posts to one metric have become one.
    #[must_use]
    pub fn take(&self) -> Vec<Update> {
        self.lock().take()
    }

    /// Returns once something was posted after the last return; a post between two calls is not missed. For one waiter at a time.
    /// Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The most that the metric was since the last call, and what it was then included, unless it came before `not_before`; `None`:
    /// nothing is known.
    #[must_use]
    pub fn peak(&self, app: &Key, metric: &str, not_before: Millis) -> Option<f64> {
        self.lock().peak(app, metric, not_before)
    }

    /// Takes in what the metric will be, and wakes the engine.
    pub fn foresee(&self, app: &Key, metric: &str, foreseen: Arc<Curve>, at: Instant) {
        self.lock().change(app, metric, at, |slot| slot.reading.foreseen = Some(Foreseen(foreseen)));
        self.changed.notify_one();
    }

    /// Forgets a metric whose source is gone, so that a later one of the same name begins as unknown.
    pub fn forget(&self, app: &Key, metric: &str) {
        self.lock().forget(app, metric);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and a reading is good on its own.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn post(&mut self, app: &Key, metric: &str, posted: Result<f64, String>, at: Instant) {
        self.change(app, metric, at, |slot| match posted {
            Ok(value) => {
                (slot.reading.value, slot.reading.failure) = (Some((value, clock::to_millis(at))), None);
                slot.peak = Some(slot.peak.map_or(value, |peak| peak.max(value)));
            }
            Err(why) => slot.reading.failure = Some(why.into()),
        });
    }

    /// Changes the metric's slot, which waits to be taken from then on.
    fn change(&mut self, app: &Key, metric: &str, at: Instant, change: impl FnOnce(&mut Slot)) {
        if !self.slots.get(app).is_some_and(|metrics| metrics.contains_key(metric)) {
            self.slots.entry(app.clone()).or_default().insert(metric.into(), Slot::default());
        }
        let Some((name, _)) = self.slots.get(app).and_then(|metrics| metrics.get_key_value(metric)) else { return };
        let name = name.clone();
        let Some(slot) = self.slots.get_mut(app).and_then(|metrics| metrics.get_mut(metric)) else { return };
        change(slot);
        if slot.since.is_none() {
            slot.since = Some(at);
            self.waiting.push((app.clone(), name));
        }
    }

    fn peak(&mut self, app: &Key, metric: &str, not_before: Millis) -> Option<f64> {
        let slot = self.slots.get_mut(app)?.get_mut(metric)?;
        let now = slot.reading.value.filter(|(_, at)| *at >= not_before).map(|(value, _)| value);
        std::mem::replace(&mut slot.peak, now)
    }

    fn take(&mut self) -> Vec<Update> {
        let mut updates = Vec::with_capacity(self.waiting.len());
        for (app, metric) in self.waiting.drain(..) {
            let Some(slot) = self.slots.get_mut(&app).and_then(|metrics| metrics.get_mut(&metric)) else { continue };
            let Some(at) = slot.since.take() else { continue };
            updates.push(Update { app, metric, reading: slot.reading.clone(), at });
        }
        updates
    }

    fn forget(&mut self, app: &Key, metric: &str) {
        if let Some(metrics) = self.slots.get_mut(app) {
            metrics.remove(metric);
            if metrics.is_empty() {
                self.slots.remove(app);
            }
        }
        self.waiting.retain(|(a, m)| a != app || &**m != metric);
    }
}

/// The value if it can be an amount of demand.
///
/// # Errors
/// In words, for NaN, infinite and negative values.
pub fn amount(value: f64) -> Result<f64, String> {
    if !value.is_finite() {
        Err(format!("{value} is not a finite number"))
    } else if value < 0.0 {
        Err(format!("{value} is negative"))
    } else {
        // Turns -0 into 0.
        Ok(value + 0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn fixture() -> (Board, Key, Instant) {
        (Board::new(), Key::new("shop", "search"), clock::instant())
    }

    #[test]
    fn posts_coalesce_into_the_newest_and_keep_the_oldest_time() {
        let (board, app, t0) = fixture();
        board.post(&app, "waiting", Posted::Value(1.0), t0);
        board.post(&app, "other", Posted::Value(7.0), t0);
        board.post(&app, "waiting", Posted::Value(2.0), t0 + Duration::from_millis(5));
        let updates = board.take();
        assert_eq!(updates.iter().map(|u| &*u.metric).collect::<Vec<_>>(), ["waiting", "other"]);
        assert_eq!(updates[0].at, t0);
        let arrived = clock::to_millis(t0 + Duration::from_millis(5));
        assert_eq!(updates[0].reading, Reading { value: Some((2.0, arrived)), ..Reading::default() });
        assert!(board.take().is_empty());
    }

    #[test]
    fn a_failure_keeps_the_value_and_a_value_ends_the_failure() {
        let (board, app, t0) = fixture();
        board.post(&app, "m", Posted::Value(3.0), t0);
        let later = t0 + Duration::from_secs(1);
        board.post(&app, "m", Posted::Failure("no answer".into()), later);
        let arrived = clock::to_millis(t0);
        let reading = board.take().remove(0).reading;
        assert_eq!(reading, Reading { value: Some((3.0, arrived)), failure: Some("no answer".into()), ..Reading::default() });
        board.post(&app, "m", Posted::Value(4.0), later);
        assert_eq!(board.take()[0].reading.failure, None);
    }

    #[test]
    fn impossible_amounts_are_failures() {
        let (board, app, t0) = fixture();
        for (value, why) in
            [(f64::NAN, "NaN is not a finite number"), (f64::INFINITY, "inf is not a finite number"), (-3.0, "-3 is negative")]
        {
            board.post(&app, "m", Posted::Value(value), t0);
            let reading = board.take().remove(0).reading;
            assert_eq!(reading, Reading { failure: Some(why.into()), ..Reading::default() });
        }
        assert!(amount(-0.0).is_ok_and(f64::is_sign_positive));
    }

    #[test]
    fn a_forgotten_metric_is_unknown_again() {
        let (board, app, t0) = fixture();
        board.post(&app, "m", Posted::Value(3.0), t0);
        board.forget(&app, "m");
        assert!(board.take().is_empty());
        board.post(&app, "m", Posted::Failure("down".into()), t0);
        assert_eq!(board.take()[0].reading.value, None);
    }

    #[test]
    fn the_most_of_a_while_is_remembered() {
        let (board, app, t0) = fixture();
        let peak = |not_before| board.peak(&app, "m", not_before);
        assert_eq!(peak(0), None);
        for value in [3.0, 9.0, 4.0] {
            board.post(&app, "m", Posted::Value(value), t0);
        }
        assert_eq!((peak(0), peak(0), peak(0)), (Some(9.0), Some(4.0), Some(4.0)), "it goes on as it was");
        assert_eq!((peak(Millis::MAX), peak(0)), (Some(4.0), None), "unless that is too long ago");
    }

    #[tokio::test]
    async fn a_post_before_the_wait_wakes_it_once() {
        let (board, app, t0) = fixture();
        board.post(&app, "m", Posted::Value(1.0), t0);
        board.post(&app, "m", Posted::Value(2.0), t0);
        board.changed().await;
        let again = tokio::time::timeout(Duration::from_millis(20), board.changed()).await;
        assert!(again.is_err(), "woken without a post");
    }
}
