//! The protocol of KEDA's external scalers: messages by their documented numbers, and calls by their documented names.

use std::collections::HashMap;

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// Whom a scaler is asked for.
#[derive(Clone, PartialEq, Message)]
pub struct ScaledObjectRef {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(map = "string, string", tag = "3")]
    pub scaler_metadata: HashMap<String, String>,
}

/// The answer to `IsActive`, and each message of `StreamIsActive`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IsActiveResponse {
    #[prost(bool, tag = "1")]
    pub result: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetMetricSpecResponse {
    #[prost(message, repeated, tag = "1")]
    pub metric_specs: Vec<MetricSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub struct MetricSpec {
    #[prost(string, tag = "1")]
    pub metric_name: String,
    /// Deprecated by the next one.
    #[prost(int64, tag = "2")]
    pub target_size: i64,
    #[prost(double, tag = "3")]
    pub target_size_float: f64,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetMetricsRequest {
    #[prost(message, optional, tag = "1")]
    pub scaled_object_ref: Option<ScaledObjectRef>,
    #[prost(string, tag = "2")]
    pub metric_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetMetricsResponse {
    #[prost(message, repeated, tag = "1")]
    pub metric_values: Vec<MetricValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct MetricValue {
    #[prost(string, tag = "1")]
    pub metric_name: String,
    /// Deprecated by the next one.
    #[prost(int64, tag = "2")]
    pub metric_value: i64,
    #[prost(double, tag = "3")]
    pub metric_value_float: f64,
}

impl MetricValue {
    /// Whole numbers count where the other is not set.
    #[must_use]
    #[allow(clippy::cast_precision_loss, clippy::float_cmp, reason = "exactly 0 is what is not set")]
    pub fn value(&self) -> f64 {
        if self.metric_value_float == 0.0 { self.metric_value as f64 } else { self.metric_value_float }
    }
}

/// Calls with one answer.
///
/// # Errors
/// As the server says, or as the connection breaks.
pub async fn call<Q, A>(channel: Channel, method: &'static str, message: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut client = ready(channel).await?;
    let answer = client.unary(Request::new(message), path(method)?, ProstCodec::<Q, A>::default()).await;
    Ok(answer?.into_inner())
}

/// Opens the stream of `StreamIsActive`. Some servers answer nothing before the first message.
///
/// # Errors
/// As for [`call`].
pub async fn stream(channel: Channel, message: ScaledObjectRef) -> Result<Streaming<IsActiveResponse>, Status> {
    let mut client = ready(channel).await?;
    let codec = ProstCodec::<ScaledObjectRef, IsActiveResponse>::default();
    Ok(client.server_streaming(Request::new(message), path("StreamIsActive")?, codec).await?.into_inner())
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    Ok(client)
}

fn path(method: &str) -> Result<PathAndQuery, Status> {
    format!("/externalscaler.ExternalScaler/{method}").parse().map_err(|_| Status::internal("no method"))
}
