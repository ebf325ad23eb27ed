//! `TaskInfo.check` and `TaskInfo.health_check`: when to look, and what to make of what was seen.

use crate::place::Place;
use crate::probe::{Outcome, Probe};
use anyhow::Result;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Without a timeout, an answer is waited for as long as a day.
const NO_TIMEOUT: Duration = Duration::from_hours(24);

/// Looks again and again, in a thread of its own, until `report` says that nobody listens.
pub fn start(info: &Value, place: &Place, report: impl Fn(Result<Outcome>) -> bool + Send + 'static) -> Result<()> {
    let probe = Probe::new(info, place)?;
    let (delay, interval) = (seconds(info, "delay_seconds", 15.0), seconds(info, "interval_seconds", 10.0));
    let timeout = Some(seconds(info, "timeout_seconds", 20.0)).filter(|limit| !limit.is_zero()).unwrap_or(NO_TIMEOUT);
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        while report(probe.run(timeout)) {
            std::thread::sleep(interval);
        }
    });
    Ok(())
}

fn seconds(info: &Value, name: &str, otherwise: f64) -> Duration {
    Duration::try_from_secs_f64(info[name].as_f64().unwrap_or(otherwise)).unwrap_or_default()
}

/// The latest result of a `CheckInfo`.
pub struct Check {
    kind: String,
    last: Value,
}

impl Check {
    /// None if the task has no check.
    pub fn of(info: &Value) -> Option<Self> {
        Some(Self { kind: info["type"].as_str()?.to_owned(), last: json!({}) })
    }

    /// `CheckStatusInfo` of now; empty but for its type until something has been seen.
    pub fn status(&self) -> Value {
        self.with(&self.last)
    }

    /// What a status that tells of no result carries.
    pub fn empty_status(&self) -> Value {
        self.with(&json!({}))
    }

    fn with(&self, result: &Value) -> Value {
        json!({ "type": self.kind, self.kind.to_lowercase(): result })
    }

    /// Whether it differs from the one before. What could not be seen in time is an empty result.
    pub fn is_changed_by(&mut self, result: &Result<Outcome>) -> bool {
        let new = result.as_ref().map_or_else(|_| json!({}), |outcome| outcome.status());
        std::mem::replace(&mut self.last, new) != self.last
    }
}

/// What the results of a `HealthCheck` amount to.
pub struct Health {
    grace_until: Option<Instant>,
    allowed: u64,
    failures: u64,
    /// Nothing has been told yet.
    is_new: bool,
    /// The last that was told.
    pub healthy: Option<bool>,
    pub has_killed: bool,
}

/// To be told to the framework.
#[derive(Debug, Eq, PartialEq)]
pub enum Verdict {
    Healthy,
    Unhealthy,
    /// Unhealthy too often.
    Kill,
}

impl Health {
    /// None if the task has no health check.
    pub fn of(info: &Value, now: Instant) -> Option<Self> {
        info["type"].as_str()?;
        let grace = seconds(info, "grace_period_seconds", 10.0);
        let allowed = info["consecutive_failures"].as_u64().unwrap_or(3);
        let grace_until = now.checked_add(grace);
        Some(Self { grace_until, allowed, failures: 0, is_new: true, healthy: None, has_killed: false })
    }

    /// The first success is told, the first one after a failure, and every failure but those in the grace period.
    pub fn take(&mut self, is_healthy: bool, now: Instant) -> Option<Verdict> {
        if is_healthy {
            let is_news = self.is_new || self.failures > 0;
            (self.is_new, self.failures, self.healthy) = (false, 0, Some(true));
            return is_news.then_some(Verdict::Healthy);
        }
        if self.is_new && self.grace_until.is_some_and(|end| now <= end) {
            return None;
        }
        (self.is_new, self.healthy) = (false, Some(false));
        self.failures += 1;
        self.has_killed = self.failures >= self.allowed;
        Some(if self.has_killed { Verdict::Kill } else { Verdict::Unhealthy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_tells_changes() {
        let mut check = Check::of(&json!({ "type": "HTTP" })).unwrap();
        assert_eq!(check.status(), json!({ "type": "HTTP", "http": {} }));
        assert!(check.is_changed_by(&Ok(Outcome::Status(200))));
        assert!(!check.is_changed_by(&Ok(Outcome::Status(200))));
        assert_eq!(check.status(), json!({ "type": "HTTP", "http": { "status_code": 200 } }));
        assert!(check.is_changed_by(&Err(anyhow::anyhow!("too late"))));
        assert_eq!(check.status(), check.empty_status());
    }

    #[test]
    fn health_has_patience_and_then_none() {
        let begin = Instant::now();
        let mut health =
            Health::of(&json!({ "type": "TCP", "grace_period_seconds": 5, "consecutive_failures": 2 }), begin).unwrap();
        assert_eq!(health.take(false, begin + Duration::from_secs(5)), None, "within the grace period");
        assert_eq!(health.take(false, begin + Duration::from_secs(6)), Some(Verdict::Unhealthy));
        assert_eq!(health.take(true, begin), Some(Verdict::Healthy));
        assert_eq!(health.take(true, begin), None);
        assert_eq!(health.take(false, begin), Some(Verdict::Unhealthy), "a success ends the grace period");
        assert_eq!(health.take(false, begin), Some(Verdict::Kill));
    }
}
