//! What an engine tells the rest of the program: its newest state, its events, and answers to questions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::clock;
use super::preparations::Shown;
use crate::api::status::{AppStatus, DemandStatus, PoolStatus};
use crate::api::validated::Key;
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::backend::Standing;
use crate::policy::world::{Millis, TaskPhase};

/// The state of one pool and its apps, as last published.
#[derive(Clone, Debug)]
pub struct Report {
    pub pool: Arc<MicroscalingPool>,
    pub status: PoolStatus,
    pub standing: Standing,
    /// In order of their keys.
    pub apps: Vec<AppReport>,
    /// Apps that are gone from the specs, or have moved to another pool, with how many of their tasks have not ended here.
    pub leaving: BTreeMap<Key, usize>,
    /// Executors that have not ended; `None` while there may be some of which nothing is known.
    pub executors: Option<usize>,
    /// Specs that could not be taken over, with file, line and field: they are in force as last good, or not at all.
    pub problems: Vec<String>,
}

/// An app's spec in force and its status. Serialized as the `MicroscaledApp` that kubectl would show.
#[derive(Clone, Debug)]
pub struct AppReport {
    pub key: Key,
    pub spec: Arc<MicroscaledApp>,
    /// How that stands which its replicas build on, as the status says it.
    pub bases: Option<Arc<Shown>>,
    /// With the ages that values had at `at`; the same as in the last report if nothing has changed.
    pub status: Arc<AppStatus>,
    pub at: Millis,
}

impl AppReport {
    /// The object with its status.
    #[must_use]
    pub fn object(&self) -> MicroscaledApp {
        let mut status = AppStatus::clone(&self.status);
        status.demand.iter_mut().for_each(|metric| metric.age_milliseconds = self.age(metric));
        MicroscaledApp { status: Some(status), ..(*self.spec).clone() }
    }

    /// How old the value of this metric is by now, in milliseconds.
    #[must_use]
    pub fn age(&self, metric: &DemandStatus) -> Option<i64> {
        let since = clock::now().saturating_sub(self.at);
        Some(metric.age_milliseconds?.saturating_add_unsigned(since))
    }
}

impl Report {
    /// The pool with its status.
    #[must_use]
    pub fn pool_object(&self) -> MicroscalingPool {
        MicroscalingPool { status: Some(self.status.clone()), ..(*self.pool).clone() }
    }
}

/// A task as `microscaler get tasks` shows it.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    pub id: String,
    pub namespace: String,
    pub app: String,
    pub pool: String,
    pub version: Option<String>,
    pub agent: String,
    pub host: String,
    pub phase: TaskPhase,
    pub ready: bool,
    pub age_milliseconds: u64,
}

/// Something that happened, for people: shown by `describe`, streamed at /v1/events.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub at: jiff::Timestamp,
    pub pool: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Normal or Warning, as in Kubernetes.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// One CamelCase word: ScaledUp, GaveWay, CrashLoop, BadSpec, Disconnected …
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum EventKind {
    Normal,
    Warning,
}

/// The last events of a pool, for those who come to look afterwards.
#[derive(Debug, Default)]
pub struct Journal(Mutex<VecDeque<Event>>);

impl Journal {
    /// Enough to see what led to the present state of a pool of some dozens of apps.
    const KEPT: usize = 500;

    /// Notes an event; the oldest goes when there are too many.
    pub fn note(&self, event: Event) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == Self::KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// Oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A question to the owner of a pool.
pub enum Ask {
    Tasks(oneshot::Sender<Vec<TaskReport>>),
    /// End every task of the pool and start none; answers how many tasks and executors are left.
    Drain(oneshot::Sender<usize>),
}

/// The rest of the program's end of one engine.
#[derive(Clone)]
pub struct Handle {
    pub pool: Key,
    pub reports: watch::Receiver<Arc<Report>>,
    pub events: broadcast::Sender<Event>,
    pub journal: Arc<Journal>,
    pub asks: mpsc::Sender<Ask>,
}
