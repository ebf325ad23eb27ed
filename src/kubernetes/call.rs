//! Requests to the API server, and what became of those that failed.

use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, Request};
use kube::client::{Body, Client};
use serde_json::Value;
use tokio::time::timeout;

use crate::engine::clock;
use crate::policy::world::Millis;

/// Far longer than an API server in order takes; a client of kube's own has no limit.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a request did not do what it was to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

/// What there is to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server cannot be reached, has no time, or does not answer: all requests have to wait, for as long as it says.
    Busy { retry_after: Option<Duration> },
    /// The server failed at this request; it may fail at others.
    Broken,
    /// The object is no longer what it was.
    Conflict,
    /// The object does not exist.
    Missing,
    /// The object would become too large to be stored.
    TooLarge,
    /// The same request will fail again: forbidden, or not valid.
    Refused,
}

impl Kind {
    /// Whether all requests have to wait; and for how long at least, if the server says so.
    #[must_use]
    #[allow(clippy::option_option, reason = "whether, and how long")]
    pub fn pause(self) -> Option<Option<Millis>> {
        match self {
            Self::Busy { retry_after } => Some(retry_after.map(clock::whole_ms)),
            // What fails for one object may fail for all.
            Self::Broken => Some(None),
            _ => None,
        }
    }
}

/// The object that the server answers with.
///
/// # Errors
/// When it does not do what it was asked, or does not answer within 5 s. What it was asked may be done nevertheless.
pub async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<Value, Failure> {
    match timeout(PATIENCE, exchange(client, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure { kind: Kind::Busy { retry_after: None }, message: format!("no answer within {PATIENCE:?}") }),
    }
}

async fn exchange(client: &Client, request: Request<Vec<u8>>) -> Result<Value, Failure> {
    let response = client.send(request.map(Body::from)).await.map_err(|error| unreachable(&error))?;
    let (head, body) = response.into_parts();
    let body = body.collect_bytes().await.map_err(|error| unreachable(&error))?;
    let value = serde_json::from_slice(&body);
    if head.status.is_success() {
        return value.map_err(|error| Failure { kind: Kind::Broken, message: format!("the answer cannot be read: {error}") });
    }
    // Those who answer in place of the server, and its own limit of requests, do so in plain text.
    let message = value.ok().as_ref().and_then(|status: &Value| status["message"].as_str()).map(str::to_owned);
    let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    let code = head.status.as_u16();
    Err(Failure { kind: kind(code, &message, &head.headers), message: format!("{message} ({code})") })
}

fn unreachable(error: &kube::Error) -> Failure {
    Failure { kind: Kind::Busy { retry_after: None }, message: super::causes(error) }
}

fn kind(code: u16, message: &str, headers: &HeaderMap) -> Kind {
    // In etcd's own words, which come with a 500.
    if code == 413 || message.contains("request is too large") {
        return Kind::TooLarge;
    }
    match code {
        // Its authentication may depend on something that is away, and tokens are renewed.
        401 | 408 | 429 | 503 | 504 => Kind::Busy { retry_after: retry_after(headers) },
        404 | 410 => Kind::Missing,
        409 => Kind::Conflict,
        500.. => Kind::Broken,
        _ => Kind::Refused,
    }
}

/// Seconds; the form with a date is not used by API servers.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_follows_from_the_answer() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "3".parse().unwrap())]);
        let kind = |code, message| kind(code, message, &headers);
        assert_eq!(kind(429, "Too many requests"), Kind::Busy { retry_after: Some(Duration::from_secs(3)) });
        assert_eq!(kind(500, "etcdserver: request is too large"), Kind::TooLarge);
        assert_eq!(kind(500, "failed calling webhook"), Kind::Broken);
        assert_eq!(kind(422, "invalid"), Kind::Refused);
        assert_eq!(kind(403, "forbidden"), Kind::Refused);
        assert_eq!((kind(404, ""), kind(409, "")), (Kind::Missing, Kind::Conflict));
    }
}
