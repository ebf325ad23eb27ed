//! Metrics of OpenTelemetry over gRPC (OTLP/gRPC), on a port of its own: each request becomes one to /v1/metrics of the HTTP server, so that
//! the same may push, and a replica that stands by passes it on.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use axum::serve::ListenerExt as _;
use futures::{StreamExt as _, TryFutureExt as _};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{MetricsService, MetricsServiceServer};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use prost::Message as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::otlp::{Failure, Format, LIMIT};
use super::{ServerState, Shared, router, within_grace};

/// What concerns gRPC's own message, and not the one that is made of it.
const OF_GRPC: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TE,
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-timeout"),
];

/// Serves until `shutdown` is ready; requests under way then have a few seconds to end.
///
/// # Errors
/// When connections cannot be accepted any more.
pub async fn serve_grpc(
    listener: TcpListener,
    state: ServerState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let closing = CancellationToken::new();
    let routes = router(Arc::new(Shared { state, closing: closing.clone() }));
    let service =
        MetricsServiceServer::new(Export(routes)).accept_compressed(CompressionEncoding::Gzip).max_decoding_message_size(LIMIT);
    let incoming = futures::stream::unfold(listener.tap_io(|stream| drop(stream.set_nodelay(true))), |mut listener| async {
        let (stream, _) = axum::serve::Listener::accept(&mut listener).await;
        Some((Ok::<_, io::Error>(stream), listener))
    });
    let server = Server::builder().serve_with_incoming_shutdown(service, incoming.boxed(), closing.clone().cancelled_owned());
    within_grace(server.map_err(io::Error::other), shutdown, closing).await
}

struct Export(Router);

#[tonic::async_trait]
impl MetricsService for Export {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let peer = request.remote_addr().ok_or_else(|| Status::internal("nobody is known to have sent this"))?;
        let (metadata, _, message) = request.into_parts();
        let mut inner = Request::post("/v1/metrics").body(Body::from(message.encode_to_vec())).map_err(internal)?;
        *inner.headers_mut() = passed_on(metadata.into_headers());
        inner.extensions_mut().insert(ConnectInfo(peer));
        let answer = self.0.clone().oneshot(inner).await.map_err(internal)?;
        read(answer).await.map(tonic::Response::new)
    }
}

fn passed_on(mut headers: HeaderMap) -> HeaderMap {
    for name in OF_GRPC {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Format::Protobuf.media_type()));
    headers
}

/// The answer, or the error with the words that came with it.
async fn read(answer: Response) -> Result<ExportMetricsServiceResponse, Status> {
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, LIMIT).await.map_err(internal)?;
    if parts.status.is_success() {
        return ExportMetricsServiceResponse::decode(body).map_err(internal);
    }
    // Who only passes on speaks as the HTTP server does.
    let of_server = || serde_json::from_slice::<Value>(&body).ok()?["error"].as_str().map(str::to_owned);
    let words = of_server().or_else(|| Failure::decode(&body[..]).ok().map(|failure| failure.message));
    let code = match parts.status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        // Senders try again.
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        status if status.is_client_error() => Code::InvalidArgument,
        _ => Code::Internal,
    };
    Err(Status::new(code, words.unwrap_or_default()))
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}
