//! NATS JetStream.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::SecretValue;

/// What a consumer of a JetStream stream has yet to do: messages that were not delivered to it, and those it has not acknowledged. The account
/// is that of the credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.username) == has(self.password)").message("username and password are given together"),
    validation = Rule::new("[has(self.password), has(self.token), has(self.nkeySeed), has(self.credentials)].filter(x, x).size() <= 1")
        .message("name one of password, token, nkeySeed and credentials"),
)]
pub struct Nats {
    /// Addresses of the servers, each nats://host:4222, or tls:// where TLS is a must.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 512), regex(pattern = r"^(nats|tls)://[^:/?#@ \t\r\n]+:[0-9]{1,5}$"))
    )]
    pub servers: Vec<String>,
    /// Name of the stream.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^ \t\r\n.*>/\\]+$"))]
    pub stream: String,
    /// Name of its consumer.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^ \t\r\n.*>/\\]+$"))]
    pub consumer: String,
    /// The JetStream domain, as in leaf nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^ \t\r\n.*>/\\]+$"))]
    pub domain: Option<String>,
    /// Name of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValue>,
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretValue>,
    /// The seed of an NKey (SU…).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nkey_seed: Option<SecretValue>,
    /// The text of a credentials file (.creds), with JWT and seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretValue>,
    #[serde(flatten)]
    pub polling: Polling,
    /// How TLS is spoken, where the server wants it or the address says so. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}
