//! Targets in plain numbers.

use super::Invalid;
use super::amount::{positive, unsigned};
use crate::api::demand::{Demand, Polling, Queue, Target};

/// How a value becomes replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TargetValue {
    /// Keep the metric at this value (HPA `Value`).
    Value(f64),
    /// One replica per this much (HPA `AverageValue`).
    Average(f64),
    /// Keep an average over the replicas at so many percent (HPA `Utilization`).
    Utilization(f64),
    /// One replica per this much a second.
    Rate(f64),
    /// Keep how long messages wait below a bound.
    Wait(Wait),
    /// Keep a queue at this length, with the Microscaling Engine's controller.
    QueueLength(f64),
    /// The same, one replica at a time.
    SimpleQueue(f64),
    /// It is only looked at.
    None,
}

/// A bound for how long messages wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wait {
    pub max_ms: u64,
    /// How long a replica is busy with a message, if somebody has said so.
    pub service_ms: Option<u64>,
    /// Age of a value when it arrives.
    pub lag_ms: u64,
    pub counts_in_flight: bool,
    /// The place in `App::demand` of the metric that tells arrivals per second.
    pub arrivals: Option<usize>,
}

/// Reads the target of the metric at `index` of `all`.
pub(super) fn read(index: usize, all: &[Demand], target: &Target) -> Result<Option<TargetValue>, Invalid> {
    let field = |name: &str| format!("spec.demand[{index}].target.{name}");
    Ok(Some(match target {
        Target { value: Some(value), .. } => TargetValue::Value(positive(&field("value"), value)?),
        Target { average_value: Some(value), .. } => TargetValue::Average(positive(&field("averageValue"), value)?),
        Target { utilization: Some(percent), .. } => TargetValue::Utilization(f64::from(*percent)),
        Target { rate: Some(rate), .. } => TargetValue::Rate(positive(&field("rate.perReplica"), &rate.per_replica)?),
        Target { queue: Some(queue), .. } => TargetValue::Wait(wait(index, all, queue)?),
        Target { queue_length: Some(length), .. } => TargetValue::QueueLength(whole(*length)),
        Target { simple_queue: Some(length), .. } => TargetValue::SimpleQueue(whole(*length)),
        Target { .. } => return Ok(None),
    }))
}

fn wait(index: usize, all: &[Demand], queue: &Queue) -> Result<Wait, Invalid> {
    let arrivals = queue.arrivals.as_ref().map(|name| {
        // What has no value of its own has no place in `App::demand` either.
        let others = all.iter().filter(|demand| demand.has_values());
        let found = others.enumerate().find(|(_, demand)| demand.name == *name && demand.name != all[index].name);
        let problem = format!("no other metric of the app is called {name}");
        let field = format!("spec.demand[{index}].target.queue.arrivals");
        found.map(|(place, _)| place).ok_or(Invalid::Field { field, problem })
    });
    if let Some(slowest) =
        all[index].source.polling().map(Polling::slowest_ms).filter(|slowest| *slowest > queue.max_wait_milliseconds)
    {
        let problem = format!(
            "no such wait can be kept where the value is only looked at every {slowest} ms: name a longer wait, or shorter pollMilliseconds \
             and calmPollMilliseconds"
        );
        return Err(Invalid::Field { field: format!("spec.demand[{index}].target.queue.maxWaitMilliseconds"), problem });
    }
    Ok(Wait {
        max_ms: unsigned(queue.max_wait_milliseconds),
        service_ms: queue.service_milliseconds.map(unsigned),
        lag_ms: unsigned(queue.lag_milliseconds),
        counts_in_flight: queue.counts_in_flight,
        arrivals: arrivals.transpose()?,
    })
}

/// Exact up to far beyond what the schema allows.
#[allow(clippy::cast_precision_loss)]
fn whole(n: i64) -> f64 {
    n as f64
}
