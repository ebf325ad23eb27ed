//! The HTTP server: health, metrics, the state of all pools as JSON and as streams, and the push API.
//!
//! | look for | in |
//! |---|---|
//! | which engines there are | [`pools`] |
//! | /healthz, /readyz | [`health`] |
//! | /metrics: what is counted where it happens, and what is read off the reports | [`metrics`], [`collector`] |
//! | /v1/apps, /v1/pools, /v1/tasks, /v1/drain | [`objects`] |
//! | /v1/events, /v1/watch (server-sent events) | [`events`], [`watch`] |
//! | the events of all engines | [`listener`] |
//! | /v1/demand | [`push`] |
//! | /v1/metrics, and OpenTelemetry over gRPC | `otlp`, `otlp_grpc` |
//! | who may push and drain | [`access`] |
//! | what a replica does with requests when another one leads | [`forward`] |
//! | errors as JSON | [`error`] |
//!
//! Reading never disturbs an engine: all but /v1/tasks look at the reports that engines publish.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::demand::PushDesk;

pub mod access;
pub mod collector;
pub mod error;
pub mod events;
pub mod forward;
pub mod health;
pub mod listener;
pub mod metrics;
pub mod objects;
#[cfg(feature = "open-telemetry")]
pub mod otlp;
#[cfg(feature = "open-telemetry")]
pub mod otlp_grpc;
pub mod pools;
pub mod push;
pub mod watch;

use error::ApiError;
pub use forward::Replicas;
pub use health::Readiness;
pub use metrics::Metrics;
pub use pools::Pools;

/// Requests that are under way get this long once the server is to end.
const GRACE: Duration = Duration::from_secs(5);

/// All paths, for those who look for one.
const PATHS: &[&str] = &[
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /v1/apps[?namespace=]",
    "GET /v1/apps/{namespace}/{name}",
    "GET /v1/pools[?namespace=]",
    "GET /v1/tasks[?namespace=&app=&pool=]",
    "GET /v1/events[?app=namespace/name]",
    "GET /v1/events/recent[?app=namespace/name]",
    "GET /v1/watch",
    "POST /v1/demand/{namespace}/{app}/{metric}",
    #[cfg(feature = "open-telemetry")]
    "POST /v1/metrics",
    "POST /v1/drain/{namespace}/{pool}",
];

/// What the server shows and where pushes go.
#[derive(Clone)]
pub struct ServerState {
    pub pools: Arc<Pools>,
    pub desk: Arc<PushDesk>,
    pub metrics: Arc<Metrics>,
    /// Needed to push and to drain. Without one, only this machine may.
    pub push_token: Option<String>,
    pub readiness: Readiness,
    /// `None`: there is nobody else, and all is answered here.
    pub replicas: Option<Replicas>,
}

/// What every handler sees.
struct Shared {
    state: ServerState,
    /// Cancelled when the server is to end: streams end then.
    closing: CancellationToken,
}

/// Serves until `shutdown` is ready; requests under way then have a few seconds to end, and streams are ended.
///
/// # Errors
/// When connections cannot be accepted any more.
pub async fn serve(
    listener: TcpListener,
    state: ServerState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let closing = CancellationToken::new();
    let routes = router(Arc::new(Shared { state, closing: closing.clone() }));
    // Small writes are the rule here, and they are wanted at once.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let server = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(closing.clone().cancelled_owned());
    within_grace(server.into_future(), shutdown, closing).await
}

/// Tells a server, by way of `closing`, to end when `shutdown` is ready; requests under way then have [`GRACE`] to end.
async fn within_grace(
    server: impl Future<Output = io::Result<()>>,
    shutdown: impl Future<Output = ()>,
    closing: CancellationToken,
) -> io::Result<()> {
    let deadline = async {
        shutdown.await;
        closing.cancel();
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = server => ended,
        () = deadline => Ok(()),
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let routes = Router::new();
    #[cfg(feature = "open-telemetry")]
    let routes = routes.route("/v1/metrics", post(otlp::export));
    routes
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::scrape))
        .route("/v1/apps", get(objects::apps))
        .route("/v1/apps/{namespace}/{name}", get(objects::app))
        .route("/v1/pools", get(objects::pools))
        .route("/v1/tasks", get(objects::tasks))
        .route("/v1/events", get(events::stream))
        .route("/v1/events/recent", get(events::recent))
        .route("/v1/watch", get(watch::stream))
        .route("/v1/demand/{namespace}/{app}/{metric}", post(push::push))
        .route("/v1/drain/{namespace}/{pool}", post(objects::drain))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(shared.clone(), forward::pass_on))
        .with_state(shared)
}

async fn unknown_path(uri: Uri) -> Response {
    let body = serde_json::json!({"error": format!("no such path: {}", uri.path()), "paths": PATHS});
    (StatusCode::NOT_FOUND, axum::Json(body)).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not possible at {}", uri.path()))
}
