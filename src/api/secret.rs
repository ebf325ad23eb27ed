//! Credentials: never in a spec itself, always somewhere that it names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a secret value is kept. Exactly one is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SecretValue {
    /// A key of a Secret in the same namespace, on Kubernetes. It may change at any time.
    SecretRef(SecretRef),
    /// A file that holds it and nothing else, where Microscaler runs without Kubernetes. It may change at any time.
    File(#[schemars(length(min = 1, max = 4096))] String),
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Key of its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// How requests are authenticated. Exactly one is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    /// Authorization: Bearer, with this token.
    Bearer(SecretValue),
    /// HTTP Basic authentication.
    Basic(Basic),
}

/// HTTP Basic authentication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Basic {
    /// Name of the user.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^:\r\n]+$"))]
    pub username: String,
    /// Its password.
    pub password: SecretValue,
}
