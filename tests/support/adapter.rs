//! Serves metrics to an API server, in the place of KEDA or of an adapter for Prometheus.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use microscaler_testbed::{Authority, ControlPlane};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub const EXTERNAL: &str = "external.metrics.k8s.io";
pub const CUSTOM: &str = "custom.metrics.k8s.io";

/// By path and query: the values, or else the whole answer.
type Answers = Arc<Mutex<BTreeMap<String, Value>>>;

/// Serves what KEDA and other adapters would.
pub struct Adapter {
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
    pub async fn serve() -> Self {
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

    /// By path, with the query or without: all answers that are not told apart by it.
    pub fn set(&self, path: &str, answer: Value) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Registers it for this API.
    pub fn register(&self, kubernetes: &ControlPlane, api: &str) {
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
    let answers = answers.lock().unwrap();
    match answers.get(&asked).or_else(|| answers.get(&rest)) {
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
