//! Metrics of KEDA's external scalers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tokio::sync::Notify;
use tokio::time::sleep;
use tonic::transport::Channel;

use super::context::Context;
use super::grpc;
use super::link::{Link, Trouble};
use super::poll::{Polled, Query, Rhythm, backed_off, jittered};
use super::tls::Material;
use super::{DemandSource, Gauge};
use crate::api::demand::{Keda, Tls};
use crate::api::validated::Key;
use wire::{GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricValue, ScaledObjectRef};

pub mod wire;

/// A stream that has ended is opened again after this time, which doubles up to 30 s while no message comes.
const REOPEN: Duration = Duration::from_secs(1);

/// A metric of an external scaler, asked and listened to.
pub struct External {
    rhythm: Rhythm,
    scaler: Arc<Scaler>,
}

struct Scaler {
    context: Context,
    address: String,
    tls: Option<Tls>,
    link: Arc<Link<Channel>>,
    /// Whom the scaler is asked for.
    who: ScaledObjectRef,
    named: Option<String>,
    /// The name of the only metric that there is, once it is known.
    only: Mutex<Option<String>>,
    told: Notify,
}

impl External {
    #[must_use]
    pub fn new(context: Context, app: &Key, spec: &Keda) -> Self {
        let Keda { scaler_address, scaler_metadata, metric_name, polling, tls } = spec.clone();
        let link = context.link(&context.servers.grpc, &(&scaler_address, &tls));
        let mut metadata: HashMap<String, String> = scaler_metadata.into_iter().collect();
        // As KEDA does, which passes on all that the trigger says.
        metadata.entry("scalerAddress".to_owned()).or_insert_with(|| scaler_address.clone());
        let (name, namespace) = (app.name().to_owned(), app.namespace().to_owned());
        let who = ScaledObjectRef { name, namespace, scaler_metadata: metadata };
        let (only, told) = (Mutex::default(), Notify::new());
        let scaler = Scaler { context, address: scaler_address, tls, link, who, named: metric_name, only, told };
        Self { rhythm: (&polling).into(), scaler: Arc::new(scaler) }
    }
}

impl DemandSource for External {
    async fn run(self, gauge: Gauge) {
        let Self { rhythm, scaler } = self;
        futures::join!(scaler.listen(), Polled { rhythm, query: scaler.clone() }.run(gauge));
    }
}

impl Query for Arc<Scaler> {
    async fn ask(&self) -> Result<f64, String> {
        let answer = self.over(|channel| self.value(channel)).await;
        if answer.is_err() {
            self.remember(None);
        }
        answer.map_err(|why| format!("external scaler {}: {why}", self.address))
    }

    async fn changed(&self) {
        self.told.notified().await;
    }
}

impl Scaler {
    /// Asks over the shared connection.
    async fn over<T, Asking>(&self, question: impl Fn(Channel) -> Asking) -> Result<T, String>
    where
        Asking: Future<Output = Result<T, Trouble>>,
    {
        let material = match &self.tls {
            Some(tls) => Some(self.context.tls(Some(tls)).await?),
            None => None,
        };
        self.link.ask(&material, || self.connect(material.as_ref()), question).await
    }

    async fn connect(&self, material: Option<&Material>) -> Result<Channel, String> {
        grpc::connect(&self.address, material).await
    }

    async fn value(&self, channel: Channel) -> Result<f64, Trouble> {
        let metric_name = self.metric(&channel).await?;
        let request = GetMetricsRequest { scaled_object_ref: Some(self.who.clone()), metric_name: metric_name.clone() };
        let metrics = self.call(&channel, "GetMetrics", request);
        let active = self.call(&channel, "IsActive", self.who.clone());
        let (GetMetricsResponse { metric_values }, IsActiveResponse { result }) = futures::try_join!(metrics, active)?;
        let value = sum(&metric_values, &metric_name);
        let value = value.ok_or_else(|| Trouble::Answer(format!("GetMetrics: no value of {metric_name}")))?;
        Ok(if result { value } else { 0.0 })
    }

