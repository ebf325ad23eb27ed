//! NSQ; the names are those of KEDA's scaler `nsq`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};

/// How many messages wait in a channel of NSQ, on all nsqd together: in memory and on disk, but not those in flight. Where a nsqd has the
/// topic and not yet the channel, the depth of the topic counts, so that the first consumer is started. A paused channel counts as empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.nsqLookupdHTTPAddresses) || has(self.nsqdHTTPAddresses)")
    .message("name nsqLookupdHTTPAddresses, nsqdHTTPAddresses, or both"))]
pub struct Nsq {
    /// HOST:PORT of each nsqlookupd; they tell which nsqd have the topic.
    #[serde(default, rename = "nsqLookupdHTTPAddresses", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(max = 262), regex(pattern = r"^[^/?#@ \t\r\n]+:[0-9]{1,5}$")))]
    pub lookupds: Vec<String>,
    /// HOST:PORT of each nsqd that is asked whatever nsqlookupd says.
    #[serde(default, rename = "nsqdHTTPAddresses", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 262), regex(pattern = r"^[^/?#@ \t\r\n]+:[0-9]{1,5}$")))]
    pub nsqds: Vec<String>,
    /// Name of the topic.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[.a-zA-Z0-9_-]+(#ephemeral)?$"))]
    pub topic: String,
    /// Name of the channel.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[.a-zA-Z0-9_-]+(#ephemeral)?$"))]
    pub channel: String,
    /// Speak https with all of them.
    #[serde(default)]
    pub use_https: bool,
    #[serde(flatten)]
    pub polling: Polling,
    /// How https is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}
