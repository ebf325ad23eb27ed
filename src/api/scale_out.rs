//! What becomes of it when a pool is too small for what is wanted: who is told, so that hosts can be added.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::demand::Tls;
use super::secret::Auth;

/// What is told when the pool is too small for what is wanted, and to whom: to whatever can add hosts, and take them away again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.webhook) && has(self.command))").message("name webhook or command, not both"))]
pub struct ScaleOut {
    /// Only what apps of this priority lack counts, and more important ones. Default: what any app lacks. Spare room is never lacked.
    #[serde(default = "any_priority")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub priority: i32,

    /// How long the pool has to be too small, or large enough again, before that is told. Default: 5000.
    #[serde(default = "five_seconds")]
    #[schemars(range(min = 0, max = 3_600_000))]
    pub after_milliseconds: i64,

    /// How often it is told again while the pool stays too small. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub repeat_seconds: Option<i64>,

    /// An agent that has run no replica for so long counts as idle. Default: 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 604_800))]
    pub idle_seconds: i64,

    /// Is sent a JSON document when the pool becomes too small, lacks more or less, or is large enough again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,

    /// A program and its arguments: it is run instead, with that document on its standard input. Only where Microscaler runs without
    /// Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Option<Vec<String>>,
}

/// Where the document is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Address that takes the POST, http or https. Any status from 200 to 299 means that it was understood.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?# \t\r\n]+([/?#][^ \t\r\n]*)?$"))]
    pub url: String,
    /// How to authenticate. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How https is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Default for ScaleOut {
    fn default() -> Self {
        Self {
            priority: any_priority(),
            after_milliseconds: five_seconds(),
            repeat_seconds: None,
            idle_seconds: five_minutes(),
            webhook: None,
            command: None,
        }
    }
}

fn any_priority() -> i32 {
    1_000_000
}

fn five_seconds() -> i64 {
    5000
}

fn five_minutes() -> i64 {
    300
}
