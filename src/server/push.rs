//! POST /v1/demand/{namespace}/{app}/{metric}: one value, or a stream of lines that take effect one by one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Shared, access};
use crate::demand::http::number_at;
use crate::demand::{PushDesk, PushError};
use crate::engine::clock;

/// A line, or a body that is not a stream, in bytes.
const LIMIT: usize = 4096;
/// So much of what was got instead of a number is shown.
const SHOWN: usize = 60;

pub(super) async fn push(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let accepted = async {
        access::check(shared.state.push_token.as_deref(), peer.ip(), &headers)?;
        let Path((namespace, app, metric)) = path?;
        let mut target = Target { desk: &shared.state.desk, namespace, app, metric, accepted: 0 };
        // Nobody should stream for hours into nowhere.
        target.desk.check(&target.namespace, &target.app, &target.metric)?;
        let end = if is_stream(&headers) { stream(&mut target, body, &shared).await } else { single(&mut target, body).await };
        end.map(|()| target.accepted)
    };
    match accepted.await {
        Ok(accepted) => Ok(Json(json!({"accepted": accepted}))),
        Err(error) => {
            shared.state.metrics.push_error();
            Err(error)
        }
    }
}

/// The metric that is pushed to.
struct Target<'a> {
    desk: &'a PushDesk,
    namespace: String,
    app: String,
    metric: String,
    accepted: u64,
}

impl Target<'_> {
    /// Puts a number, as text or as `{"value": 200}`, on the board.
    fn post(&mut self, text: &[u8]) -> Result<(), ApiError> {
        let value = number(text).map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error))?;
        let posted: Result<(), PushError> = self.desk.push(&self.namespace, &self.app, &self.metric, value, clock::instant());
        posted?;
        self.accepted += 1;
        Ok(())
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/x-ndjson", "application/ndjson", "application/jsonl"].iter().any(|stream| kind.eq_ignore_ascii_case(stream))
}

async fn single(target: &mut Target<'_>, body: Body) -> Result<(), ApiError> {
    let mut text = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.map_err(|error| broken(&error))?);
        if text.len() > LIMIT {
            return Err(too_large("the body", "send a stream of lines as application/x-ndjson"));
        }
    }
    target.post(&text)
}

/// Each line takes effect as soon as its end has arrived.
async fn stream(target: &mut Target<'_>, body: Body, shared: &Shared) -> Result<(), ApiError> {
    let mut lines = Lines::default();
    let mut chunks = body.into_data_stream();
    let end = async {
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                () = shared.closing.cancelled() => {
                    return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server is ending"));
                }
            };
            match chunk {
                Some(chunk) => lines.take(&chunk.map_err(|error| broken(&error))?, target)?,
                None => return lines.finish(target),
            }
        }
    };
    let end: Result<(), ApiError> = end.await;
    end.map_err(|error| ApiError { accepted: Some(target.accepted), ..error })
}

/// Cuts chunks into lines.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not arrived yet.
    rest: Vec<u8>,
    count: u64,
}

impl Lines {
    fn take(&mut self, chunk: &Bytes, target: &mut Target<'_>) -> Result<(), ApiError> {
        let mut pieces = chunk.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.rest.len() + piece.len() > LIMIT {
                return Err(too_large(&format!("line {}", self.count + 1), "a number needs less"));
            }
            self.rest.extend_from_slice(piece);
            // The last piece has no end yet.
            if pieces.peek().is_some() {
                self.post(target)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, target: &mut Target<'_>) -> Result<(), ApiError> {
        self.post(target)
    }

    fn post(&mut self, target: &mut Target<'_>) -> Result<(), ApiError> {
        self.count += 1;
        let line = std::mem::take(&mut self.rest);
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let count = self.count;
        target.post(&line).map_err(|error| ApiError { message: format!("line {count}: {}", error.message), ..error })
    }
}

/// A number as text or as JSON, alone or as the field `value` of an object.
fn number(text: &[u8]) -> Result<f64, String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    let found = match serde_json::from_str::<Value>(text) {
        Ok(document) => number_at(&document, if document.is_object() { "/value" } else { "" }).ok(),
        Err(_) => text.parse().ok(),
    };
    let instead = || {
        let got = if text.is_empty() { "nothing".to_owned() } else { text.chars().take(SHOWN).collect() };
        format!("a number or {{\"value\": 200}} is needed, got: {got}")
    };
    found.ok_or_else(instead)
}

fn too_large(what: &str, hint: &str) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("{what} is longer than {LIMIT} bytes; {hint}"))
}

fn broken(error: &axum::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_many_ways() {
        for text in ["200", " 200\n", "2e2", "+200", "200.0", "\"200\"", r#"{"value": 200}"#, r#"{"value": "200", "unit": "ms"}"#]
        {
            assert_eq!(number(text.as_bytes()), Ok(200.0), "{text}");
        }
    }

    #[test]
    fn anything_else_is_named() {
        for text in ["abc", "{}", r#"{"valeu": 1}"#, "[1]", "null", "1 2", "true"] {
            assert_eq!(number(text.as_bytes()), Err(format!("a number or {{\"value\": 200}} is needed, got: {text}")));
        }
        assert_eq!(number(b" \n"), Err("a number or {\"value\": 200} is needed, got: nothing".to_owned()));
    }
}
