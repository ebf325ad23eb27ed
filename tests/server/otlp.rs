//! Metrics of OpenTelemetry, sent by its official SDK, and what no SDK sends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use microscaler::api::validated::App;
use microscaler::demand::Sources;
use microscaler::policy::world::Reading;
use microscaler::server::otlp_grpc::serve_grpc;
use microscaler::store::secrets::Secrets;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_otlp::{
    Compression, MetricExporter, Protocol, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request};

use super::fixture::{Fixture, PATIENCE};

/// A server with an app of one metric. Sources register themselves as soon as they run.
pub async fn with_metric(fixture: &Fixture, spec: Value) -> Sources {
    let app = json!({
        "apiVersion": "microscaling.dev/v1alpha1",
        "kind": "MicroscaledApp",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {
            "demand": [{"name": "m", "openTelemetry": spec, "target": {"averageValue": 10}}],
            "template": {"resources": {"cpu": "100m", "memory": "32Mi"}, "command": ["/bin/true"]},
        },
    });
    let app = App::read(&serde_json::from_value(app).unwrap()).unwrap();
    let mut sources = Sources::new(fixture.board.clone(), fixture.state.desk.clone(), Arc::new(Secrets::in_files()));
    sources.sync(&[Arc::new(app)]);
    tokio::task::yield_now().await;
    sources
}

/// What is new of that metric.
pub fn told(fixture: &Fixture) -> Option<Reading> {
    let updates = fixture.board.take().into_iter();
    updates.filter(|update| update.app.name() == "orders").map(|update| update.reading).next_back()
}

pub fn value(fixture: &Fixture) -> Option<f64> {
    told(fixture)?.value.map(|(value, _)| value)
}

/// The gRPC port of the server, which ends with what comes with it.
pub async fn grpc(fixture: &Fixture) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(serve_grpc(listener, fixture.state.clone(), async { drop(stopped.await) }));
    (address, stop)
}

/// A gauge, or another kind of data, of one point.
pub fn request(name: &str, data: Value) -> Value {
    let mut metric = json!({"name": name});
    metric.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
    json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeMetrics": [{"scope": {"name": "test"}, "metrics": [metric]}],
    }]})
}

pub fn gauge(value: Value) -> Value {
    json!({"gauge": {"dataPoints": [{"timeUnixNano": "1700000000000000000", "asDouble": value,
        "attributes": [{"key": "queue", "value": {"stringValue": "orders"}}]}]}})
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Protobuf,
    Json,
    Grpc,
}

fn exporter(way: Way, url: &str, token: &str) -> MetricExporter {
    let bearer = format!("Bearer {token}");
    let over_http = |protocol| {
        let exporter = MetricExporter::builder().with_http().with_endpoint(format!("{url}/v1/metrics")).with_protocol(protocol);
        let headers = HashMap::from([("authorization".to_owned(), bearer.clone())]);
        exporter.with_headers(headers).with_compression(Compression::Gzip).build().unwrap()
    };
    match way {
        Way::Protobuf => over_http(Protocol::HttpBinary),
        Way::Json => over_http(Protocol::HttpJson),
        Way::Grpc => {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", bearer.parse().unwrap());
            let exporter = MetricExporter::builder().with_tonic().with_endpoint(url).with_metadata(metadata);
            exporter.with_compression(Compression::Gzip).build().unwrap()
        }
    }
}

/// Sends so many times, as a program does that uses the SDK: a gauge, a counter and a histogram. Whether the last of it was taken; and what
/// sends once more when it is dropped.
fn send(way: Way, url: &str, token: &str, times: u64) -> (bool, SdkMeterProvider) {
    let reader = PeriodicReader::builder(exporter(way, url, token)).with_interval(Duration::from_hours(1)).build();
    let resource = Resource::builder().with_attribute(KeyValue::new("service.instance.id", "one")).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
    let meter = provider.meter("shop");
    let (waiting, served) = (meter.f64_gauge("orders.waiting").build(), meter.u64_counter("orders.served").build());
    let took = meter.f64_histogram("orders.took").build();
    let queue = |name: &'static str| [KeyValue::new("queue", name)];
    let flushed = (1..=times).map(|_| {
        waiting.record(42.0, &queue("orders"));
        waiting.record(1000.0, &queue("other"));
        served.add(7, &queue("orders"));
        took.record(0.5, &[]);
        provider.force_flush().is_ok()
    });
    (flushed.fold(false, |_, taken| taken), provider)
}

/// Whether that was taken, and what had been told by then.
async fn sent(way: Way, fixture: &Fixture, token: &'static str, times: u64) -> (bool, Option<f64>) {
    let (address, _stop) = grpc(fixture).await;
    let url = if matches!(way, Way::Grpc) { format!("http://{address}") } else { fixture.url.clone() };
    let (taken, provider) = tokio::task::spawn_blocking(move || send(way, &url, token, times)).await.unwrap();
    let value = value(fixture);
    tokio::task::spawn_blocking(move || drop(provider)).await.unwrap();
    (taken, value)
}

