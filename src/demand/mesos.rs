//! What an app's own tasks use: which tasks run where, the engine tells; what they use, their agents.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::try_join_all;
use tokio::sync::watch;
use tokio::time::sleep;

use super::poll::Query;
use crate::api::demand::Mesos;
use crate::backend::mesos::usage::{Agents, Containers, FRESH};
use crate::policy::world::{AppView, TaskPhase, World};

mod samples;

use samples::{Asked, Samples};

const BYTES_IN_MIB: f64 = 1_048_576.0;

/// What runs of an app, and where.
pub type Seats = Arc<[Seat]>;

/// A running task of the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Seat {
    pub task: Arc<str>,
    pub agent: Arc<str>,
    pub asked: Asked,
    /// It is a process of an executor that others share.
    pub pooled: bool,
}

/// The seats of an app, as the world shows it.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "amounts are far below 2^53")]
pub fn seats(world: &World, app: &AppView) -> Seats {
    let running = app.tasks.iter().filter(|task| task.phase == TaskPhase::Running);
    let seat = |task: &crate::policy::world::Task| {
        let asked =
            Asked { cores: task.resources.cpu as f64 / 1000.0, bytes: task.resources.memory as f64 / 1000.0 * BYTES_IN_MIB };
        let agent = world.agents[task.agent.0 as usize].id.clone();
        Seat { task: task.id.clone(), agent, asked, pooled: task.executor.is_some() }
    };
    running.map(seat).collect()
}

/// The usage of one app.
pub struct Usage {
    spec: Mesos,
    agents: Arc<Agents>,
    seats: watch::Receiver<Seats>,
    samples: Mutex<Samples>,
}

impl Usage {
    #[must_use]
    pub fn new(spec: &Mesos, agents: Arc<Agents>, seats: watch::Receiver<Seats>) -> Self {
        Self { spec: spec.clone(), agents, seats, samples: Mutex::default() }
    }

    /// What is known now; `None` if that takes one more look.
    async fn look(&self) -> Result<Option<f64>, String> {
        let seats = self.seats.borrow().clone();
        if seats.is_empty() {
            return Err("no task of the app runs, so that there is nothing to measure".to_owned());
        }
        if seats.iter().any(|seat| seat.pooled) {
            return Err("what pooled tasks use is not known, as they share a container: use launch: isolated".to_owned());
        }
        let agents: BTreeSet<&Arc<str>> = seats.iter().map(|seat| &seat.agent).collect();
        let readings = agents.into_iter().map(|agent| async move { Ok::<_, String>((agent, self.read(agent).await?)) });
        let readings: HashMap<&Arc<str>, Arc<Containers>> = try_join_all(readings).await?.into_iter().collect();
        let found = seats.iter().filter_map(|seat| Some((seat, readings.get(&seat.agent)?.get(&seat.task)?)));
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.take(found.map(|(seat, statistics)| (seat.task.clone(), seat.asked, *statistics)));
        samples.measure(self.spec.resource, self.spec.unit)
    }

    async fn read(&self, agent: &Arc<str>) -> Result<Arc<Containers>, String> {
        self.agents.containers(agent).await.map_err(|error| error.to_string())
    }
}

impl Query for Usage {
    async fn ask(&self) -> Result<f64, String> {
        if let Some(value) = self.look().await? {
            return Ok(value);
        }
        // A rate takes two looks.
        sleep(FRESH).await;
        self.look().await?.ok_or_else(|| "the agents have not measured its tasks twice yet".to_owned())
    }
}
