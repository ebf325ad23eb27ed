//! An agent of a running cluster.

use crate::Cluster;
use crate::cluster::subdirectories;
use crate::daemon::Daemon;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// An agent of the cluster: a [`Daemon`], and what its cluster knows of it.
#[derive(Clone, Copy)]
pub struct AgentHandle<'a> {
    cluster: &'a Cluster,
    daemon: &'a Daemon,
}

impl Deref for AgentHandle<'_> {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        self.daemon
    }
}

impl<'a> AgentHandle<'a> {
    pub(crate) fn new(cluster: &'a Cluster, daemon: &'a Daemon) -> Self {
        Self { cluster, daemon }
    }

    /// The newest sandbox of an executor, where its tasks begin and leave `stdout` and `stderr`. The executor of a task that names
    /// none has the task's id.
    ///
    /// # Errors
    /// If this agent has never run such an executor.
    pub fn sandbox(&self, framework_id: &str, executor_id: &str) -> Result<PathBuf> {
        let runs = format!("frameworks/{framework_id}/executors/{executor_id}/runs/latest");
        let work = self.daemon.directory().join("work");
        // One of several agents in a process has a directory of its own.
        let roots = std::iter::once(work.clone()).chain(subdirectories(&work)).map(|root| root.join("slaves"));
        let mut sandboxes = roots.flat_map(|slaves| subdirectories(&slaves)).map(|slave| slave.join(&runs));
        let found = sandboxes.find(|sandbox| sandbox.is_dir());
        found.with_context(|| format!("{} has no sandbox {runs}", self.daemon.name()))
    }

    /// Its id at the leading master. An agent keeps its id over a restart.
    ///
    /// # Errors
    /// If no master leads, or it does not know the agent.
    pub fn id(&self) -> Result<String> {
        let page = self.page()?;
        page["id"].as_str().map(ToOwned::to_owned).context("an agent has an id")
    }

    /// What the leading master tells of it.
    pub(crate) fn page(&self) -> Result<Value> {
        let address = format!("@{}", self.daemon.address());
        let agents = self.cluster.get("/master/slaves")?;
        let agents = agents["slaves"].as_array().into_iter().flatten();
        let mut own = agents.filter(|agent| agent["pid"].as_str().is_some_and(|pid| pid.ends_with(&address)));
        own.next().cloned().with_context(|| format!("the master does not know {}", self.daemon.name()))
    }

    pub(crate) fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Lets no more tasks in and ends those that are there, each after its own grace period, at most `max_grace`.
    ///
    /// # Errors
    /// If the master refuses it.
    pub fn drain(&self, max_grace: Duration) -> Result<()> {
        let nanoseconds = u64::try_from(max_grace.as_nanos())?;
        let grace = json!({ "nanoseconds": nanoseconds });
        let drain = json!({ "agent_id": { "value": self.id()? }, "max_grace_period": grace });
        self.cluster.operator(&json!({ "type": "DRAIN_AGENT", "drain_agent": drain })).map(drop)
    }

    /// Takes tasks again after [`drain`](Self::drain).
    ///
    /// # Errors
    /// If the master refuses it, as it does until all tasks have ended and their ends are acknowledged.
    pub fn reactivate(&self) -> Result<()> {
        let reactivate = json!({ "agent_id": { "value": self.id()? } });
        self.cluster.operator(&json!({ "type": "REACTIVATE_AGENT", "reactivate_agent": reactivate })).map(drop)
    }
}