    /// The name of the metric, as the scaler knows it.
    async fn metric(&self, channel: &Channel) -> Result<String, Trouble> {
        let known = || self.only.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(name) = self.named.clone().or_else(known) {
            return Ok(name);
        }
        let GetMetricSpecResponse { metric_specs } = self.call(channel, "GetMetricSpec", self.who.clone()).await?;
        let names: Vec<&str> = metric_specs.iter().map(|spec| spec.metric_name.as_str()).collect();
        match names[..] {
            [name] => {
                self.remember(Some(name.to_owned()));
                Ok(name.to_owned())
            }
            [] => Err(Trouble::Answer("GetMetricSpec: it has no metric".to_owned())),
            _ if self.is_discreet() => {
                Err(Trouble::Answer("GetMetricSpec: it has several metrics: name one by metricName".to_owned()))
            }
            _ => Err(Trouble::Answer(format!(
                "GetMetricSpec: it has several metrics: name one by metricName: {}",
                names.join(", ")
            ))),
        }
    }

    fn remember(&self, name: Option<String>) {
        *self.only.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    async fn call<Q, A>(&self, channel: &Channel, method: &'static str, message: Q) -> Result<A, Trouble>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let answer = wire::call(channel.clone(), method, message).await;
        answer.map_err(|status| grpc::trouble(method, &status, self.is_discreet()))
    }

    fn is_discreet(&self) -> bool {
        self.context.secrets.are_discreet()
    }

    /// Follows `StreamIsActive` for ever. What is wrong with the scaler, the questions find out.
    async fn listen(&self) {
        let mut failures = 0;
        loop {
            // Not while the link waits for it: a stream may answer nothing for hours.
            if let Ok(channel) = self.over(|channel| std::future::ready(Ok(channel))).await
                && let Ok(mut stream) = wire::stream(channel, self.who.clone()).await
            {
                while let Ok(Some(IsActiveResponse { .. })) = stream.message().await {
                    failures = 0;
                    self.told.notify_one();
                }
            }
            failures += 1;
            sleep(jittered(backed_off(REOPEN, failures), fastrand::f64())).await;
        }
    }
}

/// What a metric comes to: an HPA adds up all values of an answer. Where some bear the name that was asked for, it is those.
fn sum(values: &[MetricValue], name: &str) -> Option<f64> {
    let named = values.iter().any(|value| value.metric_name == name);
    let counts = values.iter().filter(|value| !named || value.metric_name == name);
    (!values.is_empty()).then(|| counts.map(MetricValue::value).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, whole: i64, float: f64) -> MetricValue {
        MetricValue { metric_name: name.to_owned(), metric_value: whole, metric_value_float: float }
    }

    #[test]
    #[allow(clippy::float_cmp)]
    fn values_are_read_as_keda_and_its_hpa_read_them() {
        assert_eq!(sum(&[value("a", 3, 0.0)], "a"), Some(3.0));
        assert_eq!(sum(&[value("a", 3, 3.5)], "a"), Some(3.5));
        assert_eq!(sum(&[value("a", 3, 0.0), value("b", 4, 0.0)], "a"), Some(3.0));
        assert_eq!(sum(&[value("x", 3, 0.0), value("y", 4, 0.0)], "a"), Some(7.0));
        assert_eq!(sum(&[], "a"), None);
    }

    /// Bytes as a scaler in Go sends them.
    #[test]
    fn numbers_of_fields_are_those_of_the_protocol() {
        let answer = [0x0a, 0x0e, 0x0a, 1, b'q', 0x10, 7, 0x19, 0, 0, 0, 0, 0, 0, 0x1e, 0x40];
        let metric_values = GetMetricsResponse::decode(&answer[..]).map(|answer| answer.metric_values);
        assert_eq!(metric_values, Ok(vec![value("q", 7, 7.5)]));
        let who = ScaledObjectRef {
            name: "a".to_owned(),
            namespace: "b".to_owned(),
            scaler_metadata: HashMap::from([("k".to_owned(), "v".to_owned())]),
        };
        assert_eq!(who.encode_to_vec(), [0x0a, 1, b'a', 0x12, 1, b'b', 0x1a, 6, 0x0a, 1, b'k', 0x12, 1, b'v']);
    }
}
