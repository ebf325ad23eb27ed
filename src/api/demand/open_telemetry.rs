//! Metrics of OpenTelemetry.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A metric that programs or a collector push in OpenTelemetry's protocol (OTLP): to /v1/metrics, as protobuf or JSON over HTTP, or over
/// gRPC where that is switched on (--otlp-grpc-listen). Who may push, the push token says. Gauges and sums count, histograms do not.
/// What one process sends has to be told apart from what another does by some attribute, such as service.instance.id.
///
/// Nothing is said before a series has come twice (with rate, three times), as until then not all of them may have been heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenTelemetry {
    /// Name of the instrument.
    #[schemars(length(min = 1, max = 255))]
    pub metric_name: String,
    /// What points must have, be it of their own or of their resource: queue: orders, service.name: shop. Values are compared as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "attributes")]
    pub attributes: BTreeMap<String, String>,
    /// What the series that match come to: their Sum, their Max or their average (Avg).
    #[serde(default)]
    pub aggregate: Aggregate,
    /// What a sum grows by in a second. A counter is of use only so.
    #[serde(default)]
    pub rate: bool,
    /// A series that has not come for this long does not count any more. Default: two and a half times the minute after which SDKs send.
    #[serde(default = "expiry")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub expire_milliseconds: i64,
}

/// What several series come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Aggregate {
    #[default]
    Sum,
    Max,
    Avg,
}

fn expiry() -> i64 {
    150_000
}

fn attributes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}
