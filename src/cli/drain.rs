//! `microscaler drain`: the one verb that ends tasks.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::watch;

use super::client::Server;
use super::run;
use crate::api::MicroscalingPool;
use crate::api::validated::Key;
use crate::demand::PushDesk;
use crate::engine::leadership::Leadership;
use crate::engine::pools::{Frameworks, Shared, supervise};
use crate::engine::report::Handle;
use crate::server::metrics::Metrics;
use crate::server::objects::List;
use crate::server::pools::Pools;
use crate::store::secrets::Secrets;
use crate::store::{Specs, directory};

/// End every task of a pool, each with its grace period, and start none.
///
/// Where a Microscaler runs, it does so and goes on holding the pool empty until it is stopped; on Kubernetes it refuses: delete the apps
/// there. Where none runs, give --mesos or --manifests, and this command takes the framework over for as long as it takes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler drain default/shop                        where a Microscaler runs
  microscaler drain --mesos http://127.0.0.1:5050       where none runs")]
pub struct Args {
    /// The pool, as NAMESPACE/POOL. Default: default/default with --server, all pools with --manifests.
    #[arg(value_name = "NAMESPACE/POOL")]
    pool: Option<String>,
    /// The directory that declares the pools.
    #[arg(long, short = 'f', value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// Mesos masters of the pool default.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    mesos: Vec<String>,
    /// Where the framework ids are kept. Default: microscaler in the user's state home.
    #[arg(long, value_name = "DIR", env = "MICROSCALER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 300)]
    timeout_seconds: u64,
    #[command(flatten)]
    server: Server,
}

/// Drains, and waits until the last task and the last executor have ended.
///
/// # Errors
/// When there is no pool, or tasks are left after the time-out.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let limit = Duration::from_secs(args.timeout_seconds);
    let through_server = args.manifests.is_none() && args.mesos.is_empty();
    let draining = async { if through_server { through_running(&args).await } else { on_our_own(&args).await } };
    match tokio::time::timeout(limit, draining).await {
        Ok(done) => done.map(|()| ExitCode::SUCCESS),
        Err(_) => bail!("tasks are left after {} s: look at them with microscaler get tasks, and drain again", limit.as_secs()),
    }
}

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    Key::new(namespace, name)
}

async fn through_running(args: &Args) -> anyhow::Result<()> {
    let pool = key(args.pool.as_deref().unwrap_or("default"));
    let this = |item: &&MicroscalingPool| {
        item.metadata.name.as_deref() == Some(pool.name()) && item.metadata.namespace.as_deref() == Some(pool.namespace())
    };
    let mut said = String::new();
    loop {
        // Once is enough; the answer tells what is left, executors included.
        let answer = args.server.post(&format!("/v1/drain/{pool}"), String::new()).await?;
        let left = answer["tasks"].as_u64().unwrap_or(0);
        let pools: List<MicroscalingPool> = args.server.get("/v1/pools").await?;
        let status = pools.items.iter().find(this).and_then(|item| item.status.clone()).unwrap_or_default();
        let in_control = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if in_control && status.tasks == 0 && left == 0 {
            anstream::eprintln!("pool {pool} is empty and stays so until its Microscaler is stopped");
            return Ok(());
        }
        if !in_control && said != status.message {
            anstream::eprintln!("pool {pool}: waiting: {}", status.message);
            said = status.message;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn on_our_own(args: &Args) -> anyhow::Result<()> {
    let state_dir = run::state_dir(args.state_dir.as_deref())?;
    let _lock = run::lock(&state_dir)?;
    let pools = Arc::new(Pools::default());
    let desk = Arc::new(PushDesk::default());
    let shared = Shared {
        pools: pools.clone(),
        metrics: Arc::new(Metrics::new(pools.clone(), &desk)),
        desk,
        secrets: Arc::new(Secrets::in_files()),
        frameworks: Frameworks::Directory(state_dir),
        leadership: Leadership::alone(),
        histories: None,
        fresh: false,
        drain: true,
    };
    let specs = what_to_drain(args)?;
    let count = specs.borrow().pools.len();
    let (stop, shutdown) = watch::channel(false);
    let engines = tokio::spawn(supervise(specs.subscribe(), shared, shutdown));
    loop {
        let handles = pools.list();
        if handles.len() == count && handles.iter().all(is_empty) {
            break;
        }
        if let Some(handle) = handles.iter().find(|handle| handle.reports.borrow().standing.stalled) {
            bail!("pool {}: {}", handle.pool, handle.reports.borrow().standing.message);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.send_replace(true);
    engines.await?;
    anstream::eprintln!("all tasks have ended");
    Ok(())
}

/// In control, and neither tasks nor executors are left.
fn is_empty(handle: &Handle) -> bool {
    let report = handle.reports.borrow();
    report.standing.ready && report.status.tasks == 0 && report.executors == Some(0)
}

/// The pools to drain. Of apps, what runs is found by reconciliation, so that their specs are not needed; only that an app of a Marathon is
/// adopted, nothing but its spec tells.
fn what_to_drain(args: &Args) -> anyhow::Result<watch::Sender<Arc<Specs>>> {
    let mut specs = directory::read(args.manifests.as_deref(), run::default_pool(&args.mesos)?)?;
    if let Some(wanted) = args.pool.as_deref().map(key) {
        specs.pools.retain(|key, _| *key == wanted);
    }
    if specs.pools.is_empty() {
        bail!("there is no such pool to drain");
    }
    specs.apps.retain(|_, spec| spec.app.adopted && specs.pools.contains_key(&spec.app.pool));
    specs.complete = false;
    Ok(watch::Sender::new(Arc::new(specs)))
}
