//! From what containers have used so far to what they use now.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::api::demand::{MesosResource, Unit};
use crate::backend::mesos::usage::Statistics;

/// Rates are those of so many seconds, or of as much as has been seen.
const WINDOW: f64 = 1.0;

/// What a task has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    pub cores: f64,
    pub bytes: f64,
}

/// The last samples of each task.
#[derive(Debug, Default)]
pub struct Samples(HashMap<Arc<str>, Series>);

#[derive(Debug, Default)]
struct Series {
    asked: Asked,
    /// In order of time, none twice.
    samples: VecDeque<Statistics>,
}

impl Samples {
    /// Takes in what is known now of the tasks that run; others are forgotten.
    pub fn take(&mut self, now: impl Iterator<Item = (Arc<str>, Asked, Statistics)>) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = now
            .map(|(task, asked, sample)| {
                let mut series = before.remove(&task).unwrap_or_default();
                series.asked = asked;
                series.push(sample);
                (task, series)
            })
            .collect();
    }

    /// The usage of all tasks together; `None` as long as there are not two samples of any. A task that has only one is left out: what has
    /// just begun is not what the demand is known by.
    ///
    /// # Errors
    /// In words, when the agents do not measure it.
    pub fn measure(&self, resource: MesosResource, unit: Unit) -> Result<Option<f64>, String> {
        let all = self.0.values();
        Ok(match resource {
            MesosResource::Cpu => told(all.map(|series| Ok(series.cores()?.map(|used| (used, series.asked.cores)))), unit)?,
            MesosResource::Memory => told(all.map(|series| Ok(Some((series.bytes()?, series.asked.bytes)))), unit)?,
            // Its whole are the periods.
            MesosResource::Throttling => told(all.map(Series::throttled), Unit::Percent)?,
        })
    }
}

