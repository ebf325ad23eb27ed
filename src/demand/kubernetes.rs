//! A metric that the API server passes on from whoever serves the External or the Custom Metrics API, such as KEDA.
//!
//! What is asked is what HPA asks: <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>. Versions before v1beta2 of
//! the Custom Metrics API tell values in the same way.

use std::sync::Arc;

use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::context::Context;
use super::poll::Query;
use crate::api::demand::{DescribedObject, Kubernetes, KubernetesMetric};
use crate::kubernetes::causes;

mod quantity;

use quantity::number;

const EXTERNAL: &str = "external.metrics.k8s.io";
const CUSTOM: &str = "custom.metrics.k8s.io";

/// A metric of the app's own namespace.
pub struct ServedMetric {
    client: Client,
    namespace: Arc<str>,
    metric: KubernetesMetric,
    /// What the described object's kind is called in addresses: `ingresses.networking.k8s.io`.
    resource: OnceCell<String>,
}

/// Of either API: an `ExternalMetricValueList` or a `MetricValueList`.
#[derive(Deserialize)]
struct Values {
    items: Vec<Value>,
}

#[derive(Deserialize)]
struct Value {
    value: String,
}

/// Why a question was not answered.
enum Failed {
    /// Nothing is there, or nobody serves that version.
    Missing(Box<str>),
    Other(String),
}

impl ServedMetric {
    /// # Errors
    /// In words, without Kubernetes.
    pub fn new(context: Context, spec: &Kubernetes) -> Result<Self, String> {
        let client =
            context.kubernetes.ok_or("there are no metrics of Kubernetes without Kubernetes: run `microscaler operator`")?;
        let metric = spec.metric.clone();
        Ok(Self { client, namespace: context.namespace, metric, resource: OnceCell::new() })
    }

    async fn external(&self, name: &str, selector: Option<&str>) -> Result<Vec<Value>, String> {
        let path = address(EXTERNAL, "v1beta1", &self.namespace, &[name], &[("labelSelector", selector)])?;
        self.get(&path, EXTERNAL).await.map_err(|failed| self.in_words(failed, name, EXTERNAL))
    }

    /// `of` are the parts of the address that tell whose metric it is.
    async fn custom(&self, of: &[&str], name: &str, selectors: &[(&str, Option<&str>)]) -> Result<Vec<Value>, String> {
        let parts = [of, &[name]].concat();
        let mut last = Failed::Missing("".into());
        for version in ["v1beta2", "v1beta1"] {
            let path = address(CUSTOM, version, &self.namespace, &parts, selectors)?;
            match self.get(&path, CUSTOM).await {
                Err(Failed::Missing(why)) => last = Failed::Missing(why),
                answer => return answer.map_err(|failed| self.in_words(failed, name, CUSTOM)),
            }
        }
        Err(self.in_words(last, name, CUSTOM))
    }

    async fn get(&self, path: &str, api: &str) -> Result<Vec<Value>, Failed> {
        let request = axum::http::Request::get(path).body(Body::empty()).map_err(|error| Failed::Other(error.to_string()))?;
        let read = async {
            let response = self.client.send(request).await?;
            let status = response.status().as_u16();
            Ok::<_, kube::Error>((status, response.into_body().collect_bytes().await?))
        };
        let (status, body) =
            read.await.map_err(|error| Failed::Other(format!("the API server does not answer: {}", causes(&error))))?;
        match status {
            200 => serde_json::from_slice::<Values>(&body).map(|values| values.items).map_err(|error| {
                Failed::Other(format!("{api} answers no list of values: line {} column {}", error.line(), error.column()))
            }),
            404 => Err(Failed::Missing(String::from_utf8_lossy(&body).into())),
            403 => Err(Failed::Other(format!(
                "Microscaler may not read {api}: let its ServiceAccount get and list it (rbac.metrics of the chart)"
            ))),
            400 => Err(Failed::Other(format!("{api} does not understand the question: look at the selectors"))),
            // Whose words these are, nobody knows: they are not for all who may read a status.
            status => Err(Failed::Other(format!("{api} answers with status {status}: see the log of whoever serves it"))),
        }
    }

    fn in_words(&self, failed: Failed, name: &str, api: &str) -> String {
        match failed {
            Failed::Other(why) => why,
            // The API server's own words, where no APIService is registered.
            Failed::Missing(why) if why.trim() == "404 page not found" => {
                format!("nobody serves {api} here: install what measures the metric, such as KEDA or an adapter for Prometheus")
            }
            Failed::Missing(_) => {
                format!("{api} has no metric {name} in namespace {}: look at its name, and whose it is", self.namespace)
            }
        }
    }

