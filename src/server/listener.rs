//! Follows the events of all engines, of those to come as well: for streams of this server, and for the events of Kubernetes.

use std::sync::Arc;

use futures::future::{FutureExt as _, select_all};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;

use super::pools::{Pools, Serial};
use crate::engine::report::Event;

/// Follows the events of all engines.
pub struct Listener {
    pools: Arc<Pools>,
    changes: watch::Receiver<Serial>,
    members: Vec<(Serial, broadcast::Receiver<Event>)>,
}

/// What a [`Listener`] has heard.
#[derive(Debug)]
pub enum Heard {
    Event(Event),
    /// So many have passed unheard.
    Missed(u64),
}

impl Listener {
    /// Nothing that happens after this returns goes unheard, but what comes faster than it is listened to.
    #[must_use]
    pub fn new(pools: Arc<Pools>) -> Self {
        let mut listener = Self { changes: pools.changes(), pools, members: Vec::new() };
        listener.join();
        listener
    }

    /// Subscribes to engines that are new. Those that are gone leave when their last event has been read.
    fn join(&mut self) {
        for (serial, handle) in self.pools.numbered() {
            if self.members.iter().all(|(known, _)| *known != serial) {
                self.members.push((serial, handle.events.subscribe()));
            }
        }
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Heard {
        loop {
            let Some((received, index)) = self.received().await else {
                self.join();
                continue;
            };
            // The next look begins with the next engine, so that a busy one does not drown the others.
            self.members.rotate_left(index + 1);
            match received {
                Ok(event) => return Heard::Event(event),
                Err(RecvError::Lagged(count)) => return Heard::Missed(count),
                Err(RecvError::Closed) => drop(self.members.pop()),
            }
        }
    }

    /// What came from which engine; `None`: engines came or went.
    async fn received(&mut self) -> Option<(Result<Event, RecvError>, usize)> {
        let never = std::future::pending().boxed();
        let any = self.members.iter_mut().map(|(_, events)| events.recv().boxed()).chain([never]);
        tokio::select! {
            (received, index, _) = select_all(any) => Some((received, index)),
            // Fails only without a sender, and that is in `pools`.
            _ = self.changes.changed() => None,
        }
    }
}
