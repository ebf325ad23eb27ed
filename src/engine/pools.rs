//! Engines come and go with their pools: one for each `MicroscalingPool`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::leadership::Leadership;
use super::report::{Handle, Journal, Report};
use super::{Engine, Inputs, Outputs, clock, ended as ended_by};
use crate::api::pool::{Backend as BackendSpec, Mesos as MesosSpec};
use crate::api::status::PoolStatus;
use crate::api::validated::Key;
use crate::backend::marathon::{self, Marathon};
use crate::backend::mesos::usage::Agents;
use crate::backend::mesos::{Mesos, Setting, SetupError, Store};
use crate::backend::{Backend, Standing};
use crate::demand::{Board, PushDesk, Sources};
use crate::kubernetes::framework::PoolObject;
use crate::server::metrics::Metrics;
use crate::server::pools::Pools;
use crate::store::secrets::Secrets;
use crate::store::{PoolSpec, Specs, SpecsFeed};

/// Events that a slow listener may lag behind before it misses some.
const EVENT_BACKLOG: usize = 1024;

/// What all engines share.
#[derive(Clone)]
pub struct Shared {
    pub pools: Arc<Pools>,
    pub desk: Arc<PushDesk>,
    pub metrics: Arc<Metrics>,
    pub secrets: Arc<Secrets>,
    /// Where the id of each pool's framework is kept.
    pub frameworks: Frameworks,
    pub leadership: Leadership,
    /// Where the histories of metrics that are foreseen are kept, if anywhere.
    pub histories: Option<PathBuf>,
    /// Start as a new framework where the id of the old one is lost or was removed.
    pub fresh: bool,
    /// End every task and start none.
    pub drain: bool,
}

/// Where the ids of frameworks are kept.
#[derive(Clone)]
pub enum Frameworks {
    /// In files of this directory.
    Directory(PathBuf),
    /// In the status of the pools' objects.
    Objects(kube::Client),
}

impl Frameworks {
    /// The API server, on Kubernetes.
    fn client(&self) -> Option<kube::Client> {
        match self {
            Self::Directory(_) => None,
            Self::Objects(client) => Some(client.clone()),
        }
    }

    fn store(&self, pool: &Key) -> Store {
        match self {
            Self::Directory(path) => Store::file(path, pool),
            Self::Objects(client) => Store::Object(Box::new(PoolObject::new(client.clone(), pool))),
        }
    }
}

/// A pool without an engine, after one has failed or could not start, is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

