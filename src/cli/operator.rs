//! `microscaler operator`: specs from a Kubernetes API server, tasks on Mesos.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::watch;
use tracing::info;

use super::run::{read_token, signalled};
use crate::demand::PushDesk;
use crate::engine::leadership::Leadership;
use crate::engine::pools::{Frameworks, Shared, supervise};
use crate::kubernetes::connect::connect;
use crate::kubernetes::secrets;
use crate::kubernetes::watch::{Scope, watch_objects};
use crate::server::metrics::Metrics;
use crate::server::pools::Pools;
use crate::server::{ServerState, serve};
use crate::store::secrets::Secrets;

/// Keep the MicroscaledApps of a Kubernetes cluster running on Mesos.
///
/// Of several replicas one leads; the others watch, and take over when it ends. Stopping leaves all tasks running, and so does deleting the
/// operator's Deployment: only deleting an app ends its tasks.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler operator                                     in a cluster, or with the current context
  microscaler operator --kubeconfig ~/.kube/shop --namespace shop,batch
  microscaler operator --selector microscaling.dev/shard=a")]
pub struct Args {
    /// How to reach the API server. Default: KUBECONFIG, ~/.kube/config, or the cluster that this process runs in.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Default: its current one.
    #[arg(long)]
    context: Option<String>,

    /// Look after these namespaces. Default: all.
    #[arg(long, short, value_name = "NAMESPACE", value_delimiter = ',', env = "MICROSCALER_NAMESPACE")]
    namespace: Vec<String>,

    /// Look after the pools with these labels, and the apps that name them: a shard. Default: all.
    #[arg(long, short = 'l', value_name = "LABELS", env = "MICROSCALER_SELECTOR")]
    selector: Option<String>,

    /// Address of the HTTP server: health, metrics, status and the push API.
    #[arg(long, default_value = "0.0.0.0:8910", env = "MICROSCALER_LISTEN")]
    listen: SocketAddr,

    /// File with the bearer token that pushes need. Without one, only pushes from this machine are taken.
    #[arg(long, value_name = "FILE", env = "MICROSCALER_PUSH_TOKEN_FILE")]
    push_token_file: Option<PathBuf>,

    /// Register as a new framework where the id of the old one is lost or Mesos has removed it. Tasks of the old one are not adopted.
    #[arg(long)]
    fresh: bool,
}

/// Runs until a signal comes.
///
/// # Errors
/// When something it needs at the start is not to be had. An API server that does not answer is waited for.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (client, _namespace) = connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let push_token = args.push_token_file.as_deref().map(read_token).transpose()?;
    let listener = tokio::net::TcpListener::bind(args.listen).await.with_context(|| {
        format!("cannot listen on {}: choose another address with --listen, or end what uses it", args.listen)
    })?;
    info!("serving http://{}", listener.local_addr()?);

    let watched = watch_objects(&client, &Scope { namespaces: args.namespace, pools: args.selector });
    let vault = Arc::new(Secrets::in_kubernetes());
    tokio::spawn(secrets::keep(client.clone(), watched.specs.clone(), vault.clone()));

    let pools = Arc::new(Pools::default());
    let desk = Arc::new(PushDesk::default());
    let metrics = Arc::new(Metrics::new(pools.clone(), &desk));
    let shared = Shared {
        pools: pools.clone(),
        desk: desk.clone(),
        metrics: metrics.clone(),
        secrets: vault,
        frameworks: Frameworks::Objects(client),
        leadership: Leadership::alone(),
        fresh: args.fresh,
        drain: false,
    };
    let (stop, shutdown) = watch::channel(false);
    let mut engines = tokio::spawn(supervise(watched.specs, shared, shutdown.clone()));
    let mut ended = shutdown;
    let state = ServerState { pools, desk, metrics, push_token };
    let mut server = tokio::spawn(serve(listener, state, async move { drop(ended.wait_for(|end| *end).await) }));
    tokio::select! {
        signal = signalled() => signal?,
        ended = &mut engines => { ended?; bail!("the objects cannot be followed any more") }
        ended = &mut server => { ended??; bail!("the server has ended") }
    }
    info!("stopping; all tasks are left running");
    stop.send_replace(true);
    engines.await?;
    server.await??;
    Ok(ExitCode::SUCCESS)
}
