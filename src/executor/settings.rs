//! What the agent tells an executor through its environment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// As Mesos' own executors have it, where neither the kill nor the task says it.
const GRACE: Duration = Duration::from_secs(3);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// The agent's own default.
const RECOVERY_TIMEOUT: Duration = Duration::from_mins(15);
/// What of Mesos' variables tasks may need. All others are the executor's own: they hold its credentials, and would make a task that
/// speaks with Mesos pass for the executor.
const SHARED: [&str; 2] = ["MESOS_CONTAINER_IP", "MESOS_ALLOCATION_ROLE"];

/// Read once at the start.
#[derive(Debug)]
pub struct Settings {
    pub agent: SocketAddr,
    /// Of the executor API, such as `/slave(1)/api/v1/executor`.
    pub path: String,
    pub framework_id: String,
    pub executor_id: String,
    pub token: Option<String>,
    /// How long to wait for an agent that is gone; none if it will not know us when it comes back.
    pub recovery_timeout: Option<Duration>,
    /// Between TERM and KILL, where neither the kill nor the task says it.
    pub grace: Duration,
    /// How long after SHUTDOWN the agent ends what is left.
    pub shutdown_grace: Duration,
    pub sandbox: PathBuf,
    pub container_id: String,
    /// What tasks inherit.
    pub environment: Vec<(OsString, OsString)>,
}

/// Not started by an agent, or by one that speaks otherwise.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SettingsError {
    #[error("{0} is not set: a Mesos agent starts this program as the executor of a pool; by hand, use `microscaler run`")]
    Missing(&'static str),
    #[error("{name} is {value:?}, which is not {expected}")]
    Malformed { name: &'static str, value: String, expected: &'static str },
}

impl Settings {
    /// # Errors
    /// When a variable is missing or cannot be read.
    pub fn read(environment: Vec<(OsString, OsString)>) -> Result<Self, SettingsError> {
        let find = |name: &str| environment.iter().find(|(known, _)| known == name)?.1.to_str().map(str::to_owned);
        let need = |name: &'static str| find(name).ok_or(SettingsError::Missing(name));
        let agent = need("MESOS_AGENT_ENDPOINT")?;
        let pid = need("MESOS_SLAVE_PID")?;
        let malformed = |name, value, expected| SettingsError::Malformed { name, value, expected };
        let (name, _) =
            pid.split_once('@').ok_or_else(|| malformed("MESOS_SLAVE_PID", pid.clone(), "of the form name@address"))?;
        let directory = need("MESOS_DIRECTORY").or_else(|_| need("MESOS_SANDBOX"))?;
        let explicit_grace = duration(find("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"));
        Ok(Self {
            path: format!("/{name}/api/v1/executor"),
            agent: agent.parse().map_err(|_| malformed("MESOS_AGENT_ENDPOINT", agent, "of the form address:port"))?,
            framework_id: need("MESOS_FRAMEWORK_ID")?,
            executor_id: need("MESOS_EXECUTOR_ID")?,
            token: find("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
            recovery_timeout: find("MESOS_CHECKPOINT")
                .filter(|value| value == "1")
                .map(|_| duration(find("MESOS_RECOVERY_TIMEOUT")).unwrap_or(RECOVERY_TIMEOUT)),
            grace: explicit_grace.unwrap_or(GRACE),
            shutdown_grace: explicit_grace.unwrap_or(SHUTDOWN_GRACE),
            // With a container image, the sandbox is mounted elsewhere than the agent sees it.
            sandbox: find("MESOS_SANDBOX").unwrap_or_else(|| directory.clone()).into(),
            container_id: directory.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned(),
            environment: environment.into_iter().filter(|(name, _)| is_for_tasks(&name.to_string_lossy())).collect(),
        })
    }
}

fn is_for_tasks(name: &str) -> bool {
    SHARED.contains(&name) || !["MESOS_", "LIBPROCESS_"].iter().any(|prefix| name.starts_with(prefix))
}

fn duration(text: Option<String>) -> Option<Duration> {
    parse_duration(&text?)
}

/// As Mesos writes it: `2secs`, `1.5mins`.
fn parse_duration(text: &str) -> Option<Duration> {
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
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;

    pub const GIVEN: [(&str, &str); 10] = [
        ("MESOS_AGENT_ENDPOINT", "127.0.0.1:5051"),
        ("MESOS_SLAVE_PID", "slave(1)@127.0.0.1:5051"),
        ("MESOS_FRAMEWORK_ID", "F1"),
        ("MESOS_EXECUTOR_ID", "pool"),
        ("MESOS_DIRECTORY", "/var/lib/mesos/slaves/S/frameworks/F/executors/pool/runs/c0ffee"),
        ("MESOS_SANDBOX", "/mnt/mesos/sandbox"),
        ("MESOS_CHECKPOINT", "1"),
        ("MESOS_RECOVERY_TIMEOUT", "2mins"),
        ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "secret"),
        ("PATH", "/bin"),
    ];

    pub fn read(given: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(given.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    #[test]
    fn an_agents_environment_is_read() {
        let settings = read(&GIVEN).unwrap();
        assert_eq!(settings.path, "/slave(1)/api/v1/executor");
        assert_eq!(settings.container_id, "c0ffee");
        assert_eq!(settings.recovery_timeout, Some(Duration::from_mins(2)));
        assert_eq!((settings.grace, settings.shutdown_grace), (Duration::from_secs(3), Duration::from_secs(5)));
        assert_eq!(settings.environment, [("PATH".into(), "/bin".into())]);
    }

    #[test]
    fn without_a_checkpoint_no_agent_is_waited_for() {
        let given: Vec<_> = GIVEN.into_iter().filter(|(name, _)| *name != "MESOS_CHECKPOINT").collect();
        assert_eq!(read(&given).unwrap().recovery_timeout, None);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(read(&[]).unwrap_err(), SettingsError::Missing("MESOS_AGENT_ENDPOINT"));
        let error = read(&[("MESOS_AGENT_ENDPOINT", "here"), GIVEN[1], GIVEN[2], GIVEN[3], GIVEN[4]]).unwrap_err();
        assert_eq!(error.to_string(), "MESOS_AGENT_ENDPOINT is \"here\", which is not of the form address:port");
    }

    #[test]
    fn durations_are_mesos() {
        assert_eq!(parse_duration("1.5mins"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("0ns"), Some(Duration::ZERO));
        assert_eq!(parse_duration("5"), None);
    }
}