struct Running {
    /// Which of the engines that this pool has had.
    serial: u64,
    backend: BackendSpec,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Keeps an engine for each pool until told to end; then ends them all, leaving their tasks as they are.
pub async fn supervise(mut specs: SpecsFeed, shared: Shared, mut shutdown: watch::Receiver<bool>) {
    let mut engines: BTreeMap<Key, Running> = BTreeMap::new();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut serial = 0;
    let mut leadership = shared.leadership.clone();
    let mut term = leadership.term();
    loop {
        if term.is_some() && term != leadership.term() {
            // Whoever has ceased to lead begins anew, with nothing in hand that another may have changed meanwhile.
            info!("no longer leading; standing by");
            end_all(&mut engines, &shared).await;
        }
        term = leadership.term();
        let newest = specs.borrow_and_update().clone();
        end_outdated(&mut engines, &newest, &shared).await;
        for (key, spec) in &newest.pools {
            if engines.contains_key(key) {
                continue;
            }
            serial += 1;
            match start(spec, specs.clone(), &shared, serial, ended.clone()) {
                Ok(running) => drop(engines.insert(key.clone(), running)),
                Err(error) => error!(pool = %key, "cannot start: {error}"),
            }
        }
        let incomplete = engines.len() < newest.pools.len();
        tokio::select! {
            changed = specs.changed() => if changed.is_err() { break },
            () = ended_by(&mut shutdown) => break,
            () = leadership.changed() => {}
            Some((key, serial)) = ends.recv() => {
                if engines.get(&key).is_some_and(|running| running.serial == serial) {
                    error!(pool = %key, "the engine has ended by itself; it is started anew");
                    engines.remove(&key);
                    shared.pools.remove(&key);
                    tokio::time::sleep(RETRY).await;
                }
            }
            () = tokio::time::sleep(RETRY), if incomplete => {}
        }
    }
    end_all(&mut engines, &shared).await;
}

async fn end_all(engines: &mut BTreeMap<Key, Running>, shared: &Shared) {
    for (key, running) in std::mem::take(engines) {
        stop(&key, running, shared).await;
    }
}

/// Ends the engines of pools that are gone or have moved.
async fn end_outdated(engines: &mut BTreeMap<Key, Running>, newest: &Specs, shared: &Shared) {
    let outdated = |key: &Key, running: &Running| {
        newest.pools.get(key).is_none_or(|spec| !same_connection(&spec.pool.backend, &running.backend))
    };
    let gone: Vec<Key> = engines.iter().filter(|(key, running)| outdated(key, running)).map(|(key, _)| key.clone()).collect();
    for key in gone {
        if let Some(running) = engines.remove(&key) {
            stop(&key, running, shared).await;
        }
    }
}

/// Headroom and limits are taken over by a running engine; everything else needs a new connection.
fn same_connection(a: &BackendSpec, b: &BackendSpec) -> bool {
    match (a, b) {
        (BackendSpec::Mesos(a), BackendSpec::Mesos(b)) => {
            MesosSpec { headroom: None, ..a.clone() } == MesosSpec { headroom: None, ..b.clone() }
        }
        (a, b) => a == b,
    }
}

/// Why there is no engine for a pool.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Mesos(#[from] SetupError),
    #[error(transparent)]
    Marathon(#[from] marathon::SetupError),
}

async fn stop(key: &Key, running: Running, shared: &Shared) {
    info!(pool = %key, "stopping; its tasks are left as they are");
    shared.pools.remove(key);
    running.stop.send_replace(true);
    // What it has to say of its end, it has said.
    let _ = running.task.await;
}

fn start(
    spec: &PoolSpec,
    specs: SpecsFeed,
    shared: &Shared,
    serial: u64,
    ended: mpsc::UnboundedSender<(Key, u64)>,
) -> Result<Running, StartError> {
    let (secrets, leadership) = (shared.secrets.clone(), shared.leadership.clone());
    Ok(match &spec.pool.backend {
        BackendSpec::Mesos(_) => {
            let setting = Setting { store: shared.frameworks.store(&spec.pool.key), secrets, leadership, fresh: shared.fresh };
            drive(Mesos::start(&spec.pool, setting)?, spec, specs, shared, serial, ended)
        }
        BackendSpec::Marathon(_) => {
            let setting = marathon::Setting { secrets, leadership };
            drive(Marathon::start(&spec.pool, setting)?, spec, specs, shared, serial, ended)
        }
    })
}

/// An engine that drives this backend.
fn drive<B: Backend + 'static>(
    backend: B,
    spec: &PoolSpec,
    specs: SpecsFeed,
    shared: &Shared,
    serial: u64,
    ended: mpsc::UnboundedSender<(Key, u64)>,
) -> Running {
    let board = Arc::new(Board::new());
    // Whatever is wrong with its addresses has been said when the backend was started.
    let agents = spec.pool.on_mesos().and_then(|pool| Agents::new(pool, shared.secrets.clone()).ok());
    let empty = Report {
        pool: spec.raw.clone(),
        status: PoolStatus::default(),
        standing: Standing::default(),
        apps: Vec::new(),
        leaving: BTreeMap::new(),
        executors: None,
        problems: Vec::new(),
    };
    let (reports, reports_out) = watch::channel(Arc::new(empty));
    let journal = Arc::new(Journal::default());
    let (events, _) = broadcast::channel(EVENT_BACKLOG);
    let (asks, asks_in) = mpsc::channel(16);
    let (stop, shutdown) = watch::channel(false);
    shared.pools.insert(Handle {
        pool: spec.pool.key.clone(),
        reports: reports_out,
        events: events.clone(),
        journal: journal.clone(),
        asks,
    });
    let inputs = Inputs {
        raw: spec.raw.clone(),
        pool: spec.pool.clone(),
        specs,
        sources: Sources::new(board.clone(), shared.desk.clone(), shared.secrets.clone())
            .with_histories(shared.histories.clone())
            .on_kubernetes(shared.frameworks.client())
            .on_mesos(agents),
        board,
        asks: asks_in,
        metrics: shared.metrics.clone(),
        shutdown,
        // Of its own for each engine, as each counts its tasks from 1.
        incarnation: clock::incarnation(),
        drain: shared.drain,
    };
    let engine = Engine::new(backend, inputs, Outputs { reports, events, journal });
    let key = spec.pool.key.clone();
    let task = tokio::spawn(async move {
        let engine = tokio::spawn(async move { engine.run().await.close().await });
        if let Err(error) = engine.await {
            error!(pool = %key, "the engine ended badly: {error}");
        }
        // At the end of the program nobody waits for this any more.
        let _ = ended.send((key, serial));
    });
    Running { serial, backend: spec.pool.backend.clone(), stop, task }
}
