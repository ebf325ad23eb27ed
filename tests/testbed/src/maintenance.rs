//! Maintenance of hosts, as the operators of a cluster plan it. A host is a hostname and an address: agents that share both, as they do
//! unless told otherwise, are one.

use crate::{AgentHandle, Cluster};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

impl AgentHandle<'_> {
    /// Maintenance of its host is to begin in that time, and of no other.
    ///
    /// # Errors
    /// If the master does not know the agent, or refuses the plan.
    pub fn plan_maintenance(&self, begins_in: Duration) -> Result<()> {
        let start = SystemTime::now() + begins_in;
        let nanoseconds = u64::try_from(start.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
        let unavailability = json!({ "start": { "nanoseconds": nanoseconds } });
        self.cluster().plan(&json!([{ "machine_ids": [self.machine()?], "unavailability": unavailability }]))
    }

    /// Ends all agents of its host, whose maintenance is planned.
    ///
    /// # Errors
    /// If the master refuses it.
    pub fn begin_maintenance(&self) -> Result<Host> {
        let machine = self.machine()?;
        self.cluster().operator(&json!({ "type": "START_MAINTENANCE", "start_maintenance": { "machines": [machine] } }))?;
        Ok(Host(machine))
    }

    fn machine(&self) -> Result<Value> {
        let page = self.page()?;
        let address = page["pid"].as_str().and_then(|pid| pid.split_once('@')?.1.rsplit_once(':'));
        let (ip, _) = address.context("an agent's pid has an address")?;
        Ok(json!({ "hostname": page["hostname"], "ip": ip }))
    }
}

/// A host under maintenance.
pub struct Host(Value);

impl Cluster {
    /// No maintenance is planned any more.
    ///
    /// # Errors
    /// If the master refuses it.
    pub fn drop_maintenance_plans(&self) -> Result<()> {
        self.plan(&json!([]))
    }

    /// Agents of this host may come back.
    ///
    /// # Errors
    /// If the master refuses it.
    pub fn end_maintenance(&self, host: &Host) -> Result<()> {
        self.operator(&json!({ "type": "STOP_MAINTENANCE", "stop_maintenance": { "machines": [host.0] } })).map(drop)
    }

    /// What frameworks have answered to the plans, such as `ACCEPT`.
    ///
    /// # Errors
    /// If no master leads.
    pub fn maintenance_answers(&self) -> Result<Vec<String>> {
        let status = self.operator(&json!({ "type": "GET_MAINTENANCE_STATUS" }))?;
        let machines = status["get_maintenance_status"]["status"]["draining_machines"].as_array().cloned().unwrap_or_default();
        let answers = machines.iter().flat_map(|machine| machine["statuses"].as_array().cloned().unwrap_or_default());
        Ok(answers.filter_map(|answer| answer["status"].as_str().map(ToOwned::to_owned)).collect())
    }

    fn plan(&self, windows: &Value) -> Result<()> {
        let schedule = json!({ "schedule": { "windows": windows } });
        self.operator(&json!({ "type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": schedule })).map(drop)
    }
}
