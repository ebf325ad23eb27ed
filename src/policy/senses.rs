//! What targets remember that look at how their metric moves. Nothing, for apps that have none of these.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::busy::Busy;
use super::damp::Window;
use super::fallback;
use super::lag::Lag;
use super::latency::StartLatency;
use super::pace::{Controller, Pace};
use super::plan::Reason;
use super::target::{Answer, Sample, float, slack};
use super::wait::{MOST_LAG_MS, Moment, Queue};
use super::world::{Millis, Task};
use crate::api::validated::{App, Metric, TargetValue, Wait};

/// Of one app.
#[derive(Clone, Debug, Default)]
pub(super) struct Senses {
    start: StartLatency,
    busy: Busy,
    queues: BTreeMap<Arc<str>, (TargetValue, Queue)>,
    lags: BTreeMap<Arc<str>, (TargetValue, Lag)>,
    paces: BTreeMap<Arc<str>, (TargetValue, Pace)>,
    /// What metrics asked for of late that may have to stand in for themselves.
    recent: BTreeMap<Arc<str>, (TargetValue, Recent)>,
}

/// What a metric asked for of late.
#[derive(Clone, Debug, Default)]
struct Recent {
    /// It held until the next one.
    last: Option<i64>,
    most: Window,
}

impl Senses {
    /// Looks at the app's tasks, of which so many can serve, and tells how long they take until they do; 0 where it does not matter.
    pub fn observe(&mut self, app: &App, tasks: &[Task], ready: i64, now: Millis) -> Millis {
        let lags = app.demand.iter().filter_map(|metric| match metric.target {
            TargetValue::Wait(wait) => Some(wait.lag_ms),
            TargetValue::Value(_) | TargetValue::Utilization(_) => Some(0),
            _ => None,
        });
        let lag_ms = lags.max();
        if lag_ms.is_none() && app.demand.iter().all(|metric| metric.forecast.is_none()) {
            return 0;
        }
        self.start.observe(tasks, now);
        if let Some(lag_ms) = lag_ms {
            // Values may be a little older than the decision that they bring about.
            self.busy.observe(ready, now, lag_ms.saturating_add(MOST_LAG_MS + 1000));
        }
        self.start.ms()
    }

    /// Remembers that the metric asks for so many, if that may have to stand in for it.
    pub fn remember(&mut self, metric: &Metric, replicas: i64, now: Millis) {
        let window_ms = fallback::remembered_ms(metric);
        if window_ms > 0 {
            let recent = of(&mut self.recent, metric, Recent::default);
            let last = recent.last.replace(replicas).unwrap_or(replicas);
            for replicas in [last, replicas] {
                recent.most.note(replicas, now, window_ms, |newer, older| newer >= older);
            }
        }
    }

    /// The most that the metric asked for in this time before its last value.
    pub fn last_max(&self, metric: &Metric, window_ms: u64) -> Option<i64> {
        self.recent.get(&metric.name)?.1.most.within(window_ms)
    }

    /// How many replicas bore what a metric tells of each of them.
    pub fn bearers(&mut self, metric: &Metric, sample: Sample) -> i64 {
        let lag = of(&mut self.lags, metric, Lag::default);
        lag.bearers(sample.value, sample.at, |at| self.busy.at(at).unwrap_or(sample.standing.ready))
    }

    /// The Microscaling Engine's controllers.
    pub fn pace(&mut self, metric: &Metric, controller: Controller, target: f64, sample: Sample) -> Answer {
        let pace = of(&mut self.paces, metric, Pace::default);
        let (replicas, until) = pace.replicas(controller, sample.value, target, sample.standing.current, sample.now);
        let reason = Reason::QueueLength { name: metric.name.clone(), length: sample.value, target, replicas };
        Answer { replicas, reason, wake_at: Some(until) }
    }

    /// A bound for how long messages wait.
    pub fn wait(&mut self, app: &App, metric: &Metric, wait: Wait, sample: Sample) -> Answer {
        let Sample { value, at, readings, standing, now } = sample;
        let in_flight = if wait.counts_in_flight { standing.ready } else { 0 };
        let told = wait.arrivals.and_then(|place| {
            let (rate, at) = readings.get(place)?.value?;
            let stale_after_ms = app.demand.get(place)?.stale_after_ms;
            Some(rate).filter(|_| rate >= 0.0 && rate.is_finite() && now.saturating_sub(at) <= stale_after_ms)
        });
        let queue = of(&mut self.queues, metric, || Queue::new(wait, standing.current));
        let moment = Moment {
            waiting: (value - float(in_flight)).max(0.0),
            at,
            arrivals: told,
            ready: standing.ready,
            current: standing.current,
            start_ms: standing.start_ms,
            busy: &self.busy,
            slack: slack(app),
        };
        let replicas = queue.replicas(wait, moment);
        let (arrivals, service) = queue.rates();
        let (name, waiting) = (metric.name.clone(), moment.waiting);
        let reason = Reason::Queue { name, waiting, arrivals, service, max_ms: wait.max_ms, replicas };
        Answer { replicas, reason, wake_at: None }
    }
}

/// What is remembered for the metric; a changed target begins anew.
fn of<'a, T>(all: &'a mut BTreeMap<Arc<str>, (TargetValue, T)>, metric: &Metric, new: impl Fn() -> T) -> &'a mut T {
    let (target, memory) = all.entry(metric.name.clone()).or_insert_with(|| (metric.target, new()));
    if *target != metric.target {
        (*target, *memory) = (metric.target, new());
    }
    memory
}
