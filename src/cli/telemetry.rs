//! OpenTelemetry over gRPC, for the verbs that serve.

use std::io;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::ServerState;

/// Where metrics of OpenTelemetry are taken besides the HTTP server.
#[derive(clap::Args)]
pub struct Telemetry {
    /// Address of a gRPC server for metrics of OpenTelemetry, such as 0.0.0.0:4317. Default: none. Over HTTP they go to /v1/metrics.
    #[cfg(feature = "open-telemetry")]
    #[arg(long, value_name = "ADDRESS", env = "MICROSCALER_OTLP_GRPC_LISTEN")]
    otlp_grpc_listen: Option<std::net::SocketAddr>,
}

impl Telemetry {
    /// Listens there, if that is wanted.
    ///
    /// # Errors
    /// When that is not possible.
    #[cfg(feature = "open-telemetry")]
    pub async fn listen(&self) -> anyhow::Result<Option<TcpListener>> {
        use anyhow::Context as _;
        let Some(address) = self.otlp_grpc_listen else { return Ok(None) };
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: choose another address with --otlp-grpc-listen, or end what uses it")
        })?;
        tracing::info!("taking OpenTelemetry over gRPC at {}", listener.local_addr()?);
        Ok(Some(listener))
    }

    /// There is none in this build.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(feature = "open-telemetry"))]
    #[allow(clippy::unused_async)]
    pub async fn listen(&self) -> anyhow::Result<Option<TcpListener>> {
        Ok(None)
    }
}

/// Serves until `shutdown` is ready, if there is something to serve at.
pub fn serve(
    listener: Option<TcpListener>,
    state: &ServerState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<io::Result<()>> {
    #[cfg(feature = "open-telemetry")]
    if let Some(listener) = listener {
        return tokio::spawn(crate::server::otlp_grpc::serve_grpc(listener, state.clone(), shutdown));
    }
    #[cfg(not(feature = "open-telemetry"))]
    let _ = (listener, state);
    tokio::spawn(async move {
        shutdown.await;
        Ok(())
    })
}
