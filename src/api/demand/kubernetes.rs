//! The metrics APIs of Kubernetes; the names are those of HPA.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Polling;

/// A metric of the app's own namespace that Kubernetes serves, whoever measures it there: KEDA, an adapter for Prometheus, and the like.
/// Those may ask its origin each time that they are asked, so poll as often as that may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kubernetes {
    #[serde(flatten)]
    pub metric: KubernetesMetric,
    #[serde(flatten)]
    pub polling: Polling,
}

/// Which metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KubernetesMetric {
    /// A metric of something outside of Kubernetes (external.metrics.k8s.io), as KEDA serves one for each trigger. Values add up.
    External(ExternalMetric),
    /// A metric of one object (custom.metrics.k8s.io).
    Object(ObjectMetric),
    /// A metric of pods (custom.metrics.k8s.io). Values add up.
    Pods(PodsMetric),
}

/// A metric of something outside of Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalMetric {
    /// Name of the metric, such as s0-rabbitmq-orders.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/%?# \t\r\n]+$"))]
    pub metric_name: String,
    /// Only values with these labels, as for kubectl -l. KEDA wants scaledobject.keda.sh/name=NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub selector: Option<String>,
}

/// A metric of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMetric {
    /// Name of the metric.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/%?# \t\r\n]+$"))]
    pub metric_name: String,
    /// Only values with these labels, as for kubectl -l: verb=GET,tier in (a,b).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub selector: Option<String>,
    /// The object, in the app's own namespace.
    pub described_object: DescribedObject,
}

/// A metric of pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodsMetric {
    /// Name of the metric.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/%?# \t\r\n]+$"))]
    pub metric_name: String,
    /// Only values with these labels, as for kubectl -l: verb=GET,tier in (a,b).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub selector: Option<String>,
    /// Only pods with these labels: app=front. Default: all of the app's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub pod_selector: Option<String>,
}

/// An object of Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DescribedObject {
    /// Group and version of its kind, such as networking.k8s.io/v1.
    #[serde(default = "core")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?v[a-z0-9]+$"))]
    pub api_version: String,
    /// Its kind, such as Service.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/%?# \t\r\n]+$"))]
    pub name: String,
}

fn core() -> String {
    "v1".to_owned()
}