    /// The resource of the object's kind, looked up once.
    async fn resource(&self, object: &DescribedObject) -> Result<&str, String> {
        let DescribedObject { api_version, kind, .. } = object;
        let look_up = async || {
            let (group, resources) = match api_version.split_once('/') {
                Some((group, _)) => (format!(".{group}"), self.client.list_api_group_resources(api_version).await),
                None => (String::new(), self.client.list_core_api_resources(api_version).await),
            };
            let resources = resources.map_err(|error| format!("describedObject: {api_version}: {}", causes(&error)))?.resources;
            let found = resources.into_iter().find(|resource| resource.kind == *kind && !resource.name.contains('/'));
            match found {
                Some(found) if found.namespaced => Ok(format!("{}{group}", found.name)),
                Some(_) => {
                    Err(format!("describedObject: a {kind} is in no namespace, and only objects of the app's own are read"))
                }
                None => Err(format!("describedObject: there is no kind {kind} in {api_version}")),
            }
        };
        self.resource.get_or_try_init(look_up).await.map(String::as_str)
    }
}

impl Query for ServedMetric {
    async fn ask(&self) -> Result<f64, String> {
        let (name, values) = match &self.metric {
            KubernetesMetric::External(metric) => {
                (&metric.metric_name, self.external(&metric.metric_name, metric.selector.as_deref()).await?)
            }
            KubernetesMetric::Object(metric) => {
                let (resource, name) = (self.resource(&metric.described_object).await?, &*metric.described_object.name);
                let selectors = [("metricstr", metric.selector.as_deref())];
                let values = self.custom(&[resource, name], &metric.metric_name, &selectors).await?;
                if values.len() > 1 {
                    return Err(format!(
                        "metric {} of {resource} {name}: {} values, where one is meant",
                        metric.metric_name,
                        values.len()
                    ));
                }
                (&metric.metric_name, values)
            }
            KubernetesMetric::Pods(metric) => {
                let selectors = [("labelSelector", metric.pod_selector.as_deref()), ("metricstr", metric.selector.as_deref())];
                (&metric.metric_name, self.custom(&["pods", "*"], &metric.metric_name, &selectors).await?)
            }
        };
        sum(name, &values)
    }
}

/// All values together.
fn sum(name: &str, values: &[Value]) -> Result<f64, String> {
    if values.is_empty() {
        return Err(format!("metric {name} has no values now: look at its selectors"));
    }
    values.iter().map(|value| number(&value.value).ok_or_else(|| format!("metric {name}: its value is no quantity"))).sum()
}

/// The path of a metric in a namespace.
fn address(
    api: &str,
    version: &str,
    namespace: &str,
    parts: &[&str],
    selectors: &[(&str, Option<&str>)],
) -> Result<String, String> {
    let mut url = Url::parse("http://api").map_err(|error| error.to_string())?;
    let start = ["apis", api, version, "namespaces", namespace];
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend(start.iter().chain(parts));
    }
    for (parameter, selector) in selectors.iter().filter_map(|(parameter, selector)| Some((parameter, (*selector)?))) {
        url.query_pairs_mut().append_pair(parameter, selector);
    }
    Ok(url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn values(of: &[&str]) -> Vec<Value> {
        of.iter().map(|&value| Value { value: value.to_owned() }).collect()
    }

    #[test]
    fn values_add_up_and_none_is_a_failure() {
        assert_eq!(sum("m", &values(&["1500m", "2k"])), Ok(2001.5));
        assert_eq!(sum("m", &[]), Err("metric m has no values now: look at its selectors".to_owned()));
        assert_eq!(sum("m", &values(&["1", "many"])), Err("metric m: its value is no quantity".to_owned()));
    }

    #[test]
    fn addresses_are_those_that_hpa_asks() {
        let labels = "scaledobject.keda.sh/name=orders,tier notin (a,b)";
        let external = address(EXTERNAL, "v1beta1", "shop", &["s0-rabbitmq-orders"], &[("labelSelector", Some(labels))]);
        let labels = "scaledobject.keda.sh%2Fname%3Dorders%2Ctier+notin+%28a%2Cb%29";
        let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/s0-rabbitmq-orders";
        assert_eq!(external, Ok(format!("{path}?labelSelector={labels}")));
        let pods = address(CUSTOM, "v1beta2", "shop", &["pods", "*", "rps"], &[("labelSelector", None)]);
        assert_eq!(pods.unwrap(), "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/rps");
    }
}
