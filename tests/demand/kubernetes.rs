//! The metrics APIs of a real API server, which passes on what a small server in this process measures.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use microscaler::demand::{Board, PushDesk, Sources};
use microscaler::kubernetes::connect::connect;
use microscaler::store::secrets::Secrets;
use microscaler_testbed::{Authority, ControlPlane};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::fixture::{Fixture, app, metric};

const EXTERNAL: &str = "external.metrics.k8s.io";
const CUSTOM: &str = "custom.metrics.k8s.io";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/microscaler");

/// By path and query: the values, or else the whole answer.
type Answers = Arc<Mutex<BTreeMap<String, Value>>>;

/// Serves what KEDA and other adapters would.
struct Adapter {
    answers: Answers,
    port: u16,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Adapter {
    async fn serve() -> Self {
        let answers = Answers::default();
        let router = Router::new()
            .route("/apis/{api}/{version}", get(|| async { Json(json!({"kind": "APIResourceList", "resources": []})) }))
            .route("/apis/{api}/{version}/namespaces/{*rest}", get(answer))
            .with_state(answers.clone());
        let listener = Tls::listen().await;
        let port = listener.tcp.local_addr().unwrap().port();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { answers, port, server }
    }

    fn set(&self, path: &str, answer: Value) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Registers it for this API.
    fn register(&self, kubernetes: &ControlPlane, api: &str) {
        let port = self.port;
        let service = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: adapter, namespace: default}},
               spec: {{type: ExternalName, externalName: localhost}}}}
---
{{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {{name: v1beta1.{api}}},
  spec: {{group: {api}, version: v1beta1, service: {{name: adapter, namespace: default, port: {port}}},
    insecureSkipTLSVerify: true, groupPriorityMinimum: 100, versionPriority: 100}}}}"
        );
        kubernetes.apply(&service).unwrap();
        let name = format!("apiservice/v1beta1.{api}");
        kubernetes.kubectl(&["wait", "--for=condition=Available", "--timeout=90s", &name]).unwrap();
    }
}

async fn answer(
    State(answers): State<Answers>,
    Path((_, _, rest)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = query.map_or_else(|| rest.clone(), |query| format!("{rest}?{query}"));
    match answers.lock().unwrap().get(&asked) {
        None => (StatusCode::NOT_FOUND, Json(json!({"kind": "Status", "message": format!("no {asked}"), "code": 404})))
            .into_response(),
        Some(Value::Array(values)) => {
            let items: Vec<_> = values.iter().map(|value| json!({"metricName": "m", "value": value})).collect();
            Json(json!({"kind": "ExternalMetricValueList", "items": items})).into_response()
        }
        Some(Value::Number(status)) => {
            let status = StatusCode::from_u16(status.as_u64().unwrap().try_into().unwrap()).unwrap();
            (status, "s3cret words of the adapter").into_response()
        }
        Some(other) => Json(other.clone()).into_response(),
    }
}

/// The API server speaks nothing but TLS.
struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    async fn listen() -> Self {
        let pair = Authority::new().unwrap().issue("adapter").unwrap();
        let certificates = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(certificates, key).unwrap());
        Self { tcp: TcpListener::bind("127.0.0.1:0").await.unwrap(), acceptor: TlsAcceptor::from(config) }
    }
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            // Whoever only knocks is none to wait for.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

fn served(spec: Value) -> Value {
    let mut spec = spec;
    let polling = json!({"pollMilliseconds": 20, "timeoutMilliseconds": 5000});
    spec.as_object_mut().unwrap().extend(polling.as_object().unwrap().clone());
    metric("m", "kubernetes", &spec)
}

/// As the operator's ServiceAccount, with the roles of the chart.
async fn fixture(kubernetes: &ControlPlane, spec: Value) -> Fixture {
    let kubeconfig = kubernetes.kubeconfig_for("microscaler-system", "microscaler").unwrap();
    let (client, _) = connect(Some(&kubeconfig), None).await.unwrap();
    let (board, desk) = (Arc::new(Board::new()), Arc::new(PushDesk::new()));
    let sources = Sources::new(board.clone(), desk.clone(), Arc::new(Secrets::in_kubernetes())).on_kubernetes(Some(client));
    let mut fixture = Fixture { board, desk, sources };
    fixture.sources.sync(&[app("search", json!([served(spec)]))]);
    fixture
}

/// A control plane with the roles of the chart, by which metrics may be read or not.
fn control_plane(metrics: bool) -> ControlPlane {
    let kubernetes = ControlPlane::start().unwrap();
    kubernetes.kubectl(&["create", "namespace", "microscaler-system"]).unwrap();
    allow(&kubernetes, metrics);
    kubernetes
}

