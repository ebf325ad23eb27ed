//! How a value becomes replicas.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::quantity::Quantity;

/// How a value becomes replicas, as in HPA v2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.averageValue)")
    .message("name exactly one of value and averageValue"))]
pub struct Target {
    /// Keep the metric itself at this value: the replica count is scaled by value / target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::quantity::positive")]
    pub value: Option<Quantity>,
    /// One replica per this much of the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::quantity::positive")]
    pub average_value: Option<Quantity>,
}
