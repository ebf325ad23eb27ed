//! Engines come and go with their pools: one for each `MicroscalingPool`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::report::{Handle, Journal, Report};
use super::{Engine, Inputs, Outputs};
use crate::api::pool::Mesos as MesosSpec;
use crate::api::status::PoolStatus;
use crate::api::validated::Key;
use crate::backend::Standing;
use crate::backend::mesos::{Mesos, Options};
use crate::demand::{Board, PushDesk, Sources};
use crate::server::metrics::Metrics;
use crate::server::pools::Pools;
use crate::store::{PoolSpec, Specs, SpecsFeed};

/// Events that a slow listener may lag behind before it misses some.
const EVENT_BACKLOG: usize = 1024;

/// What all engines share.
#[derive(Clone)]
pub struct Shared {
    pub pools: Arc<Pools>,
    pub desk: Arc<PushDesk>,
    pub metrics: Arc<Metrics>,
    pub state_dir: PathBuf,
    pub incarnation: String,
    /// Start as a new framework where the id of the old one is lost or was removed.
    pub fresh: bool,
    /// End every task and start none.
    pub drain: bool,
}

struct Running {
    mesos: MesosSpec,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Keeps an engine for each pool until told to end; then ends them all, leaving their tasks as they are.
pub async fn supervise(mut specs: SpecsFeed, shared: Shared, mut shutdown: watch::Receiver<bool>) {
    let mut engines: BTreeMap<Key, Running> = BTreeMap::new();
    loop {
        let newest = specs.borrow_and_update().clone();
        say_unassigned(&newest);
        let outdated = |key: &Key, running: &Running| {
            newest.pools.get(key).is_none_or(|spec| !same_connection(&spec.pool.mesos, &running.mesos))
        };
        let gone: Vec<Key> = engines.iter().filter(|(key, running)| outdated(key, running)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            if let Some(running) = engines.remove(&key) {
                stop(&key, running, &shared).await;
            }
        }
        for (key, spec) in &newest.pools {
            if !engines.contains_key(key) {
                match start(spec, specs.clone(), &shared) {
                    Ok(running) => drop(engines.insert(key.clone(), running)),
                    Err(error) => error!(pool = %key, "cannot start: {error}"),
                }
            }
        }
        tokio::select! {
            changed = specs.changed() => if changed.is_err() { break },
            _ = shutdown.wait_for(|end| *end) => break,
        }
    }
    for (key, running) in engines {
        stop(&key, running, &shared).await;
    }
}

/// Headroom and limits are taken over by a running engine; everything else needs a new connection.
fn same_connection(a: &MesosSpec, b: &MesosSpec) -> bool {
    MesosSpec { headroom: None, ..a.clone() } == MesosSpec { headroom: None, ..b.clone() }
}

fn say_unassigned(specs: &Specs) {
    for spec in specs.apps.values().filter(|spec| !specs.pools.contains_key(&spec.app.pool)) {
        warn!(app = %spec.app.key, "its pool {} does not exist: nothing is done for it", spec.app.pool);
    }
}

async fn stop(key: &Key, running: Running, shared: &Shared) {
    info!(pool = %key, "stopping; its tasks are left as they are");
    shared.pools.remove(key);
    running.stop.send_replace(true);
    if let Err(error) = running.task.await {
        error!(pool = %key, "the engine ended badly: {error}");
    }
}

fn start(spec: &PoolSpec, specs: SpecsFeed, shared: &Shared) -> Result<Running, crate::backend::mesos::Error> {
    let backend = Mesos::start(spec.pool.clone(), &shared.state_dir, Options { fresh: shared.fresh })?;
    let board = Arc::new(Board::new());
    let empty = Report {
        pool: spec.raw.clone(),
        status: PoolStatus::default(),
        standing: Standing::default(),
        apps: Vec::new(),
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
        sources: Sources::new(board.clone(), shared.desk.clone()),
        board,
        asks: asks_in,
        metrics: shared.metrics.clone(),
        shutdown,
        incarnation: shared.incarnation.clone(),
        drain: shared.drain,
    };
    let engine = Engine::new(backend, inputs, Outputs { reports, events, journal });
    let task = tokio::spawn(async move { engine.run().await.close().await });
    Ok(Running { mesos: spec.pool.mesos.clone(), stop, task })
}
