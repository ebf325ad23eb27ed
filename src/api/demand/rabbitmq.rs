//! RabbitMQ.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::SecretValue;

/// A queue of a RabbitMQ, asked over AMQP or over the HTTP of its management plugin. AMQP knows the messages that are ready, to the millisecond; HTTP also
/// knows those that are unacknowledged, and rates, but only every 5 s, unless the server says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode != 'MessageRate' || self.host.startsWith('http')")
        .message("MessageRate is told over http only")
        .field_path(".mode"),
    validation = Rule::new("self.mode != 'Consumers' || self.host.startsWith('amqp')")
        .message("Consumers are told over amqp only")
        .field_path(".mode"),
)]
pub struct RabbitMq {
    /// Where it is: amqp://host:5672 or amqps://host:5671; or http://host:15672 or https://host:15671, with the management plugin.
    #[schemars(length(max = 512), regex(pattern = r"^(amqp|http)s?://[^:/?#@ \t\r\n]+:[0-9]{1,5}(/[^?#@ \t\r\n]*)?$"))]
    pub host: String,
    /// The virtual host.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 253))]
    pub vhost_name: String,
    /// The queue. It must exist: it is never declared.
    #[schemars(length(min = 1, max = 253))]
    pub queue_name: String,
    /// What is measured.
    #[serde(default)]
    pub mode: QueueMode,
    /// Over http, messages that were delivered but not acknowledged do not count. Over amqp, they never do.
    #[serde(default)]
    pub exclude_unacknowledged: bool,
    /// Name of the user.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^:\r\n]+$"))]
    pub username: String,
    /// The password.
    pub password: SecretValue,
    #[serde(flatten)]
    pub polling: Polling,
    /// How amqps or https is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// What is measured of a queue. QueueLength: its messages. MessageRate: messages that are published to it, for each second. Consumers: how many
/// there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueueMode {
    #[default]
    QueueLength,
    MessageRate,
    Consumers,
}

fn root() -> String {
    "/".to_owned()
}
