//! The one task of this executor, and what its statuses carry besides their state.

use crate::check::{Check, Health};
use crate::process::Process;
use microscaler_testbed::executor::grace_period;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub struct Task {
    pub id: Value,
    pub grace_period: Option<Duration>,
    pub process: Option<Process>,
    pub check: Option<Check>,
    pub health: Option<Health>,
    /// What Docker says of the container.
    pub container: Value,
}

impl Task {
    pub fn new(info: &Value, knows_checks: bool) -> Self {
        if !knows_checks && info["check"].is_object() {
            eprintln!("TaskInfo.check is ignored, as by Mesos' own Docker executor");
        }
        Self {
            id: info["task_id"].clone(),
            grace_period: grace_period(&info["kill_policy"]),
            process: None,
            check: Check::of(&info["check"]).filter(|_| knows_checks),
            health: Health::of(&info["health_check"], Instant::now()),
            container: json!({}),
        }
    }

    /// Members of a status while it runs: all that is known.
    pub fn running(&self) -> Value {
        let mut members = self.container.clone();
        if let Some(check) = &self.check {
            members["check_status"] = check.status();
        }
        if let Some(healthy) = self.health.as_ref().and_then(|health| health.healthy) {
            members["healthy"] = healthy.into();
        }
        members
    }

    /// Members of any other status: where there is a check, an empty result, and whether bad health is the reason.
    pub fn other(&self, message: Option<&str>) -> Value {
        let mut members = json!({});
        if let Some(message) = message {
            members["message"] = message.into();
        }
        if let Some(check) = &self.check {
            members["check_status"] = check.empty_status();
        }
        if message.is_some() && self.health.as_ref().is_some_and(|health| health.has_killed) {
            members["healthy"] = false.into();
        }
        members
    }
}
