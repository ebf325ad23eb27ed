//! The flags, by Marathon's own names, with Marathon's own values if not given. Those that begin with `testbed_` are ours.

use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;

/// All durations are in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Mesos masters, `host:port` each; whichever leads is used.
    pub master: Vec<String>,
    pub http_port: u16,
    pub framework_name: String,
    pub min_revive_offers_interval: i64,
    pub disable_suppress_offers: bool,
    pub decline_offer_duration: i64,
    pub max_instances_per_offer: usize,
    /// How long an offer is kept while nothing waits for one.
    pub offer_matching_timeout: i64,
    pub launch_tokens: usize,
    pub launch_token_refresh_interval: i64,
    pub scale_apps_initial_delay: i64,
    pub scale_apps_interval: i64,
    pub kill_retry_timeout: i64,
    pub max_running_deployments: usize,
    /// How long a leader that has died without a word still counts as alive.
    pub zk_session_timeout: i64,
    /// `user:password`.
    pub http_credentials: Option<String>,
    /// What stands for `ZooKeeper`: several processes that share it are one Marathon.
    pub testbed_state: PathBuf,
    /// How long each update takes to be persisted.
    pub testbed_persistence_delay: i64,
    /// How long each new instance takes to be written down.
    pub testbed_scheduling_delay: i64,
    /// More instances than that in one app, and the process ends, as Marathon does that runs out of memory.
    pub testbed_memory_instances: usize,
    /// How long the end takes then.
    pub testbed_memory_delay: i64,
    /// Of event streams, and how many events each may be behind.
    pub testbed_heartbeat_interval: i64,
    pub testbed_event_buffer: usize,
    /// How long an unused connection stays open.
    pub testbed_idle_timeout: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            master: Vec::new(),
            http_port: 8080,
            framework_name: "marathon".to_owned(),
            min_revive_offers_interval: 5_000,
            disable_suppress_offers: false,
            decline_offer_duration: 120_000,
            max_instances_per_offer: 5,
            offer_matching_timeout: 3_000,
            launch_tokens: 100,
            launch_token_refresh_interval: 30_000,
            scale_apps_initial_delay: 15_000,
            scale_apps_interval: 300_000,
            kill_retry_timeout: 30_000,
            max_running_deployments: 100,
            zk_session_timeout: 10_000,
            http_credentials: None,
            testbed_state: PathBuf::from("."),
            testbed_persistence_delay: 30,
            testbed_scheduling_delay: 5,
            testbed_memory_instances: 1_000_000,
            testbed_memory_delay: 20_000,
            testbed_heartbeat_interval: 10_000,
            testbed_event_buffer: 1024,
            testbed_idle_timeout: 30_000,
        }
    }
}

impl Settings {
    /// From `--name value`, `--name=value`, and `--disable_suppress_offers` alone.
    ///
    /// # Errors
    /// If a flag is unknown or its value not fit.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut settings = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix("--") else { bail!("'{argument}' is no flag: they begin with --") };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if flag == "disable_suppress_offers" => (flag, "true".to_owned()),
                None => (flag, arguments.next().with_context(|| format!("--{flag} needs a value"))?),
            };
            settings.set(name, &value).with_context(|| format!("--{name} '{value}'"))?;
        }
        ensure!(!settings.master.is_empty(), "--master is missing: HOST:PORT of a Mesos master, or several with commas between");
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "master" => self.master = value.split(',').map(ToOwned::to_owned).collect(),
            "http_port" => self.http_port = value.parse()?,
            "framework_name" => self.framework_name = value.to_owned(),
            "min_revive_offers_interval" => self.min_revive_offers_interval = value.parse()?,
            "disable_suppress_offers" => self.disable_suppress_offers = value.parse()?,
            "decline_offer_duration" => self.decline_offer_duration = value.parse()?,
            "max_instances_per_offer" => self.max_instances_per_offer = value.parse()?,
            "offer_matching_timeout" => self.offer_matching_timeout = value.parse()?,
            "launch_tokens" => self.launch_tokens = value.parse()?,
            "launch_token_refresh_interval" => self.launch_token_refresh_interval = value.parse()?,
            "scale_apps_initial_delay" => self.scale_apps_initial_delay = value.parse()?,
            "scale_apps_interval" => self.scale_apps_interval = value.parse()?,
            "kill_retry_timeout" => self.kill_retry_timeout = value.parse()?,
            "max_running_deployments" => self.max_running_deployments = value.parse()?,
            "zk_session_timeout" => self.zk_session_timeout = value.parse()?,
            "http_credentials" => self.http_credentials = Some(value.to_owned()),
            "testbed_state" => self.testbed_state = value.into(),
            "testbed_persistence_delay" => self.testbed_persistence_delay = value.parse()?,
            "testbed_scheduling_delay" => self.testbed_scheduling_delay = value.parse()?,
            "testbed_memory_instances" => self.testbed_memory_instances = value.parse()?,
            "testbed_memory_delay" => self.testbed_memory_delay = value.parse()?,
            "testbed_heartbeat_interval" => self.testbed_heartbeat_interval = value.parse()?,
            "testbed_event_buffer" => self.testbed_event_buffer = value.parse()?,
            "testbed_idle_timeout" => self.testbed_idle_timeout = value.parse()?,
            _ => bail!("unknown flag"),
        }
        Ok(())
    }

    /// As it stands in `X-Marathon-Leader` and `/v2/leader`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings> {
        Settings::parse(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn flags_have_marathons_names_and_defaults() {
        let settings = parse(&["--master", "a:1,b:2", "--min_revive_offers_interval=100", "--disable_suppress_offers"]).unwrap();
        assert_eq!(settings.master, ["a:1", "b:2"]);
        assert_eq!((settings.min_revive_offers_interval, settings.disable_suppress_offers), (100, true));
        assert_eq!((settings.decline_offer_duration, settings.max_instances_per_offer), (120_000, 5));
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(
            format!("{:#}", parse(&["--master", "a:1", "--nonsense", "1"]).unwrap_err()).contains("--nonsense '1': unknown flag")
        );
        assert!(parse(&[]).unwrap_err().to_string().contains("--master is missing"));
        assert!(format!("{:#}", parse(&["--launch_tokens", "x"]).unwrap_err()).contains("--launch_tokens 'x'"));
    }
}
