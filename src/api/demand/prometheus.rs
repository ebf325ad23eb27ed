//! A query to a Prometheus.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::Auth;

/// The value of a query to a Prometheus, or to what speaks its API: Thanos, Mimir, VictoriaMetrics. Values are as old as the last scrape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Address of the server, with the path that its API is under, if any: http://prometheus:9090.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#@ \t\r\n]+(/[^?#@ \t\r\n]*)?$"))]
    pub server_address: String,
    /// Query (PromQL) that gives one number: a scalar, or a vector of one element. Several elements are a failure: use sum() or max().
    #[schemars(length(min = 1, max = 8192))]
    pub query: String,
    /// Take an empty result, NaN and infinity for 0. Default: false, and they are failures, as a lost target is not the end of demand.
    #[serde(default)]
    pub ignore_null_values: bool,
    /// Headers of each request, such as X-Scope-OrgID. They are no place for credentials: see auth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub custom_headers: Vec<NamedText>,
    /// Parameters of each request besides the query, such as partial_response.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub query_parameters: Vec<NamedText>,
    #[serde(flatten)]
    pub polling: Polling,
    /// How to authenticate. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How https is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// A header or a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamedText {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 4096), regex(pattern = r"^[^\r\n]*$"))]
    pub value: String,
}
