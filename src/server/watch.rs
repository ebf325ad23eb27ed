//! /v1/watch: the whole state, sent anew whenever it changes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::Event as Sent;
use futures::future::{FutureExt as _, select_all};
use futures::stream::unfold;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::Shared;
use super::events::sse;
use super::objects::{List, app_list, pool_list};
use super::pools::{Pools, Serial};
use crate::api::{MicroscaledApp, MicroscalingPool};
use crate::engine::report::Report;

/// Reports change with each decision, and no eye can follow that.
const GAP: Duration = Duration::from_millis(30);

/// The state of everything at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    pub apps: List<MicroscaledApp>,
    pub pools: List<MicroscalingPool>,
}

impl Snapshot {
    /// The newest reports of all pools.
    #[must_use]
    pub fn new(pools: &Pools) -> Self {
        Self { apps: app_list(pools, None), pools: pool_list(pools, None) }
    }
}

pub(super) async fn stream(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let watcher = Watcher::new(shared.state.pools.clone());
    let snapshots = unfold(watcher, |mut watcher| async move { Some((watcher.next().await, watcher)) });
    sse(snapshots, &shared)
}

/// Waits for changes of any report. Changes that come faster than a client reads become one.
struct Watcher {
    pools: Arc<Pools>,
    changes: watch::Receiver<Serial>,
    members: Vec<(Serial, watch::Receiver<Arc<Report>>)>,
    /// Runs from the last snapshot on; `None` before the first one.
    gap: Option<Pin<Box<Sleep>>>,
}

impl Watcher {
    fn new(pools: Arc<Pools>) -> Self {
        Self { changes: pools.changes(), pools, members: Vec::new(), gap: None }
    }

    async fn next(&mut self) -> Sent {
        if let Some(gap) = self.gap.take() {
            gap.await;
            self.changed().await;
        }
        self.see_all();
        let snapshot = Snapshot::new(&self.pools);
        self.gap = Some(Box::pin(sleep(GAP)));
        Sent::default().event("snapshot").data(serde_json::to_string(&snapshot).unwrap_or_default())
    }

    async fn changed(&mut self) {
        while !self.members.is_empty() {
            let any = select_all(self.members.iter_mut().map(|(_, reports)| reports.changed().boxed()));
            let (ended, index) = tokio::select! {
                (seen, index, _) = any => (seen.is_err(), index),
                _ = self.changes.changed() => return,
            };
            if !ended {
                return;
            }
            // The engine is gone; the pool itself may stay in the list for a moment longer.
            self.members.swap_remove(index);
        }
        let _ = self.changes.changed().await;
    }

    /// Takes note of what the next snapshot will show at least.
    fn see_all(&mut self) {
        self.changes.borrow_and_update();
        let numbered = self.pools.numbered();
        self.members.retain(|(known, _)| numbered.iter().any(|(serial, _)| serial == known));
        for (serial, handle) in numbered {
            let ended = handle.reports.has_changed().is_err();
            if !ended && self.members.iter().all(|(known, _)| *known != serial) {
                self.members.push((serial, handle.reports));
            }
        }
        for (_, reports) in &mut self.members {
            reports.borrow_and_update();
        }
    }
}
