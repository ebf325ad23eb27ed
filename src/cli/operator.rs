//! `microscaler operator`: specs from a Kubernetes API server, tasks on Mesos.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use tokio::sync::watch;
use tracing::info;

use super::run::{read_token, signalled};
use crate::api::validated::short_hash;
use crate::demand::PushDesk;
use crate::engine::clock;
use crate::engine::pools::{Frameworks, Shared, supervise};
use crate::kubernetes::connect::connect;
use crate::kubernetes::lease::{self, Candidate};
use crate::kubernetes::reporter::{Options, report};
use crate::kubernetes::schedule::Limits;
use crate::kubernetes::watch::{Scope, watch_objects};
use crate::kubernetes::{MANAGER, secrets};
use crate::server::metrics::Metrics;
use crate::server::pools::Pools;
use crate::server::{Readiness, Replicas, ServerState, serve};
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

    /// Address at which other replicas reach that server, such as http://10.0.0.7:8910: those that stand by pass requests on to the leader.
    /// Default: the address that it listens on, unless that is every address.
    #[arg(long, value_name = "URL", env = "MICROSCALER_ADVERTISE")]
    advertise: Option<String>,

    /// File with the bearer token that pushes need. Without one, only pushes from the leader's own machine are taken.
    #[arg(long, value_name = "FILE", env = "MICROSCALER_PUSH_TOKEN_FILE")]
    push_token_file: Option<PathBuf>,

    /// Name of the Lease by which replicas agree on who leads; shards have one each. Default: microscaler, and with --selector or
    /// --namespace, a name that tells these apart.
    #[arg(long, value_name = "NAME", env = "MICROSCALER_LEASE_NAME")]
    lease_name: Option<String>,

    /// Namespace of that Lease. Default: the one that this process is at home in.
    #[arg(long, value_name = "NAMESPACE", env = "MICROSCALER_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,

    /// At most this many status writes a second, of all apps together.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000), env = "MICROSCALER_STATUS_WRITES_PER_SECOND")]
    status_writes_per_second: u32,

    /// Register as a new framework where the id of the old one is lost or Mesos has removed it. Tasks of the old one are not adopted.
    #[arg(long)]
    fresh: bool,

    /// Directory, such as that of a volume, where the histories of metrics with a forecast are kept. Default: in memory only.
    #[arg(long, value_name = "DIR", env = "MICROSCALER_HISTORY_DIR")]
    history_dir: Option<PathBuf>,
}

/// Requests are still answered for this long after the lease is released, until all have heard of it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs until a signal comes.
///
/// # Errors
/// When something it needs at the start is not to be had. An API server that does not answer is waited for.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (client, home) = connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
    let push_token = args.push_token_file.as_deref().map(read_token).transpose()?;
    let listener = tokio::net::TcpListener::bind(args.listen).await.with_context(|| {
        format!("cannot listen on {}: choose another address with --listen, or end what uses it", args.listen)
    })?;
    let listens = listener.local_addr()?;
    info!("serving http://{listens}");

    let pools = Arc::new(Pools::default());
    let desk = Arc::new(PushDesk::default());
    let metrics = Arc::new(Metrics::new(pools.clone(), &desk));
    let identity = identity();
    let mut election = candidate(&args, client.clone(), home, identity.clone(), listens).stand(metrics.clone());
    let scope = Scope { namespaces: args.namespace, pools: args.selector };
    let watched = watch_objects(client.clone(), scope, election.leadership.clone());
    let vault = Arc::new(Secrets::in_kubernetes());
    let mut keeper = tokio::spawn(secrets::keep(client.clone(), watched.specs.clone(), vault.clone()));

    let shared = Shared {
        pools: pools.clone(),
        desk: desk.clone(),
        metrics: metrics.clone(),
        secrets: vault,
        frameworks: Frameworks::Objects(client.clone()),
        leadership: election.leadership.clone(),
        histories: args.history_dir,
        fresh: args.fresh,
        drain: false,
    };
    let (stop, shutdown) = watch::channel(false);
    let mut engines = tokio::spawn(supervise(watched.specs, shared, shutdown.clone()));
    let options =
        Options { identity: identity.clone(), limits: Limits { per_second: args.status_writes_per_second, ..Limits::default() } };
    let mandate = election.mandate.clone();
    let reporter = report(client, watched.objects, pools.clone(), mandate, metrics.clone(), options, shutdown.clone());
    let reporter = tokio::spawn(reporter);
    let (close, mut closed) = watch::channel(false);
    let state = ServerState {
        pools,
        desk,
        metrics,
        push_token,
        readiness: Readiness::Synced(watched.synced),
        replicas: Some(Replicas::new(&identity, election.leadership.clone(), election.leader.clone())?.ending_with(shutdown)),
    };
    let mut server = tokio::spawn(serve(listener, state, async move { drop(closed.wait_for(|end| *end).await) }));
    tokio::select! {
        signal = signalled() => signal?,
        ended = &mut engines => { ended?; bail!("the objects cannot be followed any more") }
        ended = &mut keeper => { ended?; bail!("the Secrets cannot be followed any more") }
        ended = &mut server => { ended??; bail!("the server has ended") }
    }
    info!("stopping; all tasks are left running");
    stop.send_replace(true);
    engines.await?;
    reporter.await?;
    // Only now may another one act.
    election.resign().await;
    // Services and standbys still name this replica; it passes requests on to the one that leads now.
    tokio::time::sleep(FAREWELL).await;
    close.send_replace(true);
    server.await??;
    Ok(ExitCode::SUCCESS)
}

fn candidate(args: &Args, client: Client, home: String, identity: String, listens: SocketAddr) -> Candidate {
    let own_address = || (!listens.ip().is_unspecified()).then(|| format!("http://{listens}"));
    Candidate {
        client,
        namespace: args.lease_namespace.clone().unwrap_or(home),
        name: args.lease_name.clone().unwrap_or_else(|| lease_name(&args.namespace, args.selector.as_deref())),
        identity,
        address: args.advertise.clone().or_else(own_address),
        duration: lease::DURATION,
    }
}

/// `microscaler`, and for a shard, something that tells it apart.
fn lease_name(namespaces: &[String], selector: Option<&str>) -> String {
    if namespaces.is_empty() && selector.is_none() {
        return MANAGER.to_owned();
    }
    let mut namespaces = namespaces.to_vec();
    namespaces.sort();
    let shard = format!("{} {}", namespaces.join(","), selector.unwrap_or_default());
    format!("{MANAGER}-{}", short_hash(shard.as_bytes()))
}

/// The pod's name, or the host's, and what no other start has.
fn identity() -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let name = std::env::var("POD_NAME").or_else(|_| host()).unwrap_or_else(|_| MANAGER.to_owned());
    format!("{name}_{}", clock::incarnation())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_leases_of_their_own() {
        let names = |namespaces: &[&str]| namespaces.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(lease_name(&[], None), "microscaler");
        assert_eq!(lease_name(&names(&["a", "b"]), None), lease_name(&names(&["b", "a"]), None));
        assert_ne!(lease_name(&names(&["a"]), None), lease_name(&names(&["b"]), None));
        assert_ne!(lease_name(&[], Some("shard=a")), lease_name(&[], Some("shard=b")));
    }
}
