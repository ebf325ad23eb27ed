//! A consumer group of Apache Kafka.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::SecretValue;

/// The lag of a consumer group of Apache Kafka: how many messages are there that it has not committed yet, over all partitions.
/// More replicas than partitions have nothing to do, so maxReplicas should be their number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// Brokers to begin with, as HOST:PORT, with commas between them; the others are learnt from these.
    #[schemars(
        length(min = 1, max = 2048),
        regex(
            pattern = r"^(\[[0-9a-fA-F:.]+\]|[^\[\]:,/ \t\r\n]+):[0-9]{1,5}(,(\[[0-9a-fA-F:.]+\]|[^\[\]:,/ \t\r\n]+):[0-9]{1,5})*$"
        )
    )]
    pub bootstrap_servers: String,
    /// The consumer group whose lag is measured.
    #[schemars(length(min = 1, max = 255))]
    pub consumer_group: String,
    /// The topic that it consumes. Default: all topics for which it has committed anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub topic: Option<String>,
    /// Where the consumers begin in a partition for which they have not committed anything.
    #[serde(default)]
    pub offset_reset_policy: OffsetResetPolicy,
    /// A partition without a committed offset counts nothing. Otherwise, it counts 1 if consumers begin at its latest message, as they
    /// have to run before they can commit anything, and all its messages if they begin at its earliest.
    #[serde(default)]
    pub scale_to_zero_on_invalid_offset: bool,
    #[serde(flatten)]
    pub polling: Polling,
    /// How to authenticate. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// How TLS is spoken; {} speaks it with the certificates that the system trusts. Default: without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Where consumers begin that have not committed anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OffsetResetPolicy {
    #[default]
    Latest,
    Earliest,
}

/// A user of the brokers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// How the password is proven: plaintext shows it to the broker, and to whoever is on the way if there is no TLS.
    pub mechanism: SaslMechanism,
    /// Name of the user.
    pub username: SecretValue,
    /// Its password.
    pub password: SecretValue,
}

/// A mechanism of SASL, by KEDA's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaslMechanism {
    Plaintext,
    #[serde(rename = "scram_sha256")]
    ScramSha256,
    #[serde(rename = "scram_sha512")]
    ScramSha512,
}
