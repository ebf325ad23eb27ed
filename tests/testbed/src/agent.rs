//! What an agent is made of.

use crate::cgroups;
use crate::docker::{self, Docker};
use crate::features::{Feature, can};
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) type Settings = BTreeMap<String, String>;

/// Describes one agent.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Agent {
    resources: Option<String>,
    attributes: Vec<(String, String)>,
    flags: Settings,
    copies: Option<usize>,
    has_limits: bool,
    images: Option<PathBuf>,
    docker: Option<PathBuf>,
}

impl Agent {
    /// Such as `cpus:8;mem:8192;disk:1000;ports:[31000-31999]` (mem and disk in MB).
    pub fn resources(mut self, resources: impl Into<String>) -> Self {
        self.resources = Some(resources.into());
        self
    }

    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// A flag of `mesos-agent`, such as `("executor_shutdown_grace_period", "10secs")`.
    pub fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.insert(name.to_owned(), value.into());
        self
    }

    /// That many whole agents in one process, for tests of scale: 500 start in 2 s and take 660 MB. `{i}` in resources and
    /// attributes is the number of each, from 0.
    pub fn copies(mut self, count: usize) -> Self {
        self.copies = Some(count);
        self
    }

    /// With the Linux launcher and control groups: tasks have shares of the CPU, and one that takes more memory than it asked for
    /// is killed. See [`Feature::Limits`]. Add `("cgroups_enable_cfs", "true")` for a hard limit on the CPU, too.
    pub fn linux(mut self) -> Self {
        self.has_limits = true;
        self
    }

    /// Runs tasks in container images out of that directory (see [`busybox_image`](crate::busybox_image)) with the
    /// containerizer of Mesos itself. With the Linux launcher, and with limits where [`Feature::Limits`] is there.
    pub fn images(mut self, directory: impl Into<PathBuf>) -> Self {
        self.images = Some(directory.into());
        self
    }

    /// Runs tasks whose container is of type `DOCKER` there; several agents may share one. To be dropped after the cluster.
    pub fn docker(mut self, docker: &Docker) -> Self {
        self.docker = Some(docker.socket());
        self
    }

    pub(crate) fn count(&self) -> usize {
        self.copies.unwrap_or(1)
    }

    /// Whether this machine can run it; makes what the kernel does not offer by itself.
    pub(crate) fn prepare(&self) -> Result<()> {
        if self.has_limits {
            can(Feature::Limits).map_err(|why| anyhow!("Agent::linux() cannot work here: {why}"))?;
        }
        if self.images.is_some() {
            can(Feature::Images).map_err(|why| anyhow!("Agent::images() cannot work here: {why}"))?;
            cgroups::mount_freezer()?;
        }
        Ok(())
    }

    /// The flags that its nature asks for. `id` is the testbed's, and `index` the agent's place in it.
    pub(crate) fn own_flags(&self, id: &str, index: usize) -> Settings {
        let mut flags = Settings::new();
        let mut set = |name: &str, value: String| drop(flags.insert(name.to_owned(), value));
        set("resources", self.resources.clone().unwrap_or_else(|| default_resources(index)));
        if !self.attributes.is_empty() {
            let attributes: Vec<String> = self.attributes.iter().map(|(name, value)| format!("{name}:{value}")).collect();
            set("attributes", attributes.join(";"));
        }
        if let Some(directory) = &self.images {
            set("image_providers", "docker".to_owned());
            set("docker_registry", directory.display().to_string());
        }
        if let Some(socket) = &self.docker {
            docker::agent_flags(socket).into_iter().for_each(|(name, value)| set(name, value));
        }
        if self.has_limits || self.images.is_some() {
            set("launcher", "linux".to_owned());
            set("isolation", self.isolation());
            // Two agents in one group would end each other's containers.
            set("cgroups_root", cgroups::name(id, &format!("agent-{index}")));
        }
        flags
    }

    /// Variables of the agent that are no flags. `directory` is its own.
    pub(crate) fn own_environment(&self, directory: &Path) -> Settings {
        let mut environment = Settings::new();
        if let Some(count) = self.copies {
            environment.insert("MESOSD_NUM_AGENTS".to_owned(), count.to_string());
        }
        if self.docker.is_some() && cgroups::hierarchy("cpu").is_none() {
            environment.insert("MESOSD_CPU_HIERARCHY".to_owned(), directory.display().to_string());
        }
        environment
    }

    pub(crate) fn given_flags(&self) -> &Settings {
        &self.flags
    }

    fn isolation(&self) -> String {
        let mut isolators = Vec::new();
        if self.images.is_some() {
            isolators.extend(["filesystem/linux", "docker/runtime"]);
        }
        if self.has_limits || can(Feature::Limits).is_ok() {
            isolators.extend(["cgroups/cpu", "cgroups/mem"]);
        }
        isolators.join(",")
    }
}

/// All agents share this machine's ports, so each offers others, as far as there are.
fn default_resources(index: usize) -> String {
    let first = 31_000 + 100 * (index % 17);
    format!("cpus:8;mem:8192;disk:1000;ports:[{first}-{}]", first + 99)
}
