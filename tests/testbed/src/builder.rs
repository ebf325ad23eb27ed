//! What a cluster is made of.

use crate::Cluster;
use crate::agent::{Agent, Settings};
use crate::cluster;
use crate::daemon::{Daemon, Recipe};
use crate::home::Home;
use crate::install::{Extra, install, scripts};
use crate::marked;
use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// Describes a [`Cluster`], and starts it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    masters: usize,
    agents: Vec<Agent>,
    master_flags: Settings,
    agent_flags: Settings,
    run_directory: Option<PathBuf>,
    time_limit: Duration,
}

impl Default for Builder {
    /// One master, and no agents yet.
    fn default() -> Self {
        let time_limit = Duration::from_mins(1);
        Self {
            masters: 1,
            agents: Vec::new(),
            master_flags: Settings::new(),
            agent_flags: Settings::new(),
            run_directory: None,
            time_limit,
        }
    }
}

impl Builder {
    /// With more than one, `ZooKeeper` is started as well.
    pub fn masters(mut self, count: usize) -> Self {
        self.masters = count;
        self
    }

    /// Adds that many agents with 8 cpus, 8 GB memory, 1 GB disk, and 100 ports each, from 31000.
    pub fn agents(mut self, count: usize) -> Self {
        self.agents.extend((0..count).map(|_| Agent::default()));
        self
    }

    /// Adds an agent.
    pub fn agent(mut self, agent: Agent) -> Self {
        self.agents.push(agent);
        self
    }

    /// A flag of `mesos-master`, such as `("allocation_interval", "100ms")`. What is not set has its stock value.
    pub fn master_flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.master_flags.insert(name.to_owned(), value.into());
        self
    }

    /// A flag of all agents.
    pub fn agent_flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.agent_flags.insert(name.to_owned(), value.into());
        self
    }

    /// An agent that does not answer is given up after 3 s in place of 75 s, and a master with `ZooKeeper` after 2 s in place of
    /// 10 s. Without `ZooKeeper`, agents look for a restarted master after the same 3 s or 75 s: they miss its pings.
    pub fn fast_failure_detection(self) -> Self {
        self.master_flag("agent_ping_timeout", "1secs")
            .master_flag("max_agent_ping_timeouts", "3")
            .master_flag("zk_session_timeout", "2secs")
            .agent_flag("zk_session_timeout", "2secs")
    }

    /// Keeps the files there, in a new directory that is removed at the end, in place of the system's directory for such.
    pub fn run_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.run_directory = Some(directory.into());
        self
    }

    /// How long each step of the start may take; 60 s if not set.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Installs Mesos if need be, starts everything, and waits until a master leads and all agents are registered.
    ///
    /// # Errors
    /// If anything of that fails or takes too long; with the end of the logs.
    pub fn start(self) -> Result<Cluster> {
        ensure!(self.masters > 0, "a cluster needs a master");
        self.agents.iter().try_for_each(Agent::prepare)?;
        let installed = install((self.masters > 1).then_some(Extra::ZooKeeper))?;
        let home = Home::make(self.run_directory.as_deref(), &installed.join("bin/testbed-reaper"))?;
        let start = Start { builder: &self, installed, root: home.directory().to_owned(), id: home.id().to_owned() };
        // From here on, an early return drops what is there.
        let installed = start.installed.clone();
        let mut cluster = Cluster { masters: Vec::new(), agents: Vec::new(), zookeeper: None, installed, home };
        start.masters(&mut cluster)?;
        start.agents(&mut cluster)?;
        cluster.wait_until_ready(self.time_limit)?;
        Ok(cluster)
    }
}

/// A start in progress.
struct Start<'a> {
    builder: &'a Builder,
    installed: PathBuf,
    root: PathBuf,
    id: String,
}