#[tokio::test]
async fn what_the_sdk_sends_reaches_the_board() {
    for way in [Way::Protobuf, Way::Json, Way::Grpc] {
        let fixture = Fixture::new(Some("secret")).await;
        let attributes = json!({"queue": "orders", "service.instance.id": "one"});
        let sources = with_metric(&fixture, json!({"metricName": "orders.waiting", "attributes": attributes})).await;
        assert_eq!(sent(way, &fixture, "secret", 2).await, (true, Some(42.0)), "{way:?}");
        drop(sources);
        let _sources = with_metric(&fixture, json!({"metricName": "orders.served", "rate": true})).await;
        let (taken, growth) = sent(way, &fixture, "secret", 3).await;
        assert!(taken && growth.is_some_and(|growth| growth > 0.0), "{way:?}: seven orders were served in some time: {growth:?}");
        fixture.board.take().clear();
        assert_eq!(sent(way, &fixture, "other", 3).await, (false, None), "{way:?}: with another token");
    }
}

#[tokio::test]
async fn a_restarted_sender_goes_on() {
    let fixture = Fixture::new(Some("secret")).await;
    let _sources = with_metric(&fixture, json!({"metricName": "orders.waiting"})).await;
    assert_eq!(sent(Way::Protobuf, &fixture, "secret", 1).await, (true, None), "others may be to come");
    assert_eq!(sent(Way::Json, &fixture, "secret", 1).await, (true, Some(1042.0)), "the same series, sent otherwise");
}

async fn post(fixture: &Fixture, media_type: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
    let request = fixture.client.post(format!("{}/v1/metrics", fixture.url)).header("content-type", media_type).body(body);
    let response = request.send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.bytes().await.unwrap().to_vec())
}

async fn post_json(fixture: &Fixture, body: &Value) -> (u16, Value) {
    let (status, _, body) = post(fixture, "application/json; charset=utf-8", body.to_string().into_bytes()).await;
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn only_what_is_wanted_and_of_no_use_is_refused() {
    let fixture = Fixture::new(None).await;
    let _sources = with_metric(&fixture, json!({"metricName": "waiting"})).await;
    let accepted = json!({ "partialSuccess": null });
    let other = request("other", json!({"histogram": {"dataPoints": [{"count": "1"}], "aggregationTemporality": 2}}));
    assert_eq!(post_json(&fixture, &other).await, (200, accepted.clone()), "nobody wants it");
    assert_eq!(post_json(&fixture, &request("waiting", gauge(json!(3.5)))).await, (200, accepted.clone()));
    assert_eq!(post_json(&fixture, &request("waiting", gauge(json!(4.5)))).await, (200, accepted));
    assert_eq!(value(&fixture), Some(4.5));

    let points = json!([{"timeUnixNano": "1", "count": "1"}]);
    let histogram = request("waiting", json!({"histogram": {"dataPoints": points, "aggregationTemporality": 2}}));
    let counter = json!([{"timeUnixNano": "1", "asInt": "12"}]);
    let counter = request("waiting", json!({"sum": {"dataPoints": counter, "aggregationTemporality": 2, "isMonotonic": true}}));
    for (refused, why) in [(histogram, "it is neither a gauge nor a sum"), (counter, "a counter only grows: set rate: true")] {
        let (status, answer) = post_json(&fixture, &refused).await;
        let message = format!("waiting: {why}");
        assert_eq!((status, &answer["partialSuccess"]["errorMessage"]), (200, &json!(message)));
        let reading = told(&fixture).unwrap();
        assert_eq!(reading.failure.as_deref(), Some(message.as_str()));
        assert!(reading.value.is_some_and(|(value, _)| (value - 4.5).abs() < 1e-9), "the value was lost");
    }
}

#[tokio::test]
async fn errors_are_told_as_the_protocol_wants_it() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Failure {
        #[prost(string, tag = "2")]
        message: String,
    }
    let fixture = Fixture::new(None).await;
    let (status, kind, body) = post(&fixture, "application/x-protobuf", b"\xff\xff".to_vec()).await;
    assert_eq!((status, kind.as_str()), (400, "application/x-protobuf"));
    let message = Failure::decode(&body[..]).unwrap().message;
    assert!(message.starts_with("no ExportMetricsServiceRequest: "), "{message}");
    let (status, answer) = post_json(&fixture, &json!({"resourceMetrics": 7})).await;
    assert_eq!(status, 400);
    assert!(answer["message"].as_str().unwrap().starts_with("no ExportMetricsServiceRequest: "), "{answer}");
    assert_eq!(post(&fixture, "text/plain", b"7".to_vec()).await.0, 415);
    assert_eq!(post(&fixture, "application/json", vec![b' '; (4 << 20) + 1]).await.0, 413);
    let empty = post(&fixture, "application/x-protobuf", Vec::new()).await;
    assert_eq!(empty.0, 200, "no metrics are no mistake");
    assert_eq!(ExportMetricsServiceResponse::decode(&empty.2[..]).unwrap().partial_success, None);
}

#[tokio::test]
async fn over_grpc_the_same_may_push() {
    let fixture = Fixture::new(Some("secret")).await;
    let (address, stop) = grpc(&fixture).await;
    let mut client = MetricsServiceClient::connect(format!("http://{address}")).await.unwrap();
    let message: ExportMetricsServiceRequest = serde_json::from_value(request("waiting", gauge(json!(1)))).unwrap();
    let refused = client.export(message.clone()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "a token is needed: Authorization: Bearer TOKEN"));
    let mut borne = Request::new(message);
    borne.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    assert_eq!(client.export(borne).await.unwrap().into_inner().partial_success, None);
    stop.send(()).unwrap();
    let gone = async { while MetricsServiceClient::connect(format!("http://{address}")).await.is_ok() {} };
    timeout(PATIENCE, gone).await.expect("it goes on though it was told to end");
}
