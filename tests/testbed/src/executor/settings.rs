//! What the agent tells an executor through its environment.

use anyhow::{Context, Result};
use std::env;
use std::net::SocketAddr;
use std::time::Duration;

/// Where the agent is, and what it calls us.
#[derive(Clone, Debug)]
pub struct Settings {
    pub agent: SocketAddr,
    /// Of the executor API, such as `/slave(1)/api/v1/executor`.
    pub path: String,
    pub framework_id: String,
    pub executor_id: String,
    pub token: Option<String>,
    /// How long to wait for an agent that is gone; none if it will not know us when it comes back.
    pub recovery_timeout: Option<Duration>,
    /// Between TERM and KILL, where the task does not say it.
    pub grace_period: Duration,
}

impl Settings {
    /// # Errors
    /// If a variable is missing or malformed: then no agent has started this program.
    pub fn from_environment() -> Result<Self> {
        let endpoint = variable("MESOS_AGENT_ENDPOINT")?;
        let agent_pid = variable("MESOS_SLAVE_PID")?;
        let (agent_name, _) = agent_pid.split_once('@').context("MESOS_SLAVE_PID has no '@'")?;
        let checkpoints = env::var("MESOS_CHECKPOINT").is_ok_and(|value| value == "1");
        Ok(Self {
            agent: endpoint.parse().with_context(|| format!("MESOS_AGENT_ENDPOINT {endpoint}"))?,
            path: format!("/{agent_name}/api/v1/executor"),
            framework_id: variable("MESOS_FRAMEWORK_ID")?,
            executor_id: variable("MESOS_EXECUTOR_ID")?,
            token: env::var("MESOS_EXECUTOR_AUTHENTICATION_TOKEN").ok(),
            recovery_timeout: checkpoints.then(|| duration_variable("MESOS_RECOVERY_TIMEOUT", Duration::from_mins(15))),
            grace_period: duration_variable("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", Duration::from_secs(5)),
        })
    }

    /// Header lines of all calls.
    #[must_use]
    pub fn headers(&self) -> String {
        let authorization = self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        format!("Content-Type: application/json\r\nAccept: application/json\r\n{authorization}")
    }
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: a Mesos agent starts this program"))
}

fn duration_variable(name: &str, otherwise: Duration) -> Duration {
    env::var(name).ok().and_then(|text| parse_duration(&text)).unwrap_or(otherwise)
}

/// As Mesos writes it: `2secs`, `1.5mins`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_of_mesos() {
        assert_eq!(parse_duration("2secs"), Some(Duration::from_secs(2)));
        assert_eq!(parse_duration("1.5mins"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("0ns"), Some(Duration::ZERO));
        assert_eq!(parse_duration("5"), None);
    }
}