impl Start<'_> {
    fn masters(&self, cluster: &mut Cluster) -> Result<()> {
        let mut flags = settings(&[("ip", "127.0.0.1"), ("hostname", "127.0.0.1"), ("logging_level", "WARNING")]);
        if self.builder.masters > 1 {
            let zookeeper = Daemon::launch(self.zookeeper(), self.builder.time_limit)?;
            flags.insert("zk".to_owned(), zookeeper_url(&zookeeper));
            flags.insert("quorum".to_owned(), (self.builder.masters / 2 + 1).to_string());
            cluster.zookeeper = Some(zookeeper);
        }
        flags.extend(self.builder.master_flags.clone());
        for index in 0..self.builder.masters {
            let recipe = self.mesos("mesos-master", &format!("master-{index}"), flags.clone());
            cluster.masters.push(Daemon::launch(recipe, self.builder.time_limit)?);
        }
        if self.builder.masters > 1 {
            cluster.wait_until_log_is_replicated(self.builder.time_limit)?;
        }
        Ok(())
    }

    fn agents(&self, cluster: &mut Cluster) -> Result<()> {
        let master = match &cluster.zookeeper {
            Some(zookeeper) => zookeeper_url(zookeeper),
            None => cluster.master(0).address().to_string(),
        };
        for (index, agent) in self.builder.agents.iter().enumerate() {
            let flags = self.agent_flags(index, agent, &master);
            let mut recipe = self.mesos("mesos-agent", &format!("agent-{index}"), flags);
            recipe.environment.extend(agent.own_environment(&recipe.directory));
            let daemon = Daemon::launch(recipe, self.builder.time_limit)?;
            cluster.agents.push(cluster::Agent { daemon, copies: agent.count() });
        }
        Ok(())
    }

    fn agent_flags(&self, index: usize, agent: &Agent, master: &str) -> Settings {
        let mut flags = settings(&[
            ("ip", "127.0.0.1"),
            ("hostname", "127.0.0.1"),
            ("logging_level", "WARNING"),
            ("launcher", "posix"),
            ("isolation", "posix/cpu,posix/mem"),
            // A restarted agent always waits that long for its executors.
            ("executor_reregistration_timeout", "2secs"),
            ("registration_backoff_factor", "100ms"),
        ]);
        flags.insert("master".to_owned(), master.to_owned());
        flags.insert("executor_environment_variables".to_owned(), self.executor_environment());
        flags.extend(agent.own_flags(&self.id, index));
        flags.extend(self.builder.agent_flags.clone());
        flags.extend(agent.given_flags().clone());
        flags
    }

    /// Executors inherit nothing from the agent unless it is told so, and the mark must reach them and their tasks.
    fn executor_environment(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        serde_json::json!({ "PATH": path, marked::VARIABLE: self.id }).to_string()
    }

    fn mesos(&self, program: &str, name: &str, mut flags: Settings) -> Recipe {
        let directory = self.root.join(name);
        let path = |part: &str| directory.join(part).display().to_string();
        flags.insert("work_dir".to_owned(), path("work"));
        if program == "mesos-agent" {
            flags.insert("runtime_dir".to_owned(), path("run"));
            flags.insert("appc_store_dir".to_owned(), path("store/appc"));
            flags.insert("docker_store_dir".to_owned(), path("store/docker"));
        }
        let mut environment: Settings =
            flags.into_iter().map(|(flag, value)| (format!("MESOS_{}", flag.to_uppercase()), value)).collect();
        environment.insert(marked::VARIABLE.to_owned(), self.id.clone());
        // Dropping pages of a log from the page cache costs more than the log.
        environment.insert("GLOG_drop_log_memory".to_owned(), "false".to_owned());
        Recipe {
            name: name.to_owned(),
            program: self.installed.join("bin").join(program),
            arguments: Box::new(|_, _| Vec::new()),
            scheme: "http",
            environment,
            port_variable: Some("MESOS_PORT"),
            directory,
        }
    }

    fn zookeeper(&self) -> Recipe {
        Recipe {
            name: "zookeeper".to_owned(),
            program: scripts().join("run-zookeeper"),
            arguments: Box::new(|port, directory| vec![port.to_string(), directory.join("data").display().to_string()]),
            scheme: "zk",
            environment: Settings::from([(marked::VARIABLE.to_owned(), self.id.clone())]),
            port_variable: None,
            directory: self.root.join("zookeeper"),
        }
    }
}

fn zookeeper_url(zookeeper: &Daemon) -> String {
    format!("{}/mesos", zookeeper.url())
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
