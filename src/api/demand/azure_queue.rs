//! A queue of Azure Storage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::SecretValue;

/// How many messages are in a queue of Azure Storage. They are approximate, as Azure says, and never fewer than there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureQueue {
    /// Name of the queue.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub queue_name: String,
    /// Connection string of the storage account, with its AccountKey or a SharedAccessSignature that allows to read queues.
    pub connection: SecretValue,
    /// What is counted: all (the default), or only visible messages.
    #[serde(default)]
    pub queue_length_strategy: QueueLengthStrategy,
    #[serde(flatten)]
    pub polling: Polling,
    /// How https is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Which messages of a queue are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueLengthStrategy {
    /// All of them, also those that somebody works on.
    #[default]
    All,
    /// Those that could be taken now. Azure shows 32 at most: where there are as many, all are counted. Each poll fetches them.
    VisibleOnly,
}
