//! What a replica's container is made of: image, volumes, and how it is launched.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How replicas are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Launch {
    /// Each replica has a container of its own, which Mesos makes when it starts.
    #[default]
    Isolated,
    /// Replicas start in milliseconds, as processes of an executor that runs already: one on each agent for all apps of the same
    /// namespace, user, image and volumes.
    Pooled,
}

/// What runs an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Containerizer {
    /// Mesos itself: no daemon is needed on the agents.
    #[default]
    Mesos,
    /// The Docker daemon of each agent.
    Docker,
}

/// A directory of the host in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// The directory or file on the host.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^/"))]
    pub host_path: String,
    /// Where the container sees it.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^/"))]
    pub mount_path: String,
    /// The container may not write there.
    #[serde(default)]
    pub read_only: bool,
}
