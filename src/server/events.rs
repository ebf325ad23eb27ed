//! /v1/events: what happens in all pools, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::future::{FutureExt as _, select_all};
use futures::stream::{Stream, StreamExt as _, unfold};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Shared;
use super::error::ApiError;
use super::objects::List;
use super::pools::{Pools, Serial};
use crate::engine::report::Event;

/// Proxies and clients give up on a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Whose events are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// `namespace/name` of an app.
    app: Option<String>,
}

pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(filter) = query?;
    let follower = Follower::new(shared.state.pools.clone(), filter.app);
    let events = unfold(follower, |mut follower| async move { Some((follower.next().await, follower)) });
    Ok(sse(events, &shared))
}

/// The last events of all pools as a list, oldest first.
pub(super) async fn recent(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<List<Event>>, ApiError> {
    let Query(filter) = query?;
    let mut events: Vec<Event> = shared.state.pools.list().iter().flat_map(|handle| handle.journal.recent()).collect();
    events.retain(|event| filter.app.is_none() || filter.app == event.app);
    events.sort_by_key(|event| event.at);
    Ok(Json(List::new("EventList", events, Vec::new())))
}

/// A response that streams until the server ends.
pub(super) fn sse<S>(events: S, shared: &Shared) -> impl IntoResponse + use<S>
where
    S: Stream<Item = Sent> + Send + 'static,
{
    let events = events.map(Ok::<_, Infallible>).take_until(shared.closing.clone().cancelled_owned());
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"))
}

/// Follows the events of all pools, of those to come as well.
struct Follower {
    pools: Arc<Pools>,
    changes: watch::Receiver<Serial>,
    members: Vec<(Serial, Receiver<Event>)>,
    app: Option<String>,
}

impl Follower {
    /// Nothing that happens after this returns is missed.
    fn new(pools: Arc<Pools>, app: Option<String>) -> Self {
        let mut follower = Self { changes: pools.changes(), pools, members: Vec::new(), app };
        follower.join();
        follower
    }

    /// Subscribes to pools that are new. Those that are gone leave when their last event has been read.
    fn join(&mut self) {
        for (serial, handle) in self.pools.numbered() {
            if self.members.iter().all(|(known, _)| *known != serial) {
                self.members.push((serial, handle.events.subscribe()));
            }
        }
    }

    async fn next(&mut self) -> Sent {
        loop {
            let Some((received, index)) = self.received().await else {
                self.join();
                continue;
            };
            // The next look begins with the next pool, so that a busy one does not drown the others.
            self.members.rotate_left(index + 1);
            match received {
                Ok(event) if self.is_wanted(&event) => return sent(&event),
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => return dropped(count),
                Err(RecvError::Closed) => drop(self.members.pop()),
            }
        }
    }

    /// What came from which member; `None` when pools came or went.
    async fn received(&mut self) -> Option<(Result<Event, RecvError>, usize)> {
        if self.members.is_empty() {
            // Fails only without a sender, and that is in `pools`.
            let _ = self.changes.changed().await;
            return None;
        }
        let any = select_all(self.members.iter_mut().map(|(_, events)| events.recv().boxed()));
        tokio::select! {
            (received, index, _) = any => Some((received, index)),
            _ = self.changes.changed() => None,
        }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        self.app.is_none() || self.app == event.app
    }
}

fn sent(event: &Event) -> Sent {
    // A line break would end the field, and the reason is one word by definition.
    let reason: String = event.reason.chars().filter(char::is_ascii_alphanumeric).collect();
    let data = serde_json::to_string(event).unwrap_or_default();
    Sent::default().event(reason).data(data)
}

fn dropped(count: u64) -> Sent {
    Sent::default().event("dropped").data(json!({"dropped": count}).to_string())
}
