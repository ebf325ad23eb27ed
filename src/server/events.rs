//! /v1/events: what happens in all pools, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::stream::{Stream, StreamExt as _, unfold};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::error::ApiError;
use super::listener::{Heard, Listener};
use super::objects::List;
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
    let listener = Listener::new(shared.state.pools.clone());
    let events = unfold((listener, filter.app), |(mut listener, app)| async move {
        Some((next(&mut listener, app.as_ref()).await, (listener, app)))
    });
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

/// The next event that is wanted.
async fn next(listener: &mut Listener, app: Option<&String>) -> Sent {
    loop {
        match listener.next().await {
            Heard::Event(event) if app.is_none_or(|app| event.app.as_ref() == Some(app)) => return sent(&event),
            Heard::Event(_) => {}
            Heard::Missed(count) => return dropped(count),
        }
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
