//! A JSON document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::Auth;

/// A number inside a JSON document that is polled over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Address of the document, http or https.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?# \t\r\n]+([/?#][^ \t\r\n]*)?$"))]
    pub url: String,
    /// JSON pointer (RFC 6901) to the number, such as /queues/0/depth. Empty: the document is the number.
    #[serde(default)]
    #[schemars(length(max = 1024), regex(pattern = r"^(/.*)?$"))]
    pub pointer: String,
    #[serde(flatten)]
    pub polling: Polling,
    /// How to authenticate. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How https is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}
