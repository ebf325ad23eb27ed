//! External scalers of KEDA; the names are those of KEDA's external trigger.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};

/// A metric of an external scaler: a program that speaks KEDA's gRPC protocol (externalscaler.ExternalScaler). Its value is what GetMetrics
/// answers while IsActive is true, and 0 while it is not. Where the scaler implements StreamIsActive, each message of that stream has it
/// asked at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keda {
    /// Where the scaler listens: host:port.
    #[schemars(length(min = 3, max = 300), regex(pattern = r"^[^ \t\r\n]+$"))]
    pub scaler_address: String,
    /// What the scaler is told of the metric; which names there are is its own affair.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "metadata")]
    pub scaler_metadata: BTreeMap<String, String>,
    /// Name of the metric, if GetMetricSpec tells of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub metric_name: Option<String>,
    #[serde(flatten)]
    pub polling: Polling,
    /// How TLS is spoken. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

fn metadata(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 4096},
    })
}