impl Series {
    fn push(&mut self, sample: Statistics) {
        if self.samples.back().is_none_or(|last| last.timestamp < sample.timestamp) {
            self.samples.push_back(sample);
        }
        // The first is kept that is as old as the window, or older.
        while self.samples.get(1).is_some_and(|second| sample.timestamp - second.timestamp >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// The first and the last.
    fn ends(&self) -> Option<(&Statistics, &Statistics)> {
        self.samples.front().zip(self.samples.back()).filter(|(first, last)| first.timestamp < last.timestamp)
    }

    fn cores(&self) -> Result<Option<f64>, String> {
        let Some((first, last)) = self.ends() else { return Ok(None) };
        let seconds = |sample: &Statistics| Some(sample.cpus_user_time_secs? + sample.cpus_system_time_secs?);
        let (Some(before), Some(now)) = (seconds(first), seconds(last)) else {
            return Err(not_measured("processor time", "posix/cpu or cgroups/cpu"));
        };
        Ok(Some(((now - before) / (last.timestamp - first.timestamp)).max(0.0)))
    }

    #[allow(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
    fn bytes(&self) -> Result<f64, String> {
        let bytes = self.samples.back().and_then(|sample| sample.mem_rss_bytes);
        bytes.map(|bytes| bytes as f64).ok_or_else(|| not_measured("memory", "posix/mem or cgroups/mem"))
    }

    /// The periods in which it was throttled, and all in which it was ready to run.
    #[allow(clippy::cast_precision_loss, reason = "there are a few periods in a second")]
    fn throttled(&self) -> Result<Option<(f64, f64)>, String> {
        let Some((first, last)) = self.ends() else { return Ok(None) };
        let periods = |sample: &Statistics| Some((sample.cpus_nr_throttled?, sample.cpus_nr_periods?));
        let (Some(before), Some(now)) = (periods(first), periods(last)) else {
            return Err(not_measured("throttling", "cgroups/cpu and --cgroups_enable_cfs"));
        };
        Ok(Some((now.0.saturating_sub(before.0) as f64, now.1.saturating_sub(before.1) as f64)))
    }
}

/// Parts and their wholes, as the unit has it.
fn told(parts: impl Iterator<Item = Result<Option<(f64, f64)>, String>>, unit: Unit) -> Result<Option<f64>, String> {
    let parts: Vec<_> = parts.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let (used, asked) = parts.iter().fold((0.0, 0.0), |(used, asked), part| (used + part.0, asked + part.1));
    Ok((!parts.is_empty()).then_some(match unit {
        Unit::Amount => used,
        Unit::Percent if asked > 0.0 => 100.0 * used / asked,
        Unit::Percent => 0.0,
    }))
}

fn not_measured(what: &str, isolation: &str) -> String {
    format!("the agents do not measure {what} of containers: they need --isolation={isolation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked { cores: 0.5, bytes: 1000.0 };

    fn at(timestamp: f64, cpu: f64) -> Statistics {
        Statistics {
            timestamp,
            cpus_user_time_secs: Some(cpu * 0.75),
            cpus_system_time_secs: Some(cpu * 0.25),
            mem_rss_bytes: Some(300),
            ..Statistics::default()
        }
    }

    fn take(samples: &mut Samples, tasks: &[(&str, Statistics)]) {
        samples.take(tasks.iter().map(|(task, sample)| (Arc::from(*task), ASKED, *sample)));
    }

    #[test]
    fn cpu_is_the_rate_of_the_last_second() {
        let (mut samples, cpu) = (Samples::default(), MesosResource::Cpu);
        take(&mut samples, &[("a", at(10.0, 5.0))]);
        assert_eq!(samples.measure(cpu, Unit::Amount), Ok(None));
        take(&mut samples, &[("a", at(10.0, 5.0))]);
        assert_eq!(samples.measure(cpu, Unit::Amount), Ok(None), "the same sample again");
        take(&mut samples, &[("a", at(10.5, 5.25)), ("b", at(10.5, 90.0))]);
        assert_eq!(samples.measure(cpu, Unit::Amount), Ok(Some(0.5)), "the new one is left out");
        take(&mut samples, &[("a", at(11.0, 5.25)), ("b", at(11.0, 91.0))]);
        assert_eq!(samples.measure(cpu, Unit::Amount), Ok(Some(0.25 + 2.0)));
        assert_eq!(samples.measure(cpu, Unit::Percent), Ok(Some(225.0)));
        take(&mut samples, &[("a", at(11.5, 5.25))]);
        assert_eq!(samples.measure(cpu, Unit::Amount), Ok(Some(0.0)), "what was longer ago than a second does not count");
    }

    #[test]
    fn memory_needs_no_second_look() {
        let mut samples = Samples::default();
        take(&mut samples, &[("a", at(1.0, 0.0)), ("b", at(1.0, 0.0))]);
        assert_eq!(samples.measure(MesosResource::Memory, Unit::Amount), Ok(Some(600.0)));
        assert_eq!(samples.measure(MesosResource::Memory, Unit::Percent), Ok(Some(30.0)));
    }

    #[test]
    fn throttling_is_a_share_of_periods() {
        let (mut samples, throttling) = (Samples::default(), MesosResource::Throttling);
        let of = |timestamp, throttled, periods| Statistics {
            cpus_nr_throttled: Some(throttled),
            cpus_nr_periods: Some(periods),
            ..at(timestamp, 0.0)
        };
        take(&mut samples, &[("a", of(1.0, 100, 1000)), ("b", of(1.0, 0, 0))]);
        take(&mut samples, &[("a", of(1.5, 104, 1005)), ("b", of(1.5, 0, 0))]);
        assert_eq!(samples.measure(throttling, Unit::Amount), Ok(Some(80.0)));
        take(&mut samples, &[("b", of(2.0, 0, 0))]);
        assert_eq!(samples.measure(throttling, Unit::Amount), Ok(Some(0.0)), "it did not want to run");
    }

    #[test]
    fn what_is_not_measured_is_said() {
        let mut samples = Samples::default();
        take(&mut samples, &[("a", at(1.0, 0.0))]);
        take(&mut samples, &[("a", at(2.0, 0.0))]);
        let said = samples.measure(MesosResource::Throttling, Unit::Amount);
        let needs = "--isolation=cgroups/cpu and --cgroups_enable_cfs";
        assert_eq!(said, Err(format!("the agents do not measure throttling of containers: they need {needs}")));
    }
}
