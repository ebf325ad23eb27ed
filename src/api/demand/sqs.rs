//! A queue of Amazon SQS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::SecretValue;

/// How many messages wait in a queue of Amazon SQS, or of a server that speaks its protocol in JSON. They are approximate, as SQS says;
/// each poll is a request that SQS counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sqs {
    /// Address of the queue, such as <https://sqs.eu-west-1.amazonaws.com/123456789012/orders>.
    #[serde(rename = "queueURL")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#@ \t\r\n]+(/[^?#@ \t\r\n]*)?$"))]
    pub queue_url: String,
    /// Region that the queue is in, such as eu-west-1.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub aws_region: String,
    /// Address of the server. Default: the server of queueURL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#@ \t\r\n]+(/[^?#@ \t\r\n]*)?$"))]
    pub aws_endpoint: Option<String>,
    /// Count messages that have been received and not yet deleted, too, as they are still being worked on. Default: true.
    #[serde(default = "yes")]
    pub scale_on_in_flight: bool,
    /// Count messages that are not to be received yet, too. Default: false.
    #[serde(default)]
    pub scale_on_delayed: bool,
    #[serde(flatten)]
    pub polling: Polling,
    /// Id of the access key. It has to allow sqs:GetQueueAttributes.
    #[serde(rename = "awsAccessKeyID")]
    pub aws_access_key_id: SecretValue,
    /// The secret of the access key.
    pub aws_secret_access_key: SecretValue,
    /// Session token, where the access key is a temporary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_session_token: Option<SecretValue>,
    /// How https is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

fn yes() -> bool {
    true
}