fn allow(kubernetes: &ControlPlane, metrics: bool) {
    let value = format!("crds.install=false,rbac.metrics={metrics}");
    let arguments = ["template", "microscaler", CHART, "--namespace", "microscaler-system", "--set", &value];
    kubernetes.apply(&kubernetes.helm(&arguments).unwrap()).unwrap();
}

fn is(expected: f64) -> impl Fn(f64) -> bool {
    move |value| (value - expected).abs() < 1e-9
}

#[tokio::test(flavor = "multi_thread")]
async fn external_metrics_are_followed_and_what_is_wrong_is_said() {
    let kubernetes = control_plane(false);
    let labelled = json!({"external": {
        "metricName": "s0-rabbitmq-orders", "selector": "scaledobject.keda.sh/name=orders",
    }});
    let fixture = fixture(&kubernetes, labelled).await;
    fixture.until_failure("Microscaler may not read external.metrics.k8s.io: let its ServiceAccount get and list it").await;
    allow(&kubernetes, true);
    fixture.until_failure("nobody serves external.metrics.k8s.io here: install what measures the metric").await;
    let adapter = Adapter::serve().await;
    adapter.register(&kubernetes, EXTERNAL);
    fixture.until_failure("external.metrics.k8s.io has no metric s0-rabbitmq-orders in namespace shop").await;

    let path = "shop/s0-rabbitmq-orders?labelSelector=scaledobject.keda.sh%2Fname%3Dorders";
    adapter.set(path, json!(["12", "1500m"]));
    fixture.until_value(is(13.5)).await;
    adapter.set(path, json!(["2k"]));
    fixture.until_value(is(2000.0)).await;
    for (answer, expected) in [
        (json!([]), "metric s0-rabbitmq-orders has no values now"),
        (json!(["many"]), "metric s0-rabbitmq-orders: its value is no quantity"),
        (json!({"items": 7}), "external.metrics.k8s.io answers no list of values: line 1 column 10"),
        (json!(500), "external.metrics.k8s.io answers with status 500"),
    ] {
        adapter.set(path, answer);
        let failure = fixture.until_failure(expected).await;
        assert!(!failure.contains("s3cret"), "{failure}");
    }
    adapter.set(path, json!(["7"]));
    fixture.until_value(is(7.0)).await;

    kubernetes.api_server().kill();
    let reading = fixture.until(|reading| reading.failure.is_some()).await;
    assert!(reading.failure.is_some_and(|failure| failure.starts_with("the API server does not answer: ")));
    assert!(reading.value.is_some_and(|(value, _)| is(7.0)(value)), "the value was lost");
    kubernetes.api_server().start().unwrap();
    kubernetes.wait_until_ready().unwrap();
    adapter.set(path, json!(["8"]));
    fixture.until_value(is(8.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_metrics_of_objects_and_pods_are_read() {
    let kubernetes = control_plane(true);
    let adapter = Adapter::serve().await;
    adapter.register(&kubernetes, CUSTOM);
    adapter.set("shop/services/front/requests", json!(["250"]));
    adapter.set("shop/ingresses.networking.k8s.io/front/requests?metricLabelSelector=verb%3DGET", json!(["90"]));
    adapter.set("shop/pods/*/busy?labelSelector=app%3Dfront", json!(["1", "500m"]));
    adapter.set("shop/services/front/two", json!(["1", "2"]));

    let object = |kind: &str, more: Value| {
        let mut spec = json!({"metricName": "requests", "describedObject": {"kind": kind, "name": "front"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"object": spec})
    };
    fixture(&kubernetes, object("Service", json!({}))).await.until_value(is(250.0)).await;
    let ingress = json!({
        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "front"},
        "selector": "verb=GET",
    });
    fixture(&kubernetes, object("", ingress)).await.until_value(is(90.0)).await;
    let pods = json!({"pods": {"metricName": "busy", "podSelector": "app=front"}});
    fixture(&kubernetes, pods).await.until_value(is(1.5)).await;

    for (spec, expected) in [
        (object("Service", json!({"metricName": "two"})), "metric two of services front: 2 values, where one is meant"),
        (object("Servise", json!({})), "describedObject: there is no kind Servise in v1"),
        (object("Node", json!({})), "describedObject: a Node is in no namespace, and only objects of the app's own are read"),
        (object("Service", json!({"metricName": "gone"})), "custom.metrics.k8s.io has no metric gone in namespace shop"),
    ] {
        fixture(&kubernetes, spec).await.until_failure(expected).await;
    }
}

#[tokio::test]
async fn without_kubernetes_there_are_none() {
    let failure = Fixture::of(served(json!({"external": {"metricName": "m"}}))).failure().await;
    assert_eq!(failure, "there are no metrics of Kubernetes without Kubernetes: run `microscaler operator`");
}
