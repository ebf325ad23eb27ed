//! Redis, and what speaks as it does.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::SecretValue;

/// Something that is kept in a Redis 6 or later, a Valkey, or what else speaks as they do (RESP3). Exactly one thing is named. Where the server
/// publishes keyspace notifications (notify-keyspace-events), a change is read at once; the polls are for all others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    #[serde(flatten)]
    pub server: RedisServer,
    #[serde(flatten)]
    pub measure: RedisMeasure,
    #[serde(flatten)]
    pub polling: Polling,
}

impl Redis {
    /// None for a channel: nothing is known of its age, however often the connection is tried.
    pub(super) fn polling(&self) -> Option<&Polling> {
        let is_asked = !matches!(self.measure, RedisMeasure::Channel(_));
        is_asked.then_some(&self.polling)
    }
}

/// How a Redis is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisServer {
    /// Addresses, each host:port, tried in this order: of the server, of nodes of a Cluster, or of Sentinels.
    #[schemars(length(min = 1, max = 16), inner(length(max = 261), regex(pattern = r"^[^:/@ \t\r\n]+:[0-9]{1,5}$")))]
    pub addresses: Vec<String>,
    /// Where the addresses are those of Sentinels: which master they are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<Sentinel>,
    /// Name of the user, for servers with ACLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValue>,
    /// Number of the database. A Cluster has only 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 16_383))]
    pub database_index: i64,
    /// How TLS is spoken, with the Sentinels too. Without it, none is; {} trusts what the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Sentinels that know which server is the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sentinel {
    /// Name of the master among the Sentinels.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^ \t\r\n]+$"))]
    pub master: String,
    /// Name of the user for the Sentinels themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// The password for the Sentinels themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValue>,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RedisMeasure {
    /// The length of this list. Redis keeps no empty lists, so one that does not exist is empty.
    ListName(#[schemars(length(min = 1, max = 1024))] String),
    /// A stream: its length, or what a consumer group has yet to do.
    Stream(RedisStream),
    /// How many members a sorted set has. Redis keeps no empty sets, so one that does not exist is empty.
    SortedSet(RedisSortedSet),
    /// A number in a hash.
    Hash(RedisHash),
    /// A number under this key.
    Key(#[schemars(length(min = 1, max = 1024))] String),
    /// A channel of PUBLISH whose messages are numbers. There is no value before the first message. Polls only see to the connection.
    Channel(#[schemars(length(min = 1, max = 1024))] String),
}

/// A stream: its length, or what a consumer group has yet to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.entries) || has(self.consumerGroup)").message("entries are those of a consumerGroup"))]
pub struct RedisStream {
    /// Its key.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// The consumer group. Without one, all entries of the stream count (XLEN), and a stream that does not exist is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub consumer_group: Option<String>,
    /// Which entries of the group count. Default: Unacknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<GroupEntries>,
}

/// Entries of a consumer group. Pending: delivered to a consumer, but not acknowledged. Lag: not delivered yet (Redis 7 or later).
/// Unacknowledged: both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GroupEntries {
    Pending,
    Lag,
    #[default]
    Unacknowledged,
}

/// How many members a sorted set has, all or those within these scores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSortedSet {
    /// Its key.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// The least score that counts, as ZCOUNT takes it: "5", "(5" for more than 5. Default: -inf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = r"^\(?[-+]?(inf|[0-9]+(\.[0-9]+)?)$"))]
    pub min_score: Option<String>,
    /// The greatest score that counts. Default: +inf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = r"^\(?[-+]?(inf|[0-9]+(\.[0-9]+)?)$"))]
    pub max_score: Option<String>,
}

/// A number in a hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisHash {
    /// Its key.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// The field that holds the number.
    #[schemars(length(min = 1, max = 1024))]
    pub field: String,
}
