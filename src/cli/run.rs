//! `microscaler run`: specs from a directory, tasks on Mesos.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::api::check::{Checker, Object};
use crate::demand::PushDesk;
use crate::engine::leadership::Leadership;
use crate::engine::pools::{Frameworks, Shared, supervise};
use crate::server::metrics::Metrics;
use crate::server::pools::Pools;
use crate::server::{Readiness, ServerState, serve};
use crate::store::secrets::Secrets;
use crate::store::{SpecsFeed, directory};

/// Keep the apps of a directory of manifests running, without Kubernetes.
///
/// Changes of the files are taken over within 100 ms; a file with a mistake keeps its last good specs in force. Stopping (Ctrl-C, SIGTERM)
/// leaves all tasks running; the next start finds them again. Use `microscaler drain` to end them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  microscaler run --manifests manifests/demo
  microscaler run --manifests apps/ --mesos http://10.0.0.1:5050,http://10.0.0.2:5050
  microscaler run --manifests apps/ --listen 0.0.0.0:8910 --push-token-file token")]
pub struct Args {
    #[command(flatten)]
    pub source: Source,

    /// Address of the HTTP server: health, metrics, status and the push API.
    #[arg(long, default_value = "127.0.0.1:8910", env = "MICROSCALER_LISTEN")]
    listen: SocketAddr,

    /// Where the framework ids are kept, and the histories that forecasts need. Default: microscaler in the user's state home.
    #[arg(long, value_name = "DIR", env = "MICROSCALER_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// File with the bearer token that pushes need. Without one, only pushes from this machine are taken.
    #[arg(long, env = "MICROSCALER_PUSH_TOKEN_FILE")]
    push_token_file: Option<PathBuf>,

    /// Register as a new framework where the id of the old one is lost or Mesos has removed it. Tasks of the old one are not adopted.
    #[arg(long)]
    fresh: bool,
}

/// Where specs are.
#[derive(clap::Args)]
pub struct Source {
    /// Directory of YAML files with MicroscaledApps and MicroscalingPools, read with all its subdirectories.
    #[arg(long, short = 'f', value_name = "DIR", env = "MICROSCALER_MANIFESTS")]
    pub manifests: PathBuf,

    /// Mesos masters: makes the pool `default` without a file.
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "MICROSCALER_MESOS")]
    pub mesos: Vec<String>,
}

impl Source {
    /// Follows the manifests.
    ///
    /// # Errors
    /// When the directory cannot be read, a URL is none, or there is no pool at all.
    pub fn follow(&self) -> anyhow::Result<SpecsFeed> {
        let specs = directory::follow(&self.manifests, default_pool(&self.mesos)?)?;
        if specs.borrow().pools.is_empty() {
            let problems: Vec<String> =
                specs.borrow().problems.iter().map(|problem| format!("\n  {}", problem.message)).collect();
            let dir = self.manifests.display();
            bail!(
                "no MicroscalingPool in {dir}: add one, or give --mesos http://MASTER:5050 for the pool default{}",
                problems.concat()
            );
        }
        Ok(specs)
    }
}

/// The pool `default` on these masters; none without masters.
///
/// # Errors
/// When a URL is none.
pub fn default_pool(masters: &[String]) -> anyhow::Result<Vec<Object>> {
    if masters.is_empty() {
        return Ok(Vec::new());
    }
    let pool = serde_json::json!({
        "apiVersion": "microscaling.dev/v1alpha1", "kind": "MicroscalingPool",
        "metadata": {"name": "default", "namespace": "default"},
        "spec": {"mesos": {"masters": masters}},
    });
    let checked = Checker::new().check(Path::new("--mesos"), &serde_json::to_string(&pool)?);
    if let Some(problem) = checked.problems.first() {
        bail!("{problem}");
    }
    Ok(checked.objects.into_iter().map(|(_, object)| object).collect())
}

/// The state directory, made if it is missing. Without a name, it is in the user's state home (XDG Base Directory Specification).
///
/// # Errors
/// When it cannot be made.
pub fn state_dir(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.join(".local/state"));
    let state_home = || std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
    let dir = named.map(Path::to_owned).or_else(|| Some(state_home()?.join("microscaler")));
    let dir = dir.context("no home directory is known: give --state-dir")?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the state directory {}", dir.display()))?;
    Ok(dir)
}

/// Runs until a signal comes.
///
/// # Errors
/// When something it needs at the start is not to be had.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let specs = args.source.follow()?;
    let state_dir = state_dir(args.state_dir.as_deref())?;
    let _lock = lock(&state_dir)?;
    let push_token = args.push_token_file.as_deref().map(read_token).transpose()?;
    let listener = tokio::net::TcpListener::bind(args.listen).await.with_context(|| {
        format!("cannot listen on {}: choose another address with --listen, or end what uses it", args.listen)
    })?;
    info!("serving http://{}", listener.local_addr()?);

    let pools = Arc::new(Pools::default());
    let desk = Arc::new(PushDesk::default());
    let metrics = Arc::new(Metrics::new(pools.clone(), &desk));
    let shared = Shared {
        pools: pools.clone(),
        desk: desk.clone(),
        metrics: metrics.clone(),
        secrets: Arc::new(Secrets::in_files()),
        histories: Some(state_dir.join("history")),
        frameworks: Frameworks::Directory(state_dir),
        leadership: Leadership::alone(),
        fresh: args.fresh,
        drain: false,
    };
    let (stop, shutdown) = watch::channel(false);
    let mut engines = tokio::spawn(supervise(specs, shared, shutdown.clone()));
    let mut ended = shutdown;
    let state = ServerState { pools, desk, metrics, push_token, readiness: Readiness::Pools, replicas: None };
    let mut server = tokio::spawn(serve(listener, state, async move { drop(ended.wait_for(|end| *end).await) }));
    tokio::select! {
        signal = signalled() => signal?,
        ended = &mut engines => { ended?; bail!("the manifests cannot be followed any more") }
        ended = &mut server => { ended??; bail!("the server has ended") }
    }
    info!("stopping; all tasks are left running (microscaler drain ends them)");
    stop.send_replace(true);
    engines.await?;
    server.await??;
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or SIGTERM.
///
/// # Errors
/// When signals cannot be waited for.
pub async fn signalled() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

/// Holds the state directory for this process alone: two with the same framework ids would drive each other out of Mesos.
///
/// # Errors
/// When another process holds it.
pub fn lock(state_dir: &Path) -> anyhow::Result<std::fs::File> {
    let path = state_dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!(
                "another microscaler uses the state directory {}: end it first, or give this one its own --state-dir",
                state_dir.display()
            )
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The token in a file, without the white space around it.
///
/// # Errors
/// When the file cannot be read, or is empty.
pub fn read_token(path: &Path) -> anyhow::Result<String> {
    let token = std::fs::read_to_string(path).with_context(|| format!("cannot read the push token in {}", path.display()))?;
    let token = token.trim().to_owned();
    if token.is_empty() {
        bail!("{} holds no push token: it is empty", path.display());
    }
    Ok(token)
}
